"""The intercept that is optimal when the coefficient of same-class mixup is drawn at random.

The mixed law is then a scale mixture: Beta(a, a) is replaced by nodes, on which it is exact to
rounding, and the risk on the line is searched for its lowest minimum (theory document T24, T25).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, logsumexp

from theory import stable
from theory.numerics.arguments import checked_arguments
from theory.numerics.root import bracketed_root
from theory.rules.intercept import Shift, optimal_shift
from theory.rules.risk import ClassRisks

# As many as make the midpoint rule exact to rounding for every concentration and stability index.
_NODES = 48
# Fine enough to separate the minima; of those that are separated the lowest wins.
_SCAN = 129


class ScaleLaw(NamedTuple):
    """A law of scale factors on finitely many nodes, (nodes, ...)."""

    factors: jax.Array
    log_weights: jax.Array


@checked_arguments
def coefficient_law(concentration: jax.Array, alpha: jax.Array | float) -> ScaleLaw:
    """Returns nodes for the scale factor (lambda^alpha + (1 - lambda)^alpha)^(1 / alpha).

    The midpoint rule in tau, where the log-odds of lambda are sinh(tau): exponentially accurate
    for every a and alpha, unlike Gauss-Jacobi's, which lambda^alpha spoils at the ends.

    Args:
        concentration: a > 0, (...); nan elsewhere.
        alpha: stability index, (...), 2 for Gaussian noise.
    """
    concentration = jnp.where(concentration > 0, concentration, jnp.nan)
    # Up to log-odds at which the Beta density has fallen by exp(-39).
    half = 39 / (2 * concentration)
    last = jnp.arcsinh(2 * half + 2 * jnp.log1p(jnp.sqrt(-jnp.expm1(-2 * half))))
    place = (jnp.arange(_NODES, dtype=last.dtype) + 0.5) / _NODES
    # lambda and 1 - lambda have the same law and the same factor: half of the line is enough.
    tau = last[None] * place.reshape((_NODES,) + (1,) * last.ndim)
    odds = jnp.sinh(tau)
    # log cosh(odds / 2), which a large concentration multiplies.
    near = jnp.log1p(2 * jnp.sinh(jnp.minimum(odds, 1) / 4) ** 2)
    log_cosh = jnp.where(odds < 1, near, odds / 2 + jax.nn.softplus(-odds) - math.log(2))
    log_weights = jnp.log(jnp.cosh(tau)) - 2 * concentration[None] * log_cosh
    # log lambda and log(1 - lambda): near the ends lambda underflows, its logarithm does not.
    smaller, larger = -jax.nn.softplus(odds), -jax.nn.softplus(-odds)
    alpha = jnp.broadcast_to(jnp.asarray(alpha, odds.dtype), odds.shape)
    factors = jnp.exp(jnp.logaddexp(alpha * smaller, alpha * larger) / alpha)
    return ScaleLaw(factors, log_weights - logsumexp(log_weights, 0, keepdims=True))


class _Line(NamedTuple):
    """The problem on a line that the intercept solves, every field (...)."""

    margin: jax.Array
    negative: jax.Array
    positive: jax.Array
    log_ratio: jax.Array
    alpha: jax.Array | None
    law: ScaleLaw

    def averaged(self, log_function: Any, z: jax.Array, power: int) -> jax.Array:
        """Returns log E[function(z / g) / g^power] over the scale factor g."""
        log_weights = self.law.log_weights - power * jnp.log(self.law.factors)
        return logsumexp(log_weights + log_function(z[None] / self.law.factors), 0)

    def log_density(self, z: jax.Array) -> jax.Array:
        return -(z**2) / 2 if self.alpha is None else stable.logpdf(z, self.alpha)

    def log_miss(self, z: jax.Array) -> jax.Array:
        return log_ndtr(-z) if self.alpha is None else stable.logsf(z, self.alpha)

    def slope(self, beta: jax.Array) -> jax.Array:
        """Returns a number of the sign of the derivative of the risk in the intercept."""
        # A difference of logarithms in place of densities: it keeps its sign where both underflow.
        rise = self.averaged(self.log_density, (self.margin - beta) / self.negative, 1)
        fall = self.averaged(self.log_density, (self.margin + beta) / self.positive, 1)
        return self.log_ratio + rise - jnp.log(self.negative) - fall + jnp.log(self.positive)

    def misses(self, beta: jax.Array) -> ClassRisks:
        """Returns the logarithms of R times the negative, and of the positive class risk."""
        return ClassRisks(
            self.log_ratio + self.averaged(self.log_miss, (self.margin - beta) / self.negative, 0),
            self.averaged(self.log_miss, (self.margin + beta) / self.positive, 0),
        )

    def beaten(self, beta: jax.Array) -> jax.Array:
        """Returns whether a constant rule does at least as well, decided on logarithms."""
        miss = self.misses(beta)
        hit_negative = self.log_ratio + self.averaged(
            self.log_miss, -(self.margin - beta) / self.negative, 0
        )
        hit_positive = self.averaged(self.log_miss, -(self.margin + beta) / self.positive, 0)
        return (miss.negative >= hit_positive) | (miss.positive >= hit_negative)


def _gaussian_scan(line: _Line) -> jax.Array:
    """Returns intercepts, (_SCAN, ...), between which the Gaussian minimum lies if there is one.

    Every component of the scale mixture falls left of its own minimum and right of its maximum,
    so the minimum of the mixture lies in the hull of those of the extreme factors, 1 and 1/2^(1/2);
    or, where those with large factors have none, between the minimum and maximum of the least.
    """
    scales = jnp.stack([line.negative, line.positive], -1)
    ratio = jnp.exp(line.log_ratio)
    one, half = (optimal_shift(line.margin, f * scales, ratio).beta for f in (1.0, 0.5**0.5))
    a_negative, a_positive = line.negative**-2, line.positive**-2
    curve = a_negative - a_positive
    odds = line.log_ratio + jnp.log(line.positive / line.negative)
    curved = curve != 0
    turn = 2 * line.margin * (a_negative + a_positive) / jnp.where(curved, curve, 1)
    other = jnp.where(curve * odds < 0, turn - half, one)
    # Both ends a little further out, so that a minimum at an end is bracketed too.
    aside = 1e-3 * (jnp.minimum(line.negative, line.positive) + jnp.abs(half))
    low, high = jnp.minimum(half, other) - aside, jnp.maximum(half, other) + aside
    return jnp.linspace(low, high, _SCAN)


def _stable_scan(line: _Line) -> jax.Array:
    """Returns intercepts, (_SCAN, ...), dense around the centres of both classes and their middle.

    Spaced like sinh, in units of the larger scale, and as far as 10^4 of them.
    """
    unit = jnp.maximum(line.negative, line.positive)
    steps = jnp.sinh(jnp.linspace(-10, 10, _SCAN // 3, dtype=unit.dtype))
    steps = steps.reshape((-1,) + (1,) * unit.ndim) * unit[None]
    margin = line.margin[None]
    return jnp.sort(jnp.concatenate([steps - margin, steps, steps + margin]), 0)


def _lowest_minimum(line: _Line, scan: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the lowest local minimum that the scan separates, and whether there is any."""
    slopes = jax.lax.map(line.slope, scan)
    turns = (slopes[:-1] < 0) & (slopes[1:] >= 0)
    level = jax.lax.map(lambda beta: jnp.logaddexp(*line.misses(beta)), scan)
    lowest = jnp.where(turns, jnp.minimum(level[:-1], level[1:]), jnp.inf)
    best = jnp.argmin(lowest, 0)[None]
    low = jnp.take_along_axis(scan[:-1], best, 0)[0]
    high = jnp.take_along_axis(scan[1:], best, 0)[0]
    # The root is differentiated in what it is given, so the problem goes in as its leaves.
    fields, form = jax.tree.flatten(line)

    def slope(beta: jax.Array, *fields: jax.Array) -> jax.Array:
        at: _Line = jax.tree.unflatten(form, fields)
        return at.slope(beta)

    return bracketed_root(slope, low, high, *fields), jnp.any(turns, 0)


