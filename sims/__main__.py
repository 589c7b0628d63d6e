"""python -m sims: test claims against simulation, or train a grid of linear models."""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sims.command import CONTRADICTED, progress_bar, run

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

    from sims.plan import Shard


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
) -> int:
    """Test claims by simulation: sample, perturb, classify, count, compare.

    Exit status: 0 every claim agrees; 1 one is contradicted or has no verdict; 2 bad input.
    A killed run goes on where it was when the same command is given again.
    `python -m sims train-grid --help` describes the training of linear models,
    `python -m sims validate --help` the check of the noise itself, `python -m sims rare --help`
    the test of risks too small to count.

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
    """
    if self_test:
        return _self_test(level)
    if merge:
        return _merge(merge, out, level)
    from sims import interval, results
    from sims.plan import Shard, make_plan, parse_grid
    from sims.sweep import sweep
    from theory.claim import find, registered

    claims = [find(name) for name in (names or registered())]
    axes = dict(parse_grid(text) for text in grid)
    share = Shard.parse(shard)
    plans = [make_plan(c, axes, trials=trials, until=until, seed=seed, shard=share) for c in claims]
    interval.require_level(level)
    results.require_writable(out)
    paths = {claim.name: out / _file_name(claim.name, share) for claim in claims}
    for plan in plans:
        results.resume(paths[plan.claim.name], plan)
    status = 0
    with progress_bar() as add:
        for claim in claims:
            dataset = sweep(
                claim,
                axes,
                trials=trials,
                until=until,
                seed=seed,
                shard=share,
                level=level / len(claims),
                path=paths[claim.name],
                progress=add(claim.name),
            )
            status |= _report(dataset)
    return status


def _file_name(claim: str, shard: Shard) -> str:
    whole = shard.total == 1
    return f"{claim}.nc" if whole else f"{claim}.shard-{shard.number}-of-{shard.total}.nc"


def _report(dataset: xr.Dataset) -> int:
    from sims.verdict import summarise

    summary = summarise(dataset)
    print(f"{summary.claim}: {summary.text}", flush=True)
    return 0 if summary.agrees else CONTRADICTED


def _merge(paths: tuple[pathlib.Path, ...], out: pathlib.Path, level: float) -> int:
    from sims import results, verdict
    from sims.plan import Shard
    from theory.claim import find

    merged = results.merge(paths)
    claim = find(merged.claim)
    results.require_writable(out)
    target = out / _file_name(claim.name, Shard())
    if target.exists():
        results.require_same(target, results.load(target), merged)
    judged = verdict.judge(merged, claim, level)
    results.save(judged, target)
    return _report(judged)


def _self_test(level: float) -> int:
    from sims.self_test import self_test

    with progress_bar() as add:
        outcomes = self_test(level, add("self-test"))
    for outcome in outcomes:
        found = "rejected" if outcome.rejected else "not rejected"
        mark = "ok  " if outcome.passed else "FAIL"
        print(f"{mark} {outcome.claim}: {outcome.planted or 'true formula'}: {found}")
    failures = sum(not outcome.passed for outcome in outcomes)
    print(f"{len(outcomes) - failures} of {len(outcomes)} formulas were judged rightly")
    return CONTRADICTED if failures else 0


def train_grid(
    *,
    law: str,
    attack: Literal["worst-case", "one-step"] = "worst-case",
    gradient: Literal["adversarial", "mixed"] = "adversarial",
    validation: Literal["natural", "robust"] = "natural",
    optimiser: Literal["adam", "sgd"] = "adam",
    ratios: tuple[float, ...] = (1, 2, 5, 10),
    seeds: tuple[int, ...] = (2, 22, 42, 62, 82),
    rates: tuple[float, ...] = (0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0002, 0.0001),
    threats: tuple[str, ...] = (),
    mixup: tuple[float, ...] = (1,),
    minority_weight: Annotated[tuple[float, ...], tyro.conf.arg(name="minority-weight")] = (1,),
    batch: int = 64,
    epochs: int = 500,
    patience: int = 50,
    seed: int = 0,
    out: pathlib.Path = pathlib.Path("results"),
) -> int:
    """Train the grid of Hu et al. (ICML 2023) on regenerated data: 1120 linear models in seconds.

    Leaves OUT/train-grid-LAW.nc, which `python -m figures --data` draws. The published data files
    are empty; the file says which assumptions replace them. Exit status: 0 done; 2 bad input.

    Args:
        law: gaussian, cauchy or holtsmark
        attack: worst-case (exact), or one-step as published, which moves points by
            radius * gradient / max(|gradient|, 1e-6) under l2
        gradient: adversarial, or mixed as published: clean plus adversarial
        validation: the loss that stops and chooses models: natural as published, or robust
        optimiser: adam or sgd
        ratios: majority over minority, in [1, 1000]
        seeds: of first weights and shuffles
        rates: learning rates of each of the two logits
        threats: norm=radius such as l2=2.5, norms l1, l2, linf, and natural; the published seven
            of the law if none is given
        mixup: coefficients of same-class mixup, in [0, 1]; 1 is none
        minority_weight: weights of the minority's loss, the majority's being 1
        batch: points in a batch
        epochs: at most
        patience: epochs without a better validation loss after which a model stops
        seed: of the data, in [0, 2^32)
        out: folder of the result file
    """
    from sims.train_file import describe, run_grid, summary
    from sims.train_grid import Grid, parse_threat, published_threats
    from sims.train_setup import Settings

    chosen = tuple(parse_threat(t) for t in threats) or published_threats(law)
    settings = Settings(
        optimiser=optimiser,
        attack=attack,
        gradient=gradient,
        validation=validation,
        batch=batch,
        patience=patience,
    )
    grid = Grid(law, ratios, seeds, rates, chosen, mixup, minority_weight, settings, epochs, seed)
    path = out / f"train-grid-{law}.nc"
    with progress_bar() as add:
        dataset = run_grid(grid, path, add(f"train-grid {law}"))
    print(f"{describe(dataset)}\n{summary(dataset)}\n{path}")
    return 0


