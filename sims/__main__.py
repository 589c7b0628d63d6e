"""python -m sims: test claims against simulation, or one of the commands of `sims.cli`."""

from __future__ import annotations

import inspect
import pathlib
import sys
from typing import TYPE_CHECKING, Annotated

import tyro

from sims.cli.commands import explore, parse_axes, rare, train_grid, validate
from sims.cli.frame import CONTRADICTED, progress_bar, run
from sims.cli.waterbirds import waterbirds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr

    from sims.sweep.plan import Shard


def check(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    trials: int = 100_000,
    until: float | None = None,
    seed: int = 0,
    grid: tuple[str, ...] = (),
    shard: str = "1/1",
    level: float = 1e-3,
    out: pathlib.Path = pathlib.Path("results"),
    merge: tuple[pathlib.Path, ...] = (),
    self_test: Annotated[bool, tyro.conf.arg(name="self-test")] = False,
    host: str = "1/1",
    coordinator: str = "",
    patience: int = 60,
) -> int:
    """Test claims by simulation: sample, perturb, classify, count, compare.

    Exit status: 0 every claim agrees; 1 one is contradicted or has no verdict; 2 bad input; 3 a
    host was lost. A killed run goes on where it was when the same command is given again.
    `python -m sims train-grid --help` describes the training of linear models,
    `python -m sims validate --help` the check of the noise itself, `python -m sims rare --help`
    the test of risks too small to count, `python -m sims waterbirds --help` errors by group of
    synthetic Waterbirds, `python -m sims explore --help` a quick look that is not evidence.

    Args:
        names: claims to test (`python -m theory` lists them); all of them if none is named
        trials: points of each class at each grid point
        until: instead of --trials, go on until every interval is at most this wide
        seed: seed of all draws, in [0, 2^32)
        grid: axis=low:high:count or axis=value,value,...; repeatable for several axes
        shard: i/n counts only the i-th of n shares of the grid; --merge joins the files
        level: chance that any interval of the whole run misses its risk
        out: folder of the result files, NAME.nc
        merge: files of all the shards of one claim, joined into OUT/NAME.nc
        self_test: plant wrong formulas and see every one rejected
        host: i/n makes this the i-th of n processes that count together; host 1 reads, writes and
            reports
        coordinator: name:port of host 1, the same on all hosts
        patience: seconds after which a host that did not come, or is silent, is given up
    """
    from sims.stats.interval import require_level
    from sims.sweep.plan import Shard

    this_host = Shard.parse(host, "host")
    require_level(level)
    mode = "self-test" if self_test else "merge" if merge else ""
    if mode:
        _require_alone(mode, locals())

    def action() -> int:
        return _check(names, trials, until, seed, grid, shard, level, out)

    if this_host.total > 1 or coordinator:
        from sims.sweep import hosts

        return hosts.together(this_host, coordinator, patience, action)
    if self_test:
        return _self_test(level)
    if merge:
        return _merge(merge, out, level)
    return action()


def _require_alone(mode: str, given: Mapping[str, object]) -> None:
    """Raises InvalidInput if a self-test or a merge is given what it would ignore.

    Args:
        mode: self-test or merge.
        given: the arguments of `check` by name.
    """
    from theory.domain import InvalidInput

    if given["host"] != "1/1" or given["coordinator"]:
        raise InvalidInput(
            f"host = {given['host']}: the self-test and merging take one process only"
        )
    heard = {"self-test": ("self_test", "level"), "merge": ("merge", "level", "out")}[mode]
    for name, parameter in inspect.signature(check).parameters.items():
        if name not in heard and given[name] != parameter.default:
            option = "claims" if name == "names" else f"--{name.replace('_', '-')}"
            raise InvalidInput(
                f"{mode}: {option} has no effect on it; it takes "
                f"{' and '.join(f'--{other}' for other in heard[1:])} alone"
            )


def _check(
    names: tuple[str, ...],
    trials: int,
    until: float | None,
    seed: int,
    grid: tuple[str, ...],
    shard: str,
    level: float,
    out: pathlib.Path,
) -> int:
    from sims.sweep import hosts
    from sims.sweep import run as sweep_run
    from sims.sweep.plan import Shard, make_plan
    from theory.claims.registry import find, registered

    claims = [find(name) for name in (names or registered())]
    axes = parse_axes(grid)
    share = Shard.parse(shard)
    plans = [make_plan(c, axes, trials=trials, until=until, seed=seed, shard=share) for c in claims]
    # All of them before the first draw, so that bad input is never found after hours.
    prepared = [
        sweep_run.prepare_sweep(
            plan, level=level / len(plans), path=out / _file_name(plan.claim.name, share)
        )
        for plan in plans
    ]
    status = 0
    with progress_bar() as add:
        for each in prepared:
            dataset = sweep_run.run(each, progress=add(each.plan.claim.name))
            status |= _report(dataset, aloud=hosts.first())
    return status


def _file_name(claim: str, shard: Shard) -> str:
    whole = shard.total == 1
    return f"{claim}.nc" if whole else f"{claim}.shard-{shard.number}-of-{shard.total}.nc"


def _report(dataset: xr.Dataset, aloud: bool = True) -> int:
    from sims.sweep.verdict import summarise

    summary = summarise(dataset)
    if aloud:
        print(f"{summary.claim}: {summary.text}", flush=True)
    return 0 if summary.agrees else CONTRADICTED


def _merge(paths: tuple[pathlib.Path, ...], out: pathlib.Path, level: float) -> int:
    from sims import files
    from sims.sweep import file as sweep_file
    from sims.sweep import verdict
    from sims.sweep.plan import Shard
    from theory.claims.registry import find

    merged = sweep_file.merge(paths)
    claim = find(merged.claim)
    files.require_writable(out)
    target = out / _file_name(claim.name, Shard())
    if target.exists():
        sweep_file.require_same(target, sweep_file.load(target), merged)
    judged = verdict.judge(merged, claim, level)
    files.save(judged, target)
    return _report(judged)


def _self_test(level: float) -> int:
    from sims.sweep.self_test import self_test

    with progress_bar() as add:
        outcomes = self_test(level, add("self-test"))
    for outcome in outcomes:
        result = "rejected" if outcome.rejected else "not rejected"
        mark = "ok  " if outcome.passed else "FAIL"
        print(f"{mark} {outcome.claim}: {outcome.planted or 'true formula'}: {result}")
    failures = sum(not outcome.passed for outcome in outcomes)
    print(f"{len(outcomes) - failures} of {len(outcomes)} formulas were judged rightly")
    return CONTRADICTED if failures else 0


# Commands by their first word; without one of them, claims are tested.
COMMANDS: dict[str, Callable[..., int]] = {
    "train-grid": train_grid,
    "rare": rare,
    "validate": validate,
    "explore": explore,
    "waterbirds": waterbirds,
}


def main() -> None:
    """Runs the command that the first word names, otherwise a test of claims."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        again = "the same command starts anew"
        run(COMMANDS[word], f"python -m sims {word}", sys.argv[2:], again)
    run(check, "python -m sims")


if __name__ == "__main__":
    main()
