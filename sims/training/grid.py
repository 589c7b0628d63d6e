"""The published grid of trained models: every law, imbalance ratio, seed, rate and attack at once.

Hu et al. (ICML 2023) train 4 ratios x 5 seeds x 8 rates x 7 attacks = 1120 models a law; here mixup
coefficients and class weights are two more axes. The data are regenerated, as the published files
are empty: `sims.training.data.ASSUMPTIONS` says what replaces them.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from sims.provenance import code_digest, versions
from sims.sweep.plan import require_seed
from sims.sweep.single_precision import require_single
from sims.training import data as training_data
from sims.training.setup import Settings, require_batch, require_settings
from theory.domain import NON_NEGATIVE, POSITIVE, UNIT_INTERVAL, InvalidInput, require_inside

# By the names of a threat on the command line and in a result file.
ORDERS = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}
# The module whose code, and all that it imports, makes the numbers of a result file.
TRAINING = "sims.training.run"
RATES = (0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0002, 0.0001)


class GridThreat(NamedTuple):
    """A norm of `ORDERS` and a radius; radius 0 is natural training."""

    norm: str
    radius: float

    def __str__(self) -> str:
        return f"{self.norm}={self.radius:g}" if self.radius else "natural"


NATURAL = GridThreat("l2", 0.0)


def parse_threat(text: str) -> GridThreat:
    """Returns the threat written as norm=radius, such as l2=2.5, or natural.

    Raises:
        InvalidInput: for anything else.

    >>> parse_threat("l2=2.5"), str(parse_threat("natural"))
    (GridThreat(norm='l2', radius=2.5), 'natural')
    """
    if text == str(NATURAL):
        return NATURAL
    norm, _, radius = text.partition("=")
    try:
        return GridThreat(norm, float(radius))
    except ValueError as error:
        raise InvalidInput(
            f"threat = {text!r}: must look like l2=2.5 or linf=1, or be natural"
        ) from error


class Grid(NamedTuple):
    """A grid of models of one law: their number is the product of the lengths.

    Args:
        law: "gaussian", "cauchy" or "holtsmark".
        ratios: R = majority over minority, each in [1, 1000].
        seeds: of the first weights and shuffles.
        rates: learning rates of each of the two logits, > 0.
        threats: the attacks trained against.
        mixups: coefficients of same-class mixup in [0, 1]; 1 is none.
        minority_weights: weights of the minority's loss, the majority's being 1, >= 0.
        settings: what all models share.
        epochs: the most epochs of any model.
        data_seed: of the data, in [0, 2^32).
    """

    law: str
    ratios: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    seeds: tuple[int, ...] = (2, 22, 42, 62, 82)
    rates: tuple[float, ...] = RATES
    threats: tuple[GridThreat, ...] = ()
    mixups: tuple[float, ...] = (1.0,)
    minority_weights: tuple[float, ...] = (1.0,)
    settings: Settings = Settings()
    epochs: int = 500
    data_seed: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Ratios, seeds, rates, threats, mixups, minority weights: the axes of a result file."""
        axes = (self.ratios, self.seeds, self.rates, self.threats, self.mixups)
        return *map(len, axes), len(self.minority_weights)


AXES = ("imbalance_ratio", "seed", "rate", "threat", "mixup", "minority_weight")


def published_threats(law: str) -> tuple[GridThreat, ...]:
    """Returns natural training and the six attacks of the published grid.

    Raises:
        InvalidInput: for an unknown law.
    """
    known = training_data.require_law(law)
    radii = {"l2": known.l2, "linf": known.linf}
    attacks = (GridThreat(norm, radius) for norm, values in radii.items() for radius in values)
    return NATURAL, *attacks


def published(law: str) -> Grid:
    """Returns the published grid of a law: 1120 models.

    Raises:
        InvalidInput: for an unknown law.
    """
    return Grid(law, threats=published_threats(law))


def require_grid(grid: Grid) -> None:
    """Raises InvalidInput, naming what is wrong, unless the grid can be trained."""
    training_data.require_law(grid.law)
    for threat in grid.threats:
        if threat.norm not in ORDERS:
            raise InvalidInput(f"threat = {threat.norm!r}: must be one of {', '.join(ORDERS)}")
        require_inside("radius", threat.radius, NON_NEGATIVE, "the perturbation radius")
    require_inside("rate", np.array(grid.rates), POSITIVE, "the learning rate")
    require_inside("mixup", np.array(grid.mixups), UNIT_INTERVAL, "the mixing coefficient")
    weights = np.array(grid.minority_weights)
    require_inside("minority_weight", weights, NON_NEGATIVE, "the weight of the minority's loss")
    # Models are trained in float32: a radius, rate or weight beyond it would train another grid.
    radii = np.array([threat.radius for threat in grid.threats])
    held = {"radius": radii, "rate": np.array(grid.rates), "minority_weight": weights}
    for name, sizes in held.items():
        require_single(name, sizes, "must be", small=True)
    for seed in (grid.data_seed, *grid.seeds):
        require_seed(seed)
    training_data.require_ratios(grid.ratios)
    values = (grid.ratios, grid.seeds, grid.rates, grid.threats, grid.mixups, grid.minority_weights)
    for name, axis in zip(AXES, values, strict=True):
        if not axis or len(set(map(str, axis))) < len(axis):
            raise InvalidInput(f"{name} = {axis}: must be at least one value, none twice")
    require_settings(grid.settings, grid.epochs)
    require_batch(grid.settings.batch, training_data.size(max(grid.ratios)))


def coordinates(grid: Grid) -> dict[str, object]:
    """Returns the axes of the result file of a grid."""
    return {
        "imbalance_ratio": list(grid.ratios),
        "seed": list(grid.seeds),
        "rate": list(grid.rates),
        "threat": [str(threat) for threat in grid.threats],
        "mixup": list(grid.mixups),
        "minority_weight": list(grid.minority_weights),
        "norm": ("threat", [threat.norm for threat in grid.threats]),
        "radius": ("threat", [threat.radius for threat in grid.threats]),
        "label": ["negative", "positive"],
    }


IDENTITY = (
    "kind",
    "law",
    "alpha",
    "scale",
    "data_seed",
    "attack",
    "gradient",
    "validation",
    "optimiser",
    "batch",
    "epochs",
    "patience",
    "code",
    "jax",
)


def identity(grid: Grid) -> dict[str, Any]:
    """Returns what a result file must share with a grid, beside its axes, to be its own."""
    law, settings = training_data.require_law(grid.law), grid.settings
    return {
        "kind": "train-grid",
        "law": grid.law,
        "alpha": law.alpha,
        "scale": law.scale,
        "data_seed": grid.data_seed,
        "attack": settings.attack,
        "gradient": settings.gradient,
        "validation": settings.validation,
        "optimiser": settings.optimiser,
        "batch": settings.batch,
        "epochs": grid.epochs,
        "patience": settings.patience,
        "code": code_digest(TRAINING),
        "jax": jax.__version__,
    }


def record() -> dict[str, Any]:
    """Returns what else a result file says: its source, and what stands in for missing data."""
    numbered = {f"assumption_{i}": text for i, text in enumerate(training_data.ASSUMPTIONS, 1)}
    return {"source": "hu2023accuracydisparity", "versions": versions()} | numbered
