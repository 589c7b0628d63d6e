"""Class distance and robust fairness: two Gaussian classes, any attack, any weights, closed forms.

Whatever the attack and the shared covariance, a linear rule sees one number, the distance delta
that the attack leaves between the classes, in standard deviations of the negative class. With
K = s_+ / s_- and rho the ratio of the class weights (prior times loss weight, negative over
positive) the optimal margins u_+ and u_-, in standard deviations of each class, satisfy

    K u_+ + u_- = delta,    u_-^2 - u_+^2 = 2 log(K rho),

and the class errors are Phi(-u_+) and Phi(-u_-) (Lee et al. 2024 and Xu et al. 2021 study
rho = 1; the rest is new; theory document A1-A4).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from theory.numerics.arguments import checked_arguments
from theory.numerics.broadcast import broadcast
from theory.numerics.noun import of_arrays
from theory.problem import GaussianMixture, Threat
from theory.rules.direction import Quality, optimal_direction
from theory.rules.intercept import optimal_shift
from theory.rules.risk import ClassRisks, dual_norm, projection_scale


class Distance(NamedTuple):
    """What an attack leaves of the difference of two class means.

    Args:
        value: max(signed, 0), the least Mahalanobis length of Delta - z over ||z||_p <= 2 radius,
            (...).
        signed: the largest (w . Delta - 2 radius ||w||_q) / sqrt(w' Sigma w) over directions w,
            (...); negative where the attack can swap the class means, nan where they coincide.
        cost: ||w||_q / sqrt(w' Sigma w), by how much a unit of radius moves a class, (...).
        weight: the direction w, (..., d); nan where the class means coincide.
        degenerate: no direction has a positive robust margin, (...).
        flag: the `Quality` of the direction, (...).
    """

    value: Array
    signed: Array
    cost: Array
    weight: Array
    degenerate: Array
    flag: Array


class Margins(NamedTuple):
    """Distance from each robustly shifted class mean to the threshold, in sds of the class.

    Args:
        negative, positive: u_- and u_+, (...); infinite for a constant rule, zero on a tie.
        interior: the threshold is finite; otherwise the rule is constant or there is a tie.
        tie: both constant rules are optimal and nothing else is; each class error counts as 1/2.
    """

    negative: Array
    positive: Array
    interior: Array
    tie: Array


class Budgets(NamedTuple):
    """Attack cost of each class: radius * `Distance.cost` over s_-, the negative scale, (...)."""

    negative: ArrayLike
    positive: ArrayLike


@checked_arguments
@of_arrays("gap", "covariance")
def effective_distance(gap: ArrayLike, threat: Threat, covariance: Array | None = None) -> Distance:
    """Returns the distance that an attack leaves between two classes, for any l_p and covariance.

    It is min of sqrt((Delta - z)' Sigma^-1 (Delta - z)) over ||z||_p <= 2 radius, attained by the
    rule w = Sigma^-1 (Delta - z): soft thresholding against l_inf, shrinking against l_2, clipping
    against l_1 (identity Sigma). Divide by s_- for the other functions of this module. For class
    radii r_+ and r_- pass their mean.

    Args:
        gap: Delta, the positive minus the negative class mean, (..., d).
        threat: any l_p ball; its radius broadcasts with the leading axes.
        covariance: shared shape Sigma, (..., d, d), symmetric positive definite; None is identity.

    Raises:
        InvalidInput: for a negative radius or a covariance that is not symmetric positive definite.

    References:
        bhagoji2019lowerbounds; dan2020sharp; new for any covariance; theory document A1.

    >>> from theory.problem import L2Ball
    >>> found = effective_distance(jnp.asarray([3.0, 4.0]), L2Ball(1.0))  # 5 - 2
    >>> round(float(found.value), 6), bool(found.degenerate)
    (3.0, False)
    """
    (gap,) = broadcast(gap)
    shared = () if covariance is None else jnp.shape(covariance)[:-2]
    batch = jnp.broadcast_shapes(gap.shape[:-1], shared)
    # Half the gap on either side, so that the margin of the mixture is half the distance.
    one = jnp.ones((), gap.dtype)
    means = jnp.stack([-gap / 2, gap / 2], -2)
    mixture = GaussianMixture(means, jnp.ones((*batch, 2), gap.dtype), one / 2, covariance)
    direction = optimal_direction(mixture, threat)
    coincide = jnp.all(gap == 0, -1) & (direction.flag == int(Quality.DEGENERATE))
    signed = 2 * direction.margin
    # nan only as there is no direction: the distance between equal means is zero all the same.
    value = jnp.where(coincide, 0, jnp.maximum(jnp.where(coincide, 0, signed), 0))
    cost = dual_norm(threat, direction.weight) / projection_scale(mixture, direction.weight)
    return Distance(value, signed, cost, direction.weight, ~(signed > 0), direction.flag)


@of_arrays("distance", "scale_ratio", "weight_ratio")
@jax.jit
def optimal_margins(
    distance: ArrayLike, scale_ratio: ArrayLike, weight_ratio: ArrayLike = 1.0
) -> Margins:
    """Returns the margins u_- and u_+ of the threshold of least weighted robust error.

    Both constant rules are compared. With equal weights and unequal scales the threshold is finite
    at every distance, negative ones included; with equal scales it is from distance > 0 on.

    Args:
        distance: delta = `Distance.signed` / s_-, any real, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).
        weight_ratio: rho > 0, class weight (prior times loss weight) of the negative over that of
            the positive class, (...).

    Returns:
        Accurate through equal scales; nan out of domain.

    References:
        xu2021robust (rho = 1, positive distance); new; theory document A2.

    >>> margins = optimal_margins(2.0, 1.0, jnp.e)  # delta / 2 -+ log(rho) / delta
    >>> float(margins.negative), float(margins.positive)
    (1.5, 0.5)
    """
    delta, k, rho = broadcast(distance, scale_ratio, weight_ratio)
    shift = optimal_shift(delta / 2, jnp.stack([jnp.ones_like(k), k], -1), rho)
    # No threshold helps, and both constant rules cost the same.
    tie = (k == 1) & (rho == 1) & (delta <= 0)
    known = ~jnp.isnan(shift.beta)
    # Known for equal weights, and so not left to the rounding of two risks near 1/2.
    never_constant = (rho == 1) & (k != 1) & shift.local
    interior = known & (~shift.trivial | never_constant)
    beta = jnp.where(interior, shift.beta, 0)
    negative, positive = _interior_margins(delta, jnp.where(k > 0, k, 1), rho, beta)
    certain = jnp.where(known, jnp.where(tie, 0.0, jnp.inf), jnp.nan).astype(delta.dtype)
    certain = jnp.where(shift.label > 0, certain, -certain)
    return Margins(
        jnp.where(interior, negative, -certain),
        jnp.where(interior, positive, certain),
        interior,
        tie & known,
    )


def _spread(delta: Array, k: Array, rho: Array) -> Array:
    """Returns S = u_+ + K u_-, the square root in both margins, zero where it is imaginary."""
    tilt = jnp.log(k) + jnp.log(jnp.where(rho > 0, rho, 1))
    square = delta * delta + 2 * (k - 1) * (k + 1) * tilt
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _interior_margins(delta: Array, k: Array, rho: Array, beta: Array) -> tuple[Array, Array]:
    """Returns (u_-, u_+): for delta > 0 by quotients without cancellation, else by intercept.

    K u_+ + u_- = delta and the root S = u_+ + K u_- give u_- = (K S - delta) / (K^2 - 1), which is
    0 / 0 at equal scales; extended by K S + delta the factor K^2 - 1 cancels, and likewise for u_+.
    """
    spread = _spread(delta, k, rho)
    tilt = jnp.log(k) + jnp.log(jnp.where(rho > 0, rho, 1))
    forward = (delta > 0) & (spread > 0)
    below = jnp.where(forward, k * spread + delta, 1)
    above = jnp.where(forward, k * delta + spread, 1)
    square = delta * delta
    return (
        jnp.where(forward, (square + 2 * k * k * tilt) / below, delta / 2 - beta),
        jnp.where(forward, (square - 2 * tilt) / above, (delta / 2 + beta) / k),
    )


def _errors(margins: Margins) -> ClassRisks:
    return ClassRisks(ndtr(-margins.negative), ndtr(-margins.positive))


@of_arrays("distance", "scale_ratio", "weight_ratio")
def class_errors(
    distance: ArrayLike, scale_ratio: ArrayLike, weight_ratio: ArrayLike = 1.0
) -> ClassRisks:
    """Returns the class-wise robust errors of the optimal linear rule, Phi(-u_-) and Phi(-u_+).

    With a distance of radius zero they are its natural errors.

    Args:
        distance: delta = `Distance.signed` / s_-, any real, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).
        weight_ratio: rho > 0, as for `optimal_margins`, (...).

    References:
        xu2021robust; lee2024dafa; theory document A2.

    >>> errors = class_errors(3.0, 2.0, 0.5)  # K rho = 1 is fair: Phi(-3 / (2 + 1))
    >>> [round(float(error), 6) for error in errors]
    [0.158655, 0.158655]
    """
    return _errors(optimal_margins(distance, scale_ratio, weight_ratio))


@checked_arguments
@of_arrays("clean_distance", "scale_ratio", "test", "weight_ratio")
def transferred_errors(
    clean_distance: ArrayLike,
    scale_ratio: ArrayLike,
    train: Budgets,
    test: ArrayLike = 0.0,
    weight_ratio: ArrayLike = 1.0,
) -> ClassRisks:
    """Returns the class errors at one attack cost of the rule trained at others.

    Test cost 0 gives the clean errors of the robust rule; training costs 0 give the robust errors
    of the natural rule. The direction must be the same at all of them: any gap against l_2, equal
    coordinates against l_inf.

    Args:
        clean_distance: delta_0, the distance at radius zero over s_-, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).
        train: costs that each class was trained against, (...).
        test: the cost that both classes are attacked with, (...).
        weight_ratio: rho > 0, as for `optimal_margins`, (...).

    References:
        xu2021robust; new for class radii; theory document A3, A5.

    >>> errors = transferred_errors(4.0, 1.0, Budgets(1.0, 1.0), 1.0)  # Phi(-4 / 2 + 1)
    >>> round(float(errors.positive), 6)
    0.158655
    """
    delta, k, minus, plus, test, rho = broadcast(
        clean_distance, scale_ratio, train.negative, train.positive, test, weight_ratio
    )
    # The threshold is that of the training costs; each class is then moved back by what it was
    # trained for and out by the test cost. A tie stays one: it has no threshold to be moved from.
    margins = optimal_margins(delta - minus - plus, k, rho)
    moved = margins._replace(
        negative=margins.negative + jnp.where(margins.tie, 0, minus - test),
        positive=margins.positive + jnp.where(margins.tie, 0, plus - test) / k,
    )
    return _errors(moved)


@of_arrays("distance", "scale_ratio", "weight_ratio")
def class_error_slopes(
    distance: ArrayLike, scale_ratio: ArrayLike, weight_ratio: ArrayLike = 1.0
) -> ClassRisks:
    """Returns the derivatives of `class_errors` in the distance, exact and regular at K = 1.

    dR_-/d delta = -phi(u_-) u_+ / S and dR_+/d delta = -phi(u_+) u_- / S with S = u_+ + K u_-: a
    class's error rises exactly where the other class's margin is negative. Zero for constant rules.

    Args:
        distance: delta = `Distance.signed` / s_-, any real, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).
        weight_ratio: rho > 0, as for `optimal_margins`, (...).

    References:
        new; theory document A4.a in a form without the pole at K = 1.

    >>> slopes = class_error_slopes(2.0, 1.0)  # -phi(1) / 2
    >>> round(float(slopes.negative), 6)
    -0.120985
    """
    delta, k, rho = broadcast(distance, scale_ratio, weight_ratio)
    margins = optimal_margins(delta, k, rho)
    spread = _spread(delta, jnp.where(k > 0, k, 1), rho)
    inside = margins.interior & (spread > 0)

    def slope(own: Array, other: Array) -> Array:
        own, other = jnp.where(inside, own, 0), jnp.where(inside, other, 0)
        value = -norm.pdf(own) * other / jnp.where(inside, spread, 1)
        return jnp.where(jnp.isnan(margins.negative), jnp.nan, value)

    return ClassRisks(
        slope(margins.negative, margins.positive), slope(margins.positive, margins.negative)
    )
