"""Counts of a claim on a grid of its parameters, chunk by chunk, with a verdict."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import xarray as xr

from sims import estimate, interval, regression, results, tally, verdict
from sims.plan import CHUNK, Plan, Shard, make_plan
from theory.claim import Claim

Progress = Callable[[float], None]


@jax.jit
def count(
    key: jax.Array, problem: Any, trials: jax.Array, first_block: jax.Array
) -> estimate.ErrorCounts | regression.SquaredSums:
    """Returns what a range of blocks adds: compiled once for each kind of problem."""
    return tally.tally(problem, key, trials, first_block)


def sweep(
    claim: Claim,
    grid: Mapping[str, Sequence[float]] | None = None,
    *,
    trials: int = 100_000,
    until: float | None = None,
    seed: int = 0,
    shard: Shard | None = None,
    chunk: int = CHUNK,
    level: float = 1e-3,
    path: pathlib.Path | None = None,
    progress: Progress | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> xr.Dataset:
    """Returns the counts of a claim on a grid, with closed form, intervals and verdicts.

    The counts of a point depend on the seed, the claim and the point's values alone: not on the
    rest of the grid, the chunks, the shards or the devices, nor on whether the run was resumed.

    Args:
        claim: what to test.
        grid: values for some axes; the others keep their default grid.
        trials: points of each class at each grid point.
        until: instead of a fixed budget, go on at each point until the confidence sequences of
            its class risks are at most this wide, in (0, 1).
        seed: in [0, 2^32).
        shard: count only this share of the points.
        chunk: points of each class between two saves, a multiple of `estimate.BLOCK`.
        level: chance that any interval of the sweep misses its risk.
        path: result file to write after each chunk, and to resume from if it exists.
        progress: called after each chunk with the share done, in [0, 1].
        devices: where to count, points in turn; all local devices if None.

    Returns:
        `errors`, `nonfinite`, `trials` (*axes, label) as int64, or for squared risks `losses`,
        `residuals`, `responses` as float64 instead of `errors`; `theory`, `estimate`, `low`,
        `high`, `detectable`, `fails`, `refuted`, `verdict` (*axes, component); `weights`
        (*axes, component, label).

    Raises:
        InvalidInput: for bad arguments, or a file that is unreadable or of another sweep: before
            any computation, leaving the file as it is.
    """
    plan = make_plan(claim, grid, trials=trials, until=until, seed=seed, chunk=chunk, shard=shard)
    interval.require_level(level)
    if path is not None:
        results.require_writable(path.parent)
    dataset = results.empty(plan) if path is None else results.resume(path, plan)
    devices = devices or jax.local_devices()
    # The simulator runs in float32 whatever the session's default, so the same bits come out.
    problems = jax.tree.map(np.float32, claim.problems(plan.points))
    judged = None
    while (pending := _pending(plan, dataset, level)).size:
        _count_chunk(plan, problems, dataset, pending, devices)
        judged = _judge(dataset, claim, level, path)
        if progress is not None:
            progress(_share_done(plan, dataset, level))
    # A file that was complete may have been judged at another level.
    return _judge(dataset, claim, level, path) if judged is None else judged


def _judge(
    dataset: xr.Dataset, claim: Claim, level: float, path: pathlib.Path | None
) -> xr.Dataset:
    """Returns the dataset with its verdicts, saved if there is a file to save it to."""
    judged = verdict.judge(dataset, claim, level)
    if path is not None:
        results.save(judged, path)
    return judged


def _count_chunk(
    plan: Plan,
    problems: Any,
    dataset: xr.Dataset,
    pending: np.ndarray,
    devices: Sequence[jax.Device],
) -> None:
    """Adds one chunk of trials at each pending point to the counts of the dataset."""
    flat = {
        name: dataset[name].values.reshape(-1, dataset.sizes["label"])
        for name in results.totals(dataset)
    }
    done = flat["trials"][:, 0]
    # All points are dispatched before the first is fetched, so that devices work side by side.
    with jax.enable_x64(False):
        counts = [
            piece
            for place, point in enumerate(pending)
            for piece in _dispatch(
                plan, problems, point, int(done[point]), devices[place % len(devices)]
            )
        ]
        for point, size, count in counts:
            for name, added in count._asdict().items():
                tally.add(flat[name][point], added)
            flat["trials"][point] += size


def _dispatch(
    plan: Plan, problems: Any, point: int, done: int, device: jax.Device
) -> list[tuple[int, int, estimate.ErrorCounts | regression.SquaredSums]]:
    """Returns point, trials and what they add, for one chunk in as many calls as it takes."""
    size = plan.chunk if plan.until is not None else min(plan.chunk, plan.trials - done)
    problem = jax.tree.map(lambda field: field[point], problems)
    problem = tally.prepared(jax.device_put(problem, device))
    key, most = jax.device_put(plan.key(point), device), tally.most_trials(plan.claim.estimand)
    pieces = []
    for start in range(done, done + size, most):
        trials = min(most, done + size - start)
        blocks = np.uint32(start // estimate.BLOCK)
        arguments: Any = jax.device_put((np.int32(trials), blocks), device)
        pieces.append((point, trials, count(key, problem, *arguments)))
    return pieces


def _widths(plan: Plan, dataset: xr.Dataset, level: float) -> np.ndarray:
    """Returns the width of the widest interval of a risk at each point, (n,)."""
    bounds = tally.estimates(plan.claim.estimand, dataset, level).bounds
    return (bounds.high - bounds.low).max(-1).ravel()


def _pending(plan: Plan, dataset: xr.Dataset, level: float) -> np.ndarray:
    """Returns the points of this shard that need more trials."""
    done = dataset["trials"].values.reshape(-1, dataset.sizes["label"])[plan.mine, 0]
    if plan.until is None:
        return plan.mine[done < plan.trials]
    return plan.mine[_widths(plan, dataset, level)[plan.mine] > plan.until]


def _share_done(plan: Plan, dataset: xr.Dataset, level: float) -> float:
    """Returns the share of the work done; with `until`, as the square of the widths predicts."""
    done = dataset["trials"].values.reshape(-1, dataset.sizes["label"])[plan.mine, 0]
    if plan.until is None:
        return float(done.sum() / (plan.trials * len(done)))
    needed = done * np.maximum((_widths(plan, dataset, level)[plan.mine] / plan.until) ** 2, 1)
    return float(done.sum() / needed.sum())
