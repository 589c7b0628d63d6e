"""The commands of python -m sims beside the test of claims: each a word and its options."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sims.cli.frame import CONTRADICTED, progress_bar

if TYPE_CHECKING:
    from theory.claims.claim import Claim


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
    # Here and in every command: what loads JAX waits until the arguments are known to be right.
    from sims.training.file import describe, run_grid, summary
    from sims.training.grid import Grid, parse_threat, published_threats
    from sims.training.setup import Settings

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
        tolerance: relative error of each tail probability that is called agreement, in (0, 1)
        trials: draws after which an undecided run ends, a multiple of 2^14
        seed: of all draws, in [0, 2^32)
        level: chance that a true law is ever contradicted
    """
    from sims.noise import validate as rule
    from sims.random import keys
    from sims.stats import e_values
    from sims.sweep.plan import require_seed
    from theory.claims.settings.noise_law import law_tails
    from theory.domain import PROBABILITY, require_inside

    require_seed(seed)
    require_inside("tolerance", tolerance, PROBABILITY, "the relative error that is agreement")
    tails = e_values.make_tails(*law_tails(alpha))
    name = "gaussian" if alpha is None else f"stable law of index {alpha:g}"
    with progress_bar() as add:
        report = rule.validate(
            keys.key(seed),
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


def explore(
    name: tyro.conf.Positional[str],
    /,
    *,
    trials: int = 100_000,
    seed: int = 0,
    grid: tuple[str, ...] = (),
    level: float = 1e-3,
    out: pathlib.Path = pathlib.Path("results"),
) -> int:
    """Look at natural and robust class risks of a whole grid in seconds, by projection.

    The projection assumes the lemma under test, so what this prints and saves is not evidence,
    says so, and is refused wherever results are judged, merged or drawn. Exit status: 0 done;
    2 bad input.

    Args:
        name: a claim of a linear rule for two Gaussian or stable classes
        trials: draws at each grid point
        seed: seed of all draws, in [0, 2^32)
        grid: axis=low:high:count or axis=value,value,...; repeatable for several axes
        level: chance that any interval misses its risk, were the projection right
        out: folder of the result file, NAME.exploratory-not-evidence.nc
    """
    from sims.projection import explore
    from theory.claims.registry import find

    path, axes = out / explore.file_name(name), parse_axes(grid)
    with progress_bar() as add:
        dataset = explore.explore(
            find(name),
            axes,
            trials=trials,
            seed=seed,
            level=level,
            path=path,
            progress=add(f"{name}, exploratory"),
        )
    for line in explore.lines(dataset):
        print(line)
    print(explore.marked(str(path)))
    return 0


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
    from sims.rare import claims as rare_claims
    from sims.stats import interval

    claims = _named_claims(names)
    axes = parse_axes(grid)
    interval.require_level(level)
    # All claims before the first draw, so that a bad one is never found after hours.
    for claim in claims:
        rare_claims.require_checkable(claim, axes, trials=trials, seed=seed)
    status = 0
    with progress_bar() as add:
        for claim in claims:
            checked = rare_claims.check(
                claim,
                axes,
                trials=trials,
                seed=seed,
                level=level / len(claims),
                progress=add(claim.name),
            )
            text, agrees = rare_claims.summary(checked)
            print("\n".join([*map(str, checked), f"{claim.name}: {text}"]), flush=True)
            status |= 0 if agrees else CONTRADICTED
    return status


def parse_axes(texts: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Returns the values of each axis that the words of --grid name.

    Raises:
        InvalidInput: for a word that is no axis with values, or an axis that is named twice.
    """
    from sims.sweep.plan import parse_grid
    from theory.domain import InvalidInput

    axes: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, values = parse_grid(text)
        if name in axes:
            raise InvalidInput(
                f"grid = {text!r}: the axis {name} is given twice; join its values by commas"
            )
        axes[name] = values
    return axes


def _named_claims(names: tuple[str, ...]) -> list[Claim]:
    """Returns the claims of these names, at least one."""
    from theory.claims.registry import find
    from theory.domain import InvalidInput

    if not names:
        raise InvalidInput("names = (): name at least one claim; python -m theory lists them")
    return [find(name) for name in names]
