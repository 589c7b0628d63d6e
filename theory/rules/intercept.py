"""Intercepts of optimal rules: risk-optimal and fair, and the priors at which a constant rule wins.

Everything is in reduced coordinates (theory document T0): at margin t and intercept beta the class
risks are r_+ = F(-(t + beta) / s_+) and r_- = F(-(t - beta) / s_-), with F standard normal or
standard symmetric alpha-stable.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr
from jax.typing import ArrayLike

from theory import stable
from theory.numerics.noun import of_arrays
from theory.rules import critical_ratio as critical
from theory.rules import intercept_minimum
from theory.rules.risk import ClassRisks

LEAST_INDEX = 0.1  # of the stable law's tables


class Shift(NamedTuple):
    """The intercept of least risk at a given margin, each field (...).

    Args:
        beta: the finite local minimum of least risk, in units of the projection's scale, or
            infinite with the sign of `label` where there is none. nan: the input is out of domain.
        trivial: a constant rule is optimal, so beta is only local; False out of domain.
        label: what the best constant rule answers, -1 or +1.
        local: a finite local minimum exists. Where `trivial` too, a descent method may stop there.
    """

    beta: jax.Array
    trivial: jax.Array
    label: jax.Array
    local: jax.Array


@of_arrays("margin", "scales", "ratio", "alpha")
@jax.jit
def optimal_shift(
    margin: ArrayLike, scales: ArrayLike, ratio: ArrayLike, alpha: ArrayLike | None = None
) -> Shift:
    """Returns the intercept that minimises the risk at a given margin.

    In closed form for the Gaussian law and, by value, for alpha = 2 and alpha = 1; otherwise
    bracketed by a scan of the half-line problem and refined to rounding. The scan does not depend
    on the ratio: give many ratios an axis of their own and it is done once for all of them.

    Args:
        margin: t, the margin in units of the projection's scale, any real, (...).
        scales: class scales [negative, positive] > 0, (..., 2).
        ratio: imbalance ratio R = P(y = -1) / P(y = +1) in (0, inf), (...).
        alpha: None for Gaussian noise of unit variance; otherwise the stability index in
            [0.1, 2], (...), of noise with characteristic function exp(-|u|^alpha), for which
            alpha = 2 is a Gaussian of variance 2. 0-d is fastest.

    Returns:
        The optimum, with all arguments broadcast; beta is nan where one is out of its domain.
        A constant rule is never optimal for equal scales, a Gaussian and a positive margin; always
        for equal scales and margin <= 0; never for unequal scales at R = 1. Decided on logarithms,
        so it is right where both risks round to the same number.

    References:
        hu2023accuracydisparity; theory document T4, T5 (Gaussian; new for general ratio and
        margin <= 0), T17, T19 (stable; new).

    >>> shift = optimal_shift(1.0, jnp.ones(2), jnp.e)
    >>> float(shift.beta), bool(shift.trivial)
    (-0.5, False)
    >>> cauchy = optimal_shift(1.0, jnp.ones(2), 5.0, 1.0)  # u^2 - 3 u + 2 = 0, with u = -beta
    >>> print(f"{cauchy.beta:.6f}", bool(cauchy.local), bool(cauchy.trivial))
    -1.000000 True True
    """
    # Whether there is an index is known when traced: the Gaussian law compiles no table.
    margin, negative, positive, ratio, index = _aligned(margin, scales, ratio, alpha)
    if index is None:
        shift = _gaussian_optimum(margin, negative, positive, ratio)
    else:
        shift = _stable_optimum(margin, negative, positive, ratio, index)
    valid = jnp.isfinite(margin) & (ratio > 0) & jnp.isfinite(ratio)
    for scale in (negative, positive):
        valid &= (scale > 0) & jnp.isfinite(scale)
    beta = jnp.where(valid, shift.beta, jnp.nan)
    # A nan margin compares as False with anything: without this, flags would look like answers.
    known = ~jnp.isnan(beta)
    fields = beta, shift.trivial & known, shift.label, shift.local & known
    return Shift(*jnp.broadcast_arrays(*fields))


@of_arrays("margin", "scales", "alpha")
def shift_risks(
    shift: Shift, margin: ArrayLike, scales: ArrayLike, alpha: ArrayLike | None = None
) -> ClassRisks:
    """Returns the class risks, at any margin, of the rule that a `Shift` describes.

    Args:
        shift: from `optimal_shift`, at the margin the rule was chosen for, each field (...).
        margin: at which the rule is evaluated: with another radius than it was chosen for, the
            natural margin for instance, (...).
        scales, alpha: as for `optimal_shift`.

    Returns:
        F(-(m + beta) / s_+) and F(-(m - beta) / s_-), or 0 and 1 for a constant rule, each (...);
        accurate relative to their size. nan where beta is.

    References:
        theory document T0.

    >>> shift = optimal_shift(1.0, jnp.ones(2), 5.0, 1.0)
    >>> [float(r) for r in shift_risks(shift, 1.0, jnp.ones(2), 1.0)]  # always -1
    [0.0, 1.0]
    """
    margin, negative, positive, _, index = _aligned(margin, scales, 1.0, alpha)
    survival = (lambda x: ndtr(-x)) if index is None else (lambda x: stable.sf(x, index))
    # beta may be infinite where the rule is constant: 0 in its place keeps gradients finite.
    beta = jnp.where(shift.trivial, 0, shift.beta)
    margin = jnp.broadcast_to(margin, jnp.broadcast_shapes(margin.shape, beta.shape))
    wrong_negative = jnp.where(shift.label < 0, 0.0, 1.0).astype(beta.dtype)
    return ClassRisks(
        jnp.where(shift.trivial, wrong_negative, survival((margin - beta) / negative)),
        jnp.where(shift.trivial, 1 - wrong_negative, survival((margin + beta) / positive)),
    )


@of_arrays("margin", "scales")
def fair_shift(margin: ArrayLike, scales: ArrayLike) -> jax.Array:
    """Returns the intercept at which both classes have the same risk, F(-2 t / (s_+ + s_-)).

    For t > 0 it also minimises the larger class risk, whatever the symmetric law F.

    Args:
        margin: t, in units of the projection's scale, any real, (...).
        scales: class scales [negative, positive] > 0, (..., 2); otherwise nan.

    Returns:
        In the same units, broadcast (...).

    References:
        new; theory document T12.

    >>> float(fair_shift(3.0, jnp.asarray([1.0, 2.0])))
    1.0
    """
    margin, negative, positive, _, _ = _aligned(margin, scales, 1.0, None)
    beta = margin * (positive - negative) / (positive + negative)
    return jnp.where((negative > 0) & (positive > 0), beta, jnp.nan)


@of_arrays("margin", "scales", "alpha")
@jax.jit
def critical_ratio(
    margin: ArrayLike, scales: ArrayLike, alpha: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
    """Returns the imbalance ratios (low, high) strictly between which no constant rule is optimal.

    high is the supremum over beta of F((t + beta) / s_+) / F(-(t - beta) / s_-): how many correct
    answers in the positive class a finite intercept buys for each error in the negative one. low
    is the inverse of its mirror image.

    Args:
        margin: t, in units of the projection's scale, any real, (...).
        scales: class scales [negative, positive] > 0, (..., 2).
        alpha: None for Gaussian noise of unit variance, or the stability index in [0.1, 2], (...).

    Returns:
        Numbers in [0, inf], low <= high, both (...); nan out of domain. Equal scales and margin
        <= 0 give (1, 1). For a Gaussian with equal scales and margin > 0 they are (0, inf).

    References:
        new; theory document T5, T17.

    >>> low, high = critical_ratio(0.5, jnp.ones(2), 1.0)
    >>> print(f"{low:.4f} {high:.4f}")
    0.5000 2.0000
    """
    margin, negative, positive, _, index = _aligned(margin, scales, 1.0, alpha)
    valid = jnp.isfinite(margin) & (negative > 0) & (positive > 0)
    # Mirrored, x -> -x, the classes change places: low is 1 / high of the mirror image.
    both = jnp.stack(jnp.broadcast_arrays(negative, positive))
    # A loop over the problem and its mirror image, so that the law is compiled once.
    log_high, mirrored = jax.lax.map(
        lambda scales: critical.log_ratio(margin, scales[0], scales[1], index),
        jnp.stack([both, both[::-1]]),
    )
    return (
        jnp.where(valid, jnp.exp(-mirrored), jnp.nan),
        jnp.where(valid, jnp.exp(log_high), jnp.nan),
    )


def _aligned(
    margin: ArrayLike, scales: ArrayLike, ratio: ArrayLike, alpha: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Returns margin, both scales, ratio and alpha in one floating dtype and of one rank."""
    given = [margin, scales, ratio] + ([] if alpha is None else [alpha])
    typed = [a for a in given if hasattr(a, "dtype")]
    dtype = jnp.result_type(*typed) if typed else jnp.result_type(float)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    margin, scales, ratio, *index = (jnp.asarray(a).astype(dtype) for a in given)
    fields = [margin, scales[..., 0], scales[..., 1], ratio, *index]
    rank = max(a.ndim for a in fields)
    *aligned, last = (a.reshape((1,) * (rank - a.ndim) + a.shape) for a in fields)
    # A 0-d alpha stays one: it is the fast one.
    aligned.append(fields[-1] if index and not fields[-1].ndim else last)
    margin, negative, positive, ratio, *index = aligned
    return margin, negative, positive, ratio, index[0] if index else None


