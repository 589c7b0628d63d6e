"""Finite samples: how far a counted risk, or a rule fitted to data, is from the population's.

The half-widths hold for every law and every number of points; the excess of the plug-in rule is an
expansion for many points.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, gammaln
from jax.scipy.stats import norm

from theory.domain import InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.numerics.norms import power_norm
from theory.numerics.root import bracketed_root
from theory.problem import GaussianMixture, L2Ball, LinfBall, Mixture, Threat
from theory.problem import imbalance_ratio as ratio_of_prior


def _level(level: Any) -> jax.Array:
    """Returns the error probability, nan unless it lies in (0, 1): no bound from a bad level."""
    level = jnp.asarray(level, jnp.result_type(float, level))
    return jnp.where((level > 0) & (level < 1), level, jnp.nan)


@checked_arguments
def hoeffding(trials: Any, level: Any) -> jax.Array:
    """Returns the half-width of an interval for a risk around its estimate from `trials` points.

    sqrt(log(2 / level) / (2 n)): it misses the risk with probability at most `level`, both sides
    together. For m intervals at once, and for a disparity from two of them, divide the level.

    Args:
        trials: n > 0 independent points, (...).
        level: in (0, 1), (...); nan outside.

    References:
        hoeffding1963; theory document T27.

    >>> print(f"{hoeffding(200, 2 * jnp.exp(-1.0)):.4f}")
    0.0500
    """
    level = _level(level)
    return jnp.sqrt(jnp.log(2 / level) / (2 * jnp.asarray(trials).astype(level.dtype)))


@checked_arguments
def empirical_bernstein(errors: Any, trials: Any, level: Any) -> jax.Array:
    """Returns the half-width of an interval for a risk around errors / trials, small at few errors.

    sqrt(2 V log(4 / level) / n) + 7 log(4 / level) / (3 (n - 1)) with V the sample variance of the
    errors. It misses the risk with probability at most `level`, both sides together.

    Args:
        errors: in [0, trials], (...).
        trials: n >= 2 independent points, (...).
        level: in (0, 1), (...); nan outside.

    References:
        maurer2009empirical; theory document T27.
    """
    level = _level(level)
    n = jnp.asarray(trials).astype(level.dtype)
    rate = jnp.asarray(errors).astype(level.dtype) / n
    variance = rate * (1 - rate) * n / (n - 1)
    need = jnp.log(4 / level)
    return jnp.sqrt(2 * variance * need / n) + 7 * need / (3 * (n - 1))


@checked_arguments
def exact_upper(errors: Any, trials: Any, level: Any) -> jax.Array:
    """Returns the risk at which so few errors, or fewer, have probability `level`, (...).

    The smallest upper bound that depends on the count alone, grows with it and is below the risk
    with probability at most `level`; one for all errors. The two-sided interval is, in NumPy,
    `sims.stats.interval.clopper_pearson`.

    Args:
        errors: in [0, trials], (...).
        trials: n >= 1 independent points, (...).
        level: in (0, 1), (...); nan outside. In float32 the bound is good to some 1e-4 / sqrt(n).

    References:
        clopper1934; theory document T27.

    >>> print(f"{exact_upper(0, 2, 0.01):.4f}")  # (1 - r)^2 = 0.01
    0.9000
    """
    level = _level(level)
    k, n = (jnp.asarray(value).astype(level.dtype) for value in (errors, trials))
    k, n, level = jnp.broadcast_arrays(k, n, level)
    # P(at most k errors) = 1 - I_risk(k + 1, n - k), without meaning for k = n: the bound is one.
    some = jnp.where(k < n, k, 0)

    def excess(risk: jax.Array, level: jax.Array) -> jax.Array:
        # betainc has no derivative in its shape; counts are whole numbers and need none.
        shape = jax.lax.stop_gradient((some + 1, n - some))
        return betainc(*shape, risk) - (1 - level)

    bound = bracketed_root(excess, some / n, jnp.ones_like(n), level)
    return jnp.where(jnp.isnan(level), level, jnp.where(k < n, bound, 1))


class _Margin(NamedTuple):
    """What the plug-in expansion needs of the direction, in units of the class scale."""

    robust: jax.Array
    length: jax.Array  # what the variance of the direction is divided by
    active: jax.Array  # coordinates in which the direction varies


@functools.singledispatch
def _fitted_margin(threat: Threat, gap: jax.Array, scale: jax.Array) -> _Margin:
    raise InvalidInput(f"threat = {type(threat).__name__}: must be an L2Ball or a LinfBall")


@_fitted_margin.register
def _(threat: L2Ball, gap: jax.Array, scale: jax.Array) -> _Margin:
    length = power_norm(gap, 2.0) / scale
    dimension = jnp.full_like(length, gap.shape[-1])
    return _Margin(length - threat.radius / scale, length, dimension)


@_fitted_margin.register
def _(threat: LinfBall, gap: jax.Array, scale: jax.Array) -> _Margin:
    excess = jnp.maximum(jnp.abs(gap) - jnp.expand_dims(threat.radius, -1), 0)
    kappa = power_norm(excess, 2.0) / scale
    return _Margin(kappa, kappa, jnp.sum(excess > 0, -1).astype(kappa.dtype))


@checked_arguments
def plug_in_excess_risk(mixture: Mixture, threat: Threat | None, counts: Any) -> jax.Array:
    """Returns by how much the rule with estimated class means exceeds the least risk, on average.

    The robust-optimal rule of the sample means, with the noise and the prior known, for n_- and
    n_+ points of the classes; up to terms that vanish faster than 1 / n. The direction costs
    v (d - 1) / ||Delta||, the intercept and the margin t (v (1 + h^2) - 2 h c), times the prior
    density at the boundary, where v = (1/n_+ + 1/n_-) / 4, c = (1/n_+ - 1/n_-) / 4 and
    h = log R / (2 t^2). Against an l_inf threat d is the number of coordinates with |Delta_i| above
    the radius and ||Delta|| is the robust margin.

    Args:
        mixture: Gaussian without a covariance. nan for unequal class scales.
        threat: L2Ball or LinfBall for training and evaluation, or None. nan for a radius at which
            no robust margin is left; wrong where some |Delta_i| equals an l_inf radius.
        counts: points of each class, [negative, positive], (..., 2).

    Raises:
        InvalidInput: for another law or threat.

    References:
        theory document T28; new for general ratio and radius.

    >>> import numpy as np
    >>> one = GaussianMixture(means=[[-1.0], [1.0]], scales=[1.0, 1.0], prior=0.5)
    >>> excess = plug_in_excess_risk(one, None, np.array([100.0, 100.0]))
    >>> print(f"{excess * 400 * (2 * np.pi * np.e) ** 0.5:.4f}")
    1.0000
    """
    if not isinstance(mixture, GaussianMixture) or mixture.covariance is not None:
        raise InvalidInput(
            f"mixture = {type(mixture).__name__}: must be a GaussianMixture without a covariance"
        )
    gap = (mixture.means[..., 1, :] - mixture.means[..., 0, :]) / 2
    scale = mixture.scales[..., 0]
    threat = L2Ball(jnp.zeros(gap.shape[:-1], gap.dtype)) if threat is None else threat
    margin = _fitted_margin(threat, gap, scale)
    known = (margin.robust > 0) & (scale == mixture.scales[..., 1])
    # A rule fitted near the edge of having any margin does not expand in 1 / n.
    t = jnp.where(known, margin.robust, jnp.nan)
    tilt = jnp.log(ratio_of_prior(mixture.prior)) / (2 * t**2)
    per_point = 1 / jnp.asarray(counts).astype(t.dtype)
    v = (per_point[..., 1] + per_point[..., 0]) / 4
    c = (per_point[..., 1] - per_point[..., 0]) / 4
    cost = v * (margin.active - 1) / margin.length + t * (v * (1 + tilt**2) - 2 * tilt * c)
    # pi_+ phi(t - h t) = pi_- phi(t + h t): the prior density at the boundary, from either class.
    excess: jax.Array = mixture.prior * norm.pdf(t * (1 - tilt)) * cost
    return excess


@checked_arguments
def intercept_excess_bound(prior: Any, counts: Any, level: Any) -> jax.Array:
    """Returns a bound on the excess risk of the intercept that makes the fewest weighted errors.

    For a fixed direction, any law and any radius: with probability at least 1 - level the rule
    that minimises the prior-weighted error rates of the two samples exceeds the least risk of the
    direction by at most 2 (pi_+ e_+ + pi_- e_-), e_y = sqrt(log(4 / level) / (2 n_y)).

    Args:
        prior: P(y = +1) in (0, 1), (...).
        counts: points of each class, [negative, positive], (..., 2).
        level: in (0, 1), (...); nan outside.

    References:
        massart1990dkw; theory document T29; new.
    """
    level = _level(level)
    counts = jnp.asarray(counts).astype(level.dtype)
    misses = jnp.sqrt(jnp.log(4 / level)[..., None] / (2 * counts))
    bound: jax.Array = 2 * (prior * misses[..., 1] + (1 - prior) * misses[..., 0])
    return bound


@checked_arguments
def median_deviation(trials: Any, alpha: Any) -> jax.Array:
    """Returns the asymptotic standard deviation of the median of n unit stable variables, (...).

    1 / (2 f(0) sqrt(n)) with f(0) = Gamma(1 + 1 / alpha) / pi: it falls with n for every alpha.

    Args:
        trials: n > 0, (...).
        alpha: stability index in (0, 2], (...); nan outside.

    References:
        theory document T29; zolotarev1986stable for f(0).

    >>> print(f"{median_deviation(100, 1.0) * 20 / jnp.pi:.4f}")
    1.0000
    """
    alpha = jnp.asarray(alpha, jnp.result_type(float, alpha))
    alpha = jnp.where((alpha > 0) & (alpha <= 2), alpha, jnp.nan)
    # The density at zero in closed form: the tabulated law begins at alpha = 0.1, this holds below.
    density = jnp.exp(gammaln(1 + 1 / alpha)) / math.pi
    return 1 / (2 * density * jnp.sqrt(jnp.asarray(trials).astype(alpha.dtype)))


@checked_arguments
def mean_scale(trials: Any, alpha: Any) -> jax.Array:
    """Returns the scale of the mean of n unit stable variables, n^(1 / alpha - 1), (...).

    It grows with n for alpha < 1 and does not change at 1, so that means of such classes are not
    found by averaging; see `median_deviation`.

    Args:
        trials: n > 0, (...).
        alpha: stability index in (0, 2], (...); nan outside.

    References:
        theory document T29; zolotarev1986stable.

    >>> print(f"{mean_scale(100, 0.5):.3f}")
    100.000
    """
    alpha = jnp.asarray(alpha, jnp.result_type(float, alpha))
    alpha = jnp.where((alpha > 0) & (alpha <= 2), alpha, jnp.nan)
    return jnp.exp(jnp.log(jnp.asarray(trials).astype(alpha.dtype)) * (1 / alpha - 1))
