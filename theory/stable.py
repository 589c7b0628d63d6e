"""The standard symmetric alpha-stable law, with characteristic function exp(-|t|^alpha).

alpha = 2 is the Gaussian N(0, 2) and alpha = 1 the Cauchy law; both are evaluated in closed form.
Every other alpha integrates the inverse Fourier transform along a rotated ray, where the integrand
decays and does not oscillate, by the double-exponential trapezoid rule on fixed nodes: about
1e-13 relative in the body and in both tails for alpha in [0.1, 1.999] in float64.

Arguments broadcast; alpha in (0, 2], otherwise the result is nan. jit, vmap and grad apply.
"""

import jax
import jax.numpy as jnp
import numpy as np

NODES = np.linspace(0.0, 1.0, 160)
# Where the integrand falls below the rounding error of its sum, as an exponent of e.
DECAY = 44.0


def _expm1(real: jax.Array, imag: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns exp(z) - 1 as its parts, for z given by its parts, without cancellation near 0."""
    half = jnp.sin(imag / 2)
    return jnp.expm1(real) * jnp.cos(imag) - 2 * half**2, jnp.exp(real) * jnp.sin(imag)


def _exp(real: jax.Array, imag: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.exp(real) * jnp.cos(imag), jnp.exp(real) * jnp.sin(imag)


def _nodes(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns double-exponential points r > 0 and weights dr / r for y between low and high."""
    unit = jnp.expand_dims(jnp.asarray(NODES, low.dtype), range(low.ndim - 1))
    y = low + (high - low) * unit
    step = (high - low) / (len(NODES) - 1)
    return jnp.exp(y - jnp.exp(-y)), (1 + jnp.exp(-y)) * step


def _tail_sum(x: jax.Array, alpha: jax.Array, density: bool) -> jax.Array:
    """Returns sf(x), or x * pdf(x), for x away from zero: the ray variable is scaled by 1 / x."""
    angle = jnp.minimum(jnp.pi / 2, jnp.pi / (3 * alpha))
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    low = -jnp.log((DECAY - 2) / (alpha + (1.0 if density else 0.0)))
    radius, weight = _nodes(low, jnp.log(DECAY / sin))
    power = (radius / x) ** alpha
    wave, wave_i = _exp(-radius * sin, radius * cos)
    law, law_i = _expm1(-power * jnp.cos(alpha * angle), -power * jnp.sin(alpha * angle))
    real, imag = wave * law - wave_i * law_i, wave * law_i + wave_i * law
    values = radius * (cos * real - sin * imag) if density else -imag
    return jnp.sum(weight * values, -1) / jnp.pi


def _body_sum(x: jax.Array, alpha: jax.Array, density: bool) -> jax.Array:
    """Returns cdf(x) - 1/2, or pdf(x), for x near zero."""
    angle = jnp.minimum(jnp.pi / 2, jnp.pi / (3 * alpha))
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    high = jnp.log(DECAY / jnp.cos(alpha * angle)) / alpha
    radius, weight = _nodes(-jnp.log(DECAY - 2 + jnp.maximum(high, 0)), high)
    power = radius**alpha
    law, law_i = _exp(-power * jnp.cos(alpha * angle), -power * jnp.sin(alpha * angle))
    exponential = _exp if density else _expm1
    wave, wave_i = exponential(-radius * x * sin, radius * x * cos)
    real, imag = wave * law - wave_i * law_i, wave * law_i + wave_i * law
    values = radius * (cos * real - sin * imag) if density else imag
    return jnp.sum(weight * values, -1) / jnp.pi


def _prepare(x: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns |x|, alpha (1 where a closed form or nan answers instead) and where that is."""
    special = ~((alpha > 0) & (alpha < 2)) | (alpha == 1) | jnp.isinf(x)
    return jnp.where(jnp.isinf(x), 1, jnp.abs(x)), jnp.where(special, 1, alpha), special


def _promote(x: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns both as floating arrays of their common dtype (the default one for integers)."""
    x, alpha = (
        v if jnp.issubdtype(jnp.result_type(v), jnp.floating) else v * 1.0 for v in (x, alpha)
    )
    dtype = jnp.result_type(x, alpha)
    return jnp.asarray(x, dtype), jnp.asarray(alpha, dtype)


def _zones(x: jax.Array, alpha: jax.Array, density: bool) -> tuple[jax.Array, ...]:
    """Returns the body form, the tail form, and where the tail form is to be used."""
    tail = x >= jnp.where(alpha < 0.6, 0.01, 1.0)
    far, near = jnp.where(tail, x, 1)[..., None], jnp.where(tail, 0, x)[..., None]
    alpha = alpha[..., None]
    return _body_sum(near, alpha, density), _tail_sum(far, alpha, density), tail


def sf(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns P(S > x), accurate relative to its size in the upper tail.

    >>> float(sf(1.0, 1.0))
    0.25
    """
    x, alpha = jnp.broadcast_arrays(*_promote(x, alpha))
    magnitude, index, special = _prepare(x, alpha)
    body, tail, far = _zones(magnitude, index, density=False)
    upper = jnp.where(far, tail, 0.5 - body)
    upper = jnp.where(x < 0, jnp.where(far, 1 - tail, 0.5 + body), upper)
    finite = jnp.where(jnp.isinf(x), 0, x)
    cauchy = jnp.arctan2(jnp.ones_like(finite), finite) / jnp.pi
    gauss = jax.lax.erfc(finite / 2) / 2
    closed = jnp.where(alpha == 1, cauchy, jnp.where(alpha == 2, gauss, jnp.nan))
    limit = jnp.where(x > 0, 0.0, 1.0)
    closed = jnp.where(jnp.isinf(x) & (alpha > 0) & (alpha <= 2), limit, closed)
    return jnp.where(special, closed, upper)


def cdf(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns P(S <= x) = sf(-x), accurate relative to its size in the lower tail.

    >>> float(cdf(-1.0, 1.0))
    0.25
    """
    return sf(-jnp.asarray(x), alpha)


def pdf(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns the density at x, accurate relative to its size.

    >>> round(float(pdf(0.0, 1.0)) * np.pi, 6)
    1.0
    """
    x, alpha = jnp.broadcast_arrays(*_promote(x, alpha))
    magnitude, index, special = _prepare(x, alpha)
    body, tail, far = _zones(magnitude, index, density=True)
    general = jnp.where(far, tail / jnp.where(far, magnitude, 1), body)
    finite = jnp.where(jnp.isinf(x), 0, x)
    cauchy = 1 / (jnp.pi * (1 + finite**2))
    gauss = jnp.exp(-(finite**2) / 4) / (2 * jnp.sqrt(jnp.pi))
    closed = jnp.where(alpha == 1, cauchy, jnp.where(alpha == 2, gauss, jnp.nan))
    closed = jnp.where(jnp.isinf(x) & (alpha > 0) & (alpha <= 2), 0.0, closed)
    return jnp.where(special, closed, general)