def _gaussian_optimum(
    margin: jax.Array, negative: jax.Array, positive: jax.Array, ratio: jax.Array
) -> Shift:
    problem = margin, negative, positive, ratio
    gaussian = jnp.asarray(True)
    label = _best_constant(negative, positive, ratio, jnp.zeros_like(ratio), gaussian)
    minimum = intercept_minimum.gaussian(*problem)
    thresholds = intercept_minimum.against_constant(minimum.beta, label, margin, negative, positive)
    wrong, right = jax.lax.map(lambda x: log_ndtr(-x), thresholds)
    return _judged(minimum, label, wrong, right, gaussian, *problem)


def _stable_optimum(
    margin: jax.Array,
    negative: jax.Array,
    positive: jax.Array,
    ratio: jax.Array,
    alpha: jax.Array,
) -> Shift:
    problem = margin, negative, positive, ratio
    gaussian = alpha == 2
    # Far out the density of a stable law falls as s^alpha |x|^(-1 - alpha).
    tails = jnp.log(ratio) + alpha * jnp.log(negative / positive)
    label = _best_constant(negative, positive, ratio, tails, gaussian)
    minimum, logs = intercept_minimum.scanned(*problem, label, alpha)
    shift = _judged(minimum, label, *logs, gaussian, *problem)
    in_domain = (alpha >= LEAST_INDEX) & (alpha <= 2)
    return shift._replace(beta=jnp.where(in_domain, shift.beta, jnp.nan))


