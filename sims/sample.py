"""Draws from the mixtures: every coordinate of every point."""

import functools

import jax
import jax.numpy as jnp

from sims import draws
from theory.problem import GaussianMixture, InvalidInput, Mixture, StableMixture

LABELS = (-1, 1)


@functools.singledispatch
def noise(mixture: Mixture, key: jax.Array, count: int) -> jax.Array:
    """Returns `count` draws of the noise at unit class scale for each class, (2, count, d).

    The dtype is that of the mixture. Draws of float32 are right far into the tail: `sims.draws`.
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


def points(mixture: Mixture, key: jax.Array, count: int) -> jax.Array:
    """Returns `count` independent points of each class, (2, count, d): [negative, positive]."""
    return mixture.means[:, None, :] + mixture.scales[:, None, None] * noise(mixture, key, count)
