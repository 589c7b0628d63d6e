"""The problems and the axes that several claims share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory.claims.claim import Axis
from theory.domain import NON_NEGATIVE, POSITIVE
from theory.problem import (
    GaussianMixture,
    L1Ball,
    L2Ball,
    LinearClassifier,
    LinfBall,
    Mixture,
    StableMixture,
    Threat,
    prior_of_ratio,
)

DIMENSION = 8
# Half the difference of the class means: unequal coordinates, so that l_inf turns the direction.
HALF_GAP = np.linspace(1.2, 0.3, DIMENSION)
# A rule that is optimal for no threat: the sign of one coordinate is wrong.
WEIGHT = np.array([1.0, 0.8, 0.9, 0.4, 0.7, 0.2, 0.5, -0.3])
BIAS = jnp.asarray(0.25)
EVEN = jnp.asarray(0.5)
COVARIANCE = 0.4 ** np.abs(np.subtract.outer(np.arange(DIMENSION), np.arange(DIMENSION)))


class Norm(NamedTuple):
    """A threat model: its name, its order, its ball and the largest radius of the default grid.

    `ball` takes a radius, (), or one for each arm, (arms,).
    """

    name: str
    order: float
    ball: Callable[[jax.Array], Threat]
    largest: float

    @property
    def margin(self) -> float:
        """The radius at which the two classes of `means` touch."""
        return float(np.linalg.norm(HALF_GAP, self.order))


L1, L2, LINF = (
    Norm("l1", 1, L1Ball, 3.0),
    Norm("l2", 2, L2Ball, 2.5),
    Norm("linf", np.inf, LinfBall, 1.0),
)

SCALE_RATIO = Axis(
    "scale_ratio", "scale of the positive over that of the negative class", (0.7, 1.5), POSITIVE
)
RATIO = Axis(
    "imbalance_ratio",
    "imbalance ratio P(y = -1) / P(y = +1)",
    (1, 1.1, 2, 5, 10, 30, 100),
    POSITIVE,
)


def radius_axis(*radii: float) -> Axis:
    """Returns the axis of the perturbation radius with this default grid."""
    return Axis("radius", "perturbation radius, in units of the inputs", radii, NON_NEGATIVE)


def radius_range(largest: float, count: int = 9) -> Axis:
    """Returns the axis of the perturbation radius from zero to `largest`."""
    return radius_axis(*np.linspace(0, largest, count).tolist())


def means(like: jax.Array) -> jax.Array:
    """Returns the class means, (2, 8), in the dtype of `like`."""
    half_gap = jnp.asarray(HALF_GAP, like.dtype)
    return jnp.stack([-half_gap, half_gap])


def fixed_rule(like: jax.Array) -> LinearClassifier:
    """Returns a rule that is optimal for no threat, weight (8,) in the dtype of `like`, ()."""
    return LinearClassifier(jnp.asarray(WEIGHT, like.dtype), BIAS)


def gaussian(scale_ratio: jax.Array) -> Mixture:
    """Returns balanced Gaussian classes, correlated coordinates, scales 1 and `scale_ratio`, ()."""
    scales = jnp.stack([jnp.ones_like(scale_ratio), scale_ratio])
    return GaussianMixture(
        means(scale_ratio), scales, EVEN, jnp.asarray(COVARIANCE, scale_ratio.dtype)
    )


def stable(alpha: jax.Array, scale_ratio: jax.Array) -> Mixture:
    """Returns balanced classes, independent stable noise of alpha, (), scales 1 and ratio, ()."""
    scales = jnp.stack([jnp.ones_like(scale_ratio), scale_ratio])
    return StableMixture(means(scale_ratio), scales, EVEN, alpha)


def isotropic(imbalance_ratio: jax.Array) -> GaussianMixture:
    """Returns Gaussian classes with isotropic noise, equal scales and this imbalance ratio, ()."""
    ones = jnp.ones(2, imbalance_ratio.dtype)
    return GaussianMixture(means(imbalance_ratio), ones, prior_of_ratio(imbalance_ratio))