def _best_constant(
    negative: jax.Array,
    positive: jax.Array,
    ratio: jax.Array,
    tails: jax.Array,
    gaussian: jax.Array,
) -> jax.Array:
    """Returns the only constant answer that can be optimal, by the weight of the far tails.

    `tails` is the logarithm of R (s_- / s_+)^alpha; Gaussian tails are decided by the scales.
    """
    weight = jnp.where(gaussian, negative - positive, tails)
    return jnp.where(weight == 0, jnp.where(ratio >= 1, -1, 1), jnp.where(weight > 0, -1, 1))


def _judged(
    minimum: intercept_minimum.Minimum,
    label: jax.Array,
    wrong: jax.Array,
    right: jax.Array,
    gaussian: jax.Array,
    margin: jax.Array,
    negative: jax.Array,
    positive: jax.Array,
    ratio: jax.Array,
) -> Shift:
    """Returns the shift, after comparing the finite minimum with always answering `label`.

    `wrong` and `right` are the logarithms of `intercept_minimum.against_constant`.
    """
    beta, exists = minimum
    silent = label < 0
    log_ratio = jnp.log(ratio)
    # The constant rule wins if what the finite intercept newly gets wrong weighs no less than what
    # it gets right. Both may underflow, so their logarithms are compared.
    wins = wrong + jnp.where(silent, log_ratio, -log_ratio) >= right
    # What is known for equal scales is not left to rounding.
    equal = negative == positive
    wins = jnp.where(equal & (gaussian | (margin <= 0)), margin <= 0, wins)
    return Shift(jnp.where(exists, beta, label * jnp.inf), ~exists | wins, label, exists)
