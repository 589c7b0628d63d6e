"""Draws from the mixtures, and pairs of them mixed: every coordinate of every point."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from sims.random import draws
from theory.domain import InvalidInput
from theory.problem import GaussianMixture, Law, MixedPairs, StableMixture

LABELS = (-1, 1)


@functools.singledispatch
def noise(mixture: Law, key: jax.Array, count: int) -> jax.Array:
    """Returns `count` draws of the noise at unit class scale for each class, (2, count, d).

    The dtype is that of the mixture. Draws of float32 are right far into the tail:
    `sims.random.draws`.

    Raises:
        InvalidInput: for another law.
    """
    raise InvalidInput(f"mixture = {mixture!r}: must be a GaussianMixture or a StableMixture")


@noise.register
def _(mixture: GaussianMixture, key: jax.Array, count: int) -> jax.Array:
    dimension, dtype = mixture.means.shape[-1], mixture.means.dtype
    white = draws.normal(key, (2, count, dimension), dtype)
    if mixture.covariance is None:
        return white
    factor = jnp.linalg.cholesky(mixture.covariance)
    return jnp.matmul(white, factor.T, precision=jax.lax.Precision.HIGHEST)


@noise.register
def _(mixture: StableMixture, key: jax.Array, count: int) -> jax.Array:
    dimension, dtype = mixture.means.shape[-1], mixture.means.dtype
    return draws.symmetric_stable(key, mixture.alpha, (2, count, dimension), dtype)


@functools.singledispatch
def points(mixture: Law, key: jax.Array, count: int) -> jax.Array:
    """Returns `count` independent points of each class, (2, count, d): [negative, positive]."""
    return mixture.means[:, None, :] + mixture.scales[:, None, None] * noise(mixture, key, count)


@points.register
def _(mixture: MixedPairs, key: jax.Array, count: int) -> jax.Array:
    """Draws two points of the class and mixes them; what law that makes is not used."""
    # Three keys also where the third is not used: a fixed coefficient keeps the points.
    keys = jax.random.split(key, 3)
    first, second = (points(mixture.original, one, count) for one in keys[:2])
    coefficient: Any = mixture.coefficient
    if coefficient is None:
        a: Any = mixture.concentration
        coefficient = symmetric_beta(keys[2], a, (2, count), mixture.means.dtype)[..., None]
    return coefficient * first + (1 - coefficient) * second


def symmetric_beta(
    key: jax.Array, concentration: jax.Array, shape: tuple[int, ...], dtype: DTypeLike
) -> jax.Array:
    """Returns draws of Beta(a, a) for any a > 0, in [0, 1].

    Polar draws of Student's t with 2 a degrees of freedom, mapped to (0, 1).

    References:
        bailey1994polar.
    """
    uniform, turn = jax.random.uniform(key, (2, *shape), dtype)
    power = (1 - uniform) ** (1 / concentration)
    across = jnp.sqrt(1 - power) * jnp.cos(2 * math.pi * turn)
    # The square root only vanishes where `power` underflows and the cosine is zero as well.
    draws_of_beta: jax.Array = (1 + across / jnp.sqrt(power + across**2)) / 2
    return draws_of_beta
