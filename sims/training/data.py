"""The data of the published training grid, regenerated: the files of the repository are empty.

From the repository's code: 100 features; 1000 points of the majority and 1000 / R of the minority;
class 0 (here -1) is the majority; a balanced test set is that of R = 1; one data set for all seeds,
which choose the first weights and the order of the batches; the radii. What replaces the rest is in
`ASSUMPTIONS`, and in every result file.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sims.random import keys
from sims.simulate import sample
from sims.sweep.plan import require_seed
from sims.training.setup import Points
from theory.domain import Interval, require_inside, require_known
from theory.problem import GaussianMixture, StableMixture

DIMENSION, MAJORITY, MEAN_SUPPORT = 100, 1000, 25
RATIO = Interval(1, MAJORITY)


class GridLaw(NamedTuple):
    """A noise law of the grid: its stability index, its assumed scale and the published radii.

    The scale is the standard deviation of the Gaussian, and for the others the unit of the
    characteristic function exp(-|scale t|^alpha).
    """

    alpha: float
    scale: float
    l2: tuple[float, ...]
    linf: tuple[float, ...]


LAWS = {
    "gaussian": GridLaw(2.0, 3.0, (5.0, 3.75, 2.5), (1.0, 0.75, 0.5)),
    "cauchy": GridLaw(1.0, 1.0, (70.0, 52.5, 35.0), (53.0, 39.75, 26.5)),
    "holtsmark": GridLaw(1.5, 0.3, (2.94, 2.205, 1.47), (0.555, 0.4163, 0.2775)),
}

ASSUMPTIONS = (
    "The class means are +m and -m, m equal on the first 25 of 100 coordinates and zero elsewhere, "
    "with |m|_2 the largest published l_2 radius (for the Gaussian |m|_inf is then the largest "
    "l_inf radius too; for the Cauchy law every published l_inf radius exceeds it).",
    "The noise is independent over coordinates, of scale 3 (Gaussian, standard deviation), 1 "
    "(Cauchy) and 0.3 (Holtsmark), the same for both classes.",
    "Training, validation and test set have the same sizes, independent points, 1000 of the "
    "majority and 1000 / R of the minority; only the test sizes are in the published code.",
    "The sets of different R share their majority points, and the minority of a larger R is a "
    "part of that of a smaller one; whether the published sets did is not known.",
    "The random numbers are not those of the published files: seeds stand for independent first "
    "weights and shuffles, uniform in +-1/sqrt(d) as the framework of the published code draws.",
)


class Split(NamedTuple):
    """The data of one imbalance ratio; `balanced` is the test set of R = 1."""

    train: Points
    validation: Points
    test: Points
    balanced: Points


def require_law(name: str) -> GridLaw:
    """Returns the law of that name.

    Raises:
        InvalidInput: for an unknown name.
    """
    require_known("law", name, LAWS)
    return LAWS[name]


def require_ratios(ratios: tuple[float, ...]) -> None:
    """Raises InvalidInput unless each ratio leaves at least one point to the minority."""
    require_inside("ratio", np.array(ratios), RATIO, "the majority over the minority")


def size(ratio: float) -> int:
    """Returns the points of a training set at an imbalance ratio."""
    return MAJORITY + int(MAJORITY / ratio)


def mixture(name: str, ratio: float) -> GaussianMixture | StableMixture:
    """Returns the two classes of a law at an imbalance ratio P(-) / P(+), in float32."""
    law = require_law(name)
    # Equal entries whose l_2 norm is the largest published radius: see `ASSUMPTIONS`.
    mean = np.zeros(DIMENSION, np.float32)
    mean[:MEAN_SUPPORT] = law.l2[0] / np.sqrt(MEAN_SUPPORT)
    means: Any = np.stack([-mean, mean])
    scales: Any = np.full(2, law.scale, np.float32)
    prior: Any = np.float32(1 / (1 + ratio))
    alpha: Any = np.float32(law.alpha)
    if alpha == 2:
        return GaussianMixture(means, scales, prior)
    return StableMixture(means, scales, prior, alpha)


@functools.partial(jax.jit, static_argnames="count")
def _draw(both: GaussianMixture | StableMixture, key: jax.Array, count: int) -> jax.Array:
    """Returns points of each class for the three sets, (3, 2, count, d)."""
    # Training, validation, test: a key for each, so that none is a part of another.
    keys = (jax.random.fold_in(key, np.uint32(number)) for number in range(3))
    return jnp.stack([sample.points(both, key_of_set, count) for key_of_set in keys])


def splits(name: str, ratios: tuple[float, ...], seed: int) -> dict[float, Split]:
    """Returns the data of each imbalance ratio, float32.

    Args:
        name: a law of `LAWS`.
        ratios: R = majority over minority, each in [1, 1000].
        seed: in [0, 2^32).

    Raises:
        InvalidInput: for an unknown law, a ratio or a seed out of range.
    """
    require_law(name)
    require_ratios(ratios)
    require_seed(seed)
    # The law of R = 1 serves all ratios: the prior says how many points are taken, not where.
    with jax.enable_x64(False):
        drawn = np.asarray(_draw(mixture(name, 1), keys.key(seed), MAJORITY))

    def split(ratio: float) -> Split:
        train, validation, test = (_points(both_classes, ratio) for both_classes in drawn)
        return Split(train, validation, test, _points(drawn[2], 1))

    return {ratio: split(ratio) for ratio in ratios}


def _points(drawn: np.ndarray, ratio: float) -> Points:
    """Returns all negative points and the first 1000 / R positive ones, of (2, 1000, d)."""
    minority = int(MAJORITY / ratio)
    y = np.repeat(np.array([-1, 1], np.float32), (MAJORITY, minority))
    return Points(np.concatenate([drawn[0], drawn[1, :minority]]), y)
