"""Counts of a claim on a grid of its parameters, chunk by chunk, with a verdict."""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
import xarray as xr

from sims import files
from sims.simulate import by_problem
from sims.stats import interval
from sims.sweep import devices as machine
from sims.sweep import file as sweep_file
from sims.sweep import hosts, verdict
from sims.sweep.plan import CHUNK, Shard, SweepPlan, make_plan
from sims.sweep.single_precision import require_simulable
from theory.claims import evaluate
from theory.claims.claim import Claim

Progress = Callable[[float], None]


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
    rest of the grid, the chunks, the shards, the devices or the hosts, nor on whether the run was
    resumed. Within `hosts.together` all hosts call this, and host 1 alone reads and writes `path`.

    Args:
        claim: what to test.
        grid: values for some axes; the others keep their default grid.
        trials: points of each class at each grid point.
        until: instead of a fixed budget, go on at each point until the confidence sequences of
            its class risks are at most this wide, in (0, 1).
        seed: in [0, 2^32).
        shard: count only this share of the points.
        chunk: points of each class between two saves, a multiple of `two_classes.BLOCK`.
        level: chance that any interval of the sweep misses its risk.
        path: result file to write after each chunk, and to resume from if it exists.
        progress: called after each chunk with the share done, in [0, 1].
        devices: where to count, in turn; all devices of all hosts if None.

    Returns:
        `errors`, `nonfinite`, `trials` (*axes, label) as int64, or for squared risks `losses`,
        `residuals`, `responses` as float64 instead of `errors`; `theory`, `estimate`, `low`,
        `high`, `detectable`, `fails`, `refuted`, `verdict` (*axes, component); `weights`
        (*axes, component, label).

    Raises:
        InvalidInput: for bad arguments, hosts that differ in them, or a file that is unreadable or
            of another sweep: before any computation, leaving the file as it is.
    """
    plan = make_plan(claim, grid, trials=trials, until=until, seed=seed, chunk=chunk, shard=shard)
    prepared = prepare_sweep(plan, level=level, path=path)
    return run(prepared, progress=progress, devices=devices)


class PreparedSweep(NamedTuple):
    """A sweep that nothing but an interruption keeps from being run.

    Args:
        plan: what is counted.
        dataset: the totals to go on from, and the closed form.
        level: chance that any interval of the sweep misses its risk.
        path: the result file, or None.
    """

    plan: SweepPlan
    dataset: xr.Dataset
    level: float
    path: pathlib.Path | None


def prepare_sweep(
    plan: SweepPlan, *, level: float = 1e-3, path: pathlib.Path | None = None
) -> PreparedSweep:
    """Returns what `run` counts, once all that can be refused has been looked at.

    Who has many sweeps prepares all of them before the first is run.

    Args:
        plan: by `make_plan`.
        level: chance that any interval of the sweep misses its risk.
        path: result file to write after each chunk, and to resume from if it exists.

    Raises:
        InvalidInput: for a bad level, what float32 does not hold, a folder that cannot be written
            to, or a file that is unreadable or of another sweep, which is left as it is.
    """
    interval.require_level(level)
    require_simulable(plan.claim, plan.points)
    if path is None or not hosts.first():
        return PreparedSweep(plan, sweep_file.empty(plan), level, None)
    if not path.exists():
        files.require_writable(path.parent)
    dataset = sweep_file.resume(path, plan)
    # What is complete needs no room, on a full disk either.
    if _pending(plan, dataset, level).size:
        files.require_writable(path.parent)
    return PreparedSweep(plan, dataset, level, path)


def run(
    prepared: PreparedSweep,
    *,
    progress: Progress | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> xr.Dataset:
    """Returns the counts of a prepared sweep with their verdicts: see `sweep`.

    Args:
        prepared: by `prepare_sweep`; it is not changed.
        progress: called after each chunk with the share done, in [0, 1].
        devices: where to count, in turn; all devices of all hosts if None.

    Raises:
        InvalidInput: if hosts differ in what they prepared.
    """
    plan, dataset, level, path = prepared
    dataset, devices = dataset.copy(deep=True), devices or jax.devices()
    _agree(plan, dataset, level, devices)
    work = _work(plan)
    judged = None
    while (pending := _pending(plan, dataset, level)).size:
        _count_chunk(plan, work, dataset, pending, devices)
        # Saved with its verdict after each chunk, so that a killed run loses the chunk in hand.
        judged = _judge(dataset, plan.claim, level, path)
        if progress is not None:
            progress(_share_done(plan, dataset, level))
    return _judge_complete(dataset, plan.claim, level, path) if judged is None else judged


def _agree(
    plan: SweepPlan, dataset: xr.Dataset, level: float, devices: Sequence[jax.Device]
) -> None:
    """Gives all hosts the totals of host 1, if they are about the same sweep."""
    problems = jax.tree.leaves(evaluate.problems(plan.claim, plan.points))
    # The problems too, bit for bit: another library may round them another way.
    simulated = b"".join(np.float32(values).tobytes() for values in problems)
    values = {name: column.tolist() for name, column in plan.grid.items()}
    kinds = sorted({device.device_kind for device in devices})
    settings = plan.identity() | {"grid": values, "level": level, "devices": kinds}
    hosts.require_equal(settings | {"problems": hashlib.sha256(simulated).hexdigest()})
    for name in sweep_file.totals(dataset):
        totals = dataset[name].values
        totals[...] = np.frombuffer(hosts.exchange(totals.tobytes())[0], totals.dtype).reshape(
            totals.shape
        )


def _judge(
    dataset: xr.Dataset, claim: Claim, level: float, path: pathlib.Path | None
) -> xr.Dataset:
    """Returns the dataset with its verdicts, saved if there is a file to save it to."""
    judged = verdict.judge(dataset, claim, level)
    if path is not None:
        files.save(judged, path)
    return judged


def _judge_complete(
    dataset: xr.Dataset, claim: Claim, level: float, path: pathlib.Path | None
) -> xr.Dataset:
    """Returns the dataset of a complete file with its verdicts; saved where they are others."""
    judged = _judge(dataset, claim, level, None)
    # It may have been judged at another level, or carry no digest yet.
    if path is not None:
        saved = files.read(path) if path.exists() else xr.Dataset()
        if not (saved.encoding.get("verified") and saved.identical(judged)):
            files.save(judged, path)
    return judged


def _count_chunk(
    plan: SweepPlan,
    work: Callable[[int], machine.Work],
    dataset: xr.Dataset,
    pending: np.ndarray,
    devices: Sequence[jax.Device],
) -> None:
    """Adds one chunk of trials at each pending point to the counts of the dataset."""
    # Views: what is added to them is added to the dataset.
    flat = {
        name: dataset[name].values.reshape(-1, dataset.sizes["label"])
        for name in sweep_file.totals(dataset)
    }
    done = flat["trials"][:, 0]
    # Fewer points than devices: each point is cut into as many pieces as keep all devices busy.
    most, share = by_problem.trials_per_call(plan.claim.estimand), -(-len(devices) // len(pending))
    pieces = []
    for point, before in zip(pending.tolist(), done[pending].tolist(), strict=True):
        size = plan.chunk if plan.until is not None else min(plan.chunk, plan.trials - before)
        pieces += machine.cut(point, before, size, most, share)
    for piece, counts in zip(pieces, machine.count_all(devices, work, pieces), strict=True):
        for name in counts.dtype.names:
            by_problem.add(flat[name][piece.point], counts[name])
        flat["trials"][piece.point] += piece.trials


def _work(plan: SweepPlan) -> Callable[[int], machine.Work]:
    """Returns what is counted at a point of the plan."""
    # The simulator runs in float32 whatever the session's default, so the same bits come out.
    problems = jax.tree.map(np.float32, evaluate.problems(plan.claim, plan.points))

    @functools.cache
    def at(point: int) -> machine.Work:
        key = np.asarray(jax.random.key_data(plan.key(point)))
        with jax.enable_x64(False):
            problem = by_problem.with_attack_points(
                jax.tree.map(lambda field: field[point], problems)
            )
        return machine.Work(key, jax.tree.map(np.asarray, problem))

    return at


def _widths(plan: SweepPlan, dataset: xr.Dataset, level: float) -> np.ndarray:
    """Returns the width of the widest interval of a risk at each point, (n,)."""
    bounds = by_problem.estimates(plan.claim.estimand, dataset, level).bounds
    widest: np.ndarray = (bounds.high - bounds.low).max(-1).ravel()
    return widest


def _pending(plan: SweepPlan, dataset: xr.Dataset, level: float) -> np.ndarray:
    """Returns the points of this shard that need more trials."""
    mine: np.ndarray = plan.mine
    if plan.until is None:
        return mine[_trials_done(plan, dataset) < plan.trials]
    return mine[_widths(plan, dataset, level)[mine] > plan.until]


def _trials_done(plan: SweepPlan, dataset: xr.Dataset) -> np.ndarray:
    """Returns the trials of each label so far at each point of this shard, (points,)."""
    # All labels of a point are drawn together.
    trials: np.ndarray = dataset["trials"].values.reshape(-1, dataset.sizes["label"])
    return trials[plan.mine, 0]


def _share_done(plan: SweepPlan, dataset: xr.Dataset, level: float) -> float:
    """Returns the share of the work done; with `until`, as the square of the widths predicts."""
    done = _trials_done(plan, dataset)
    if plan.until is None:
        return float(done.sum() / (plan.trials * len(done)))
    # The width of an interval falls like one over the root of the trials.
    needed = done * np.maximum((_widths(plan, dataset, level)[plan.mine] / plan.until) ** 2, 1)
    return float(done.sum() / needed.sum())