@checked_arguments
def random_shift(
    margin: Any, scales: jax.Array, ratio: Any, concentration: Any, alpha: Any = None
) -> Shift:
    """Returns the intercept that minimises the risk on pairs with coefficients of Beta(a, a).

    Args and result are those of `theory.fairness.mixup.mixed_shift`; everything broadcasts, and
    beta is infinite, with the sign of the label, where there is no local minimum.

    References:
        theory document T24 (Gaussian; new), T25 (stable; new).
    """
    fields = [jnp.asarray(v, scales.dtype) for v in (margin, ratio, concentration)]
    index = jnp.asarray(2 if alpha is None else alpha, scales.dtype)
    shape = jnp.broadcast_shapes(scales.shape[:-1], index.shape, *(f.shape for f in fields))
    margin, ratio, concentration = (jnp.broadcast_to(field, shape) for field in fields)
    negative, positive = (jnp.broadcast_to(scales[..., k], shape) for k in (0, 1))
    law = coefficient_law(concentration, jnp.broadcast_to(index, shape))
    stability = None if alpha is None else index
    line = _Line(margin, negative, positive, jnp.log(ratio), stability, law)
    scan = _gaussian_scan(line) if alpha is None else _stable_scan(line)
    beta, local = _lowest_minimum(line, jax.lax.stop_gradient(scan))
    trivial = ~local | line.beaten(beta)
    if alpha is None:
        # With equal scales a constant rule is optimal exactly past the margin (T4): not left to
        # the rounding of two nearly equal risks.
        trivial = jnp.where(negative == positive, margin <= 0, trivial)
    known = ~jnp.isnan(line.slope(jnp.zeros_like(beta)))
    label = jnp.where(ratio >= 1, -1, 1)
    beta = jnp.where(local, beta, jnp.where(ratio >= 1, -jnp.inf, jnp.inf))
    return Shift(jnp.where(known, beta, jnp.nan), trivial & known, label, local & known)