def validate(
    *,
    alpha: float | None = None,
    tolerance: float = 0.06,
    trials: int = 2**28,
    seed: int = 0,
    level: float = 1e-4,
) -> int:
    """Test the law of the noise at 40 thresholds at once: contradicted, agrees, or undecided.

    Tail probabilities from 1e-4 to 1 - 1e-4 are compared with counts of draws, looking after every
    chunk and stopping at the first verdict: all evidence is valid at any time. Errors of scale,
    shift and stability index are looked for by name. Exit status: 0 it agrees; 1 it is contradicted
    or undecided; 2 bad input.

    Args:
        alpha: stability index, in [0.1, 2]; the standard Gaussian if not given
        tolerance: relative error of each tail probability that is called agreement
        trials: draws after which an undecided run ends, a multiple of 2^14
        seed: of all draws, in [0, 2^32)
        level: chance that a true law is ever contradicted
    """
    import jax

    from sims import evidence
    from sims import validate as rule
    from theory.claims.noise_law import law_tails
    from theory.problem import InvalidInput

    if not 0 <= seed < 2**32:
        raise InvalidInput(f"seed = {seed}: must lie in [0, 2^32)")
    tails = evidence.make_tails(*law_tails(alpha))
    name = "gaussian" if alpha is None else f"stable law of index {alpha:g}"
    with progress_bar() as add:
        report = rule.validate(
            jax.random.key(seed),
            alpha,
            tails,
            tolerance=tolerance,
            most=trials,
            level=level,
            progress=add(name),
        )
    by = f" by {', '.join(report.against)}" if report.against else ""
    print(
        f"{name}: {report.verdict}{by} after {report.trials} draws (±{report.widest:.2g} relative)"
    )
    return 0 if report.verdict == rule.AGREES else CONTRADICTED


def rare(
    names: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    trials: int = 2**20,
    seed: int = 0,
    grid: tuple[str, ...] = (),
    level: float = 1e-3,
) -> int:
    """Test claims where risks are too small to count, down to 1e-9 and below.

    The noise is drawn near the decision boundary and each point counts with its likelihood ratio.
    For claims that equate class risks of linear rules with a closed form, under Gaussian noise or
    stable noise of independent coordinates. Exit status: 0 every claim agrees; 1 one is
    contradicted or has no verdict; 2 bad input.

    Args:
        names: claims to test (`python -m theory` lists them)
        trials: points of each class at each grid point
        seed: seed of all draws, in [0, 2^32)
        grid: axis=low:high:count or axis=value,value,...; repeatable for several axes
        level: chance that any interval of the whole run misses its risk
    """
    from sims import interval, rare_claims
    from sims.plan import parse_grid
    from theory.claim import find
    from theory.problem import InvalidInput

    if not names:
        raise InvalidInput("names = (): name at least one claim; python -m theory lists them")
    claims = [find(name) for name in names]
    axes = dict(parse_grid(text) for text in grid)
    interval.require_level(level)
    for claim in claims:
        rare_claims.require_checkable(claim, axes, trials=trials, seed=seed)
    status = 0
    with progress_bar() as add:
        for claim in claims:
            found = rare_claims.check(
                claim,
                axes,
                trials=trials,
                seed=seed,
                level=level / len(claims),
                progress=add(claim.name),
            )
            text, agrees = rare_claims.summary(found)
            print("\n".join([*map(str, found), f"{claim.name}: {text}"]), flush=True)
            status |= 0 if agrees else CONTRADICTED
    return status


# Commands by their first word; without one of them, claims are tested.
COMMANDS: dict[str, tuple[Callable[..., int], str]] = {
    "train-grid": (train_grid, "the same command starts anew"),
    "rare": (rare, "the same command starts anew"),
    "validate": (validate, "the same command starts anew"),
}


def main() -> None:
    """Runs the command that the first word names, otherwise a test of claims."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        command, again = COMMANDS[word]
        run(command, f"python -m sims {word}", sys.argv[2:], again)
    run(check, "python -m sims")


if __name__ == "__main__":
    main()
