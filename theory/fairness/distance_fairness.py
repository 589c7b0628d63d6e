"""Distance and fairness: where closeness makes robust accuracy unequal, and what removes it.

For the two Gaussian classes of `theory.fairness.distance`: the exact region of the published
statements, the loss weight that is fair at every distance and radius, its price, and what unequal
training radii can and cannot do (Lee et al. 2024; mostly new; theory document A4).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr, ndtri
from jax.typing import ArrayLike

from theory.fairness.distance import class_errors, optimal_margins
from theory.numerics.broadcast import broadcast
from theory.numerics.noun import of_arrays


class DisparityRegion(NamedTuple):
    """Where the published statements on distance hold, booleans (...), all False out of domain.

    Args:
        disparity_falls: |R_+ - R_-| falls strictly as the distance grows.
        no_disparity: R_+ = R_- at every distance.
        negative_rises, positive_rises: this class's error *rises* as the distance grows.
    """

    disparity_falls: Array
    no_disparity: Array
    negative_rises: Array
    positive_rises: Array


class Equaliser(NamedTuple):
    """The radius multiplier of the wide class that brings the class errors closest.

    Args:
        multiplier: by which the wide class's training radius exceeds the other's, (...).
        reachable: it makes the errors equal; otherwise any larger multiplier widens the gap.
    """

    multiplier: Array
    reachable: Array


@of_arrays("distance", "scale_ratio", "weight_ratio")
def disparity_region(
    distance: ArrayLike, scale_ratio: ArrayLike, weight_ratio: ArrayLike = 1.0
) -> DisparityRegion:
    """Returns where 'distance is what makes robust accuracy unfair' is a theorem, and where not.

    The absolute disparity |R_+ - R_-| falls with distance for every K and rho but K rho = 1, where
    it is zero. The error of the favoured class does not: for log(K rho) > 0 the negative class's
    rises while distance < sqrt(2 log(K rho)), and otherwise the positive class's while distance <
    K sqrt(2 |log(K rho)|); see `peak_error`. The ratio R_+ / R_- tends to K, not to 1.

    Args:
        distance: delta, what the attack leaves over s_-, any real, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).
        weight_ratio: rho > 0, as for `optimal_margins`, (...).

    References:
        lee2024dafa for the statement; new for the region; theory document A4.a, A4.c, A4.d.

    >>> [bool(field) for field in disparity_region(1.0, 2.0)]  # sqrt(2 log 2) = 1.18
    [True, False, True, False]
    """
    margins = optimal_margins(distance, scale_ratio, weight_ratio)
    _, k, rho = broadcast(distance, scale_ratio, weight_ratio)
    # Signs of margins, not of distances less a peak: what decides are the numbers that the class
    # errors come from, so that region and errors never disagree by rounding.
    fair = margins.interior & (k * rho == 1)
    return DisparityRegion(
        margins.interior & ~fair,
        fair,
        margins.interior & (margins.positive < 0),
        margins.interior & (margins.negative < 0),
    )


@of_arrays("scale_ratio", "weight_ratio")
def peak_error(scale_ratio: ArrayLike, weight_ratio: ArrayLike = 1.0) -> tuple[Array, Array]:
    """Returns the largest error the favoured class has at any distance, and that distance.

    Phi(-sqrt(2 |log(K rho)|)), at sqrt(2 log(K rho)) where the negative class is favoured and at
    K sqrt(2 |log(K rho)|) where the positive one is: (...), (...). For equal weights a bound at
    every distance; for others, wherever the threshold is finite.

    Args:
        scale_ratio: K = s_+ / s_- > 0, (...).
        weight_ratio: rho > 0, as for `optimal_margins`, (...).

    References:
        new; theory document A4.c.

    >>> error, distance = peak_error(jnp.exp(0.5))
    >>> round(float(error), 6), round(float(distance), 6)  # Phi(-1)
    (0.158655, 1.0)
    """
    k, rho = broadcast(scale_ratio, weight_ratio)
    tilt = jnp.log(k) + jnp.log(rho)
    tilted = tilt != 0
    # The guarded square root has derivative zero, not infinity, where nobody is favoured.
    margin = jnp.where(tilted, jnp.sqrt(2 * jnp.where(tilted, jnp.abs(tilt), 1)), 0)
    margin = jnp.where((k > 0) & (rho > 0), margin, jnp.nan)
    return ndtr(-margin), margin * jnp.where(tilt < 0, k, 1)


@of_arrays("scale_ratio", "imbalance_ratio")
def fair_weight(scale_ratio: ArrayLike, imbalance_ratio: ArrayLike = 1.0) -> Array:
    """Returns the loss weight of the positive over that of the negative class that is fair.

    K R equalises the class-wise robust errors at every distance and radius at which the optimal
    rule is not constant, that is from `least_fair_distance` on, and there also minimises the
    larger one among linear rules.

    Args:
        scale_ratio: K = s_+ / s_- > 0, (...).
        imbalance_ratio: R = P(y = -1) / P(y = +1) > 0, (...).

    References:
        new; theory document A4.h, which leaves the constant rule out.

    >>> float(fair_weight(2.0, 3.0))
    6.0
    """
    k, ratio = broadcast(scale_ratio, imbalance_ratio)
    return jnp.where((k > 0) & (ratio > 0), k * ratio, jnp.nan)


@of_arrays("scale_ratio")
def least_fair_distance(scale_ratio: ArrayLike) -> Array:
    """Returns the distance down to which the loss weight K is fair; below, it favours one class.

    (K + 1) z with Phi(z) = max(K, 1) / (K + 1), (...): closer than that, always answering the
    wide class, whose weight K is the larger, costs less than Phi(-delta / (K + 1)) in both. Zero
    for equal scales. A logit offset, which is not trained, is fair at every distance.

    Args:
        scale_ratio: K = s_+ / s_- > 0, (...).

    References:
        new; corrects theory document A4.h.

    >>> round(float(least_fair_distance(2.0)), 6)  # 3 Phi^-1(2 / 3)
    1.292182
    """
    (k,) = broadcast(scale_ratio)
    valid = k > 0
    k = jnp.where(valid, k, 1)
    return jnp.where(valid, (k + 1) * ndtri(jnp.maximum(k, 1) / (k + 1)), jnp.nan)


@of_arrays("distance", "scale_ratio")
def fair_error(distance: ArrayLike, scale_ratio: ArrayLike) -> Array:
    """Returns the error that both classes have under the fair rule, Phi(-delta / (K + 1)), (...).

    That rule has the threshold between the classes whose margins are equal, however it is found.

    Args:
        distance: delta, what the attack leaves over s_-, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).

    References:
        new; theory document A4.h.

    >>> round(float(fair_error(3.0, 2.0)), 6)
    0.158655
    """
    delta, k = broadcast(distance, scale_ratio)
    return ndtr(-delta / jnp.where(k > 0, k + 1, jnp.nan))


@of_arrays("distance", "scale_ratio")
def fairness_price(distance: ArrayLike, scale_ratio: ArrayLike) -> Array:
    """Returns by how much the fair rule's mean class error exceeds the least one, >= 0, (...).

    Args:
        distance: delta, what the attack leaves over s_-, (...).
        scale_ratio: K = s_+ / s_- > 0, (...).

    References:
        new; theory document A4.h.
    """
    least = class_errors(distance, scale_ratio)
    return fair_error(distance, scale_ratio) - (least.negative + least.positive) / 2


@of_arrays("clean_distance", "scale_ratio", "cost")
def radius_equaliser(
    clean_distance: ArrayLike, scale_ratio: ArrayLike, cost: ArrayLike
) -> Equaliser:
    """Returns by how much to enlarge the wide class's training radius for equal class errors.

    Equal weights; both classes are attacked with `cost` afterwards, at which the distance is
    delta = delta_0 - 2 cost. Radii alone reach equality only for delta >= (b + 1) sqrt(2 log b) in
    units of the narrow class's sd, b = max(K, 1/K); below, the training distance sqrt(2 log b) of
    the same units is the best there is. (Closed form: u_- = delta / (K + 1), and u_+ from it.)

    Args:
        clean_distance: delta_0 > 2 cost, (...); otherwise nan.
        scale_ratio: K > 0, (...). The wide class is the positive one if K > 1.
        cost: attack cost > 0 at test time and of the narrow class in training, sds of s_-, (...).

    References:
        new; theory document A4.i.

    >>> found = radius_equaliser(6.0, 2.0, 0.5)  # 11 - 2 (5 / 3 + 2 sqrt(25 / 9 - 2 log 2))
    >>> round(float(found.multiplier), 4), bool(found.reachable)
    (2.9482, True)
    """
    clean, k, cost = broadcast(clean_distance, scale_ratio, cost)
    distance = clean - 2 * cost
    valid = (k > 0) & (cost > 0) & (distance > 0)
    k = jnp.where(valid, k, 1)
    log_ratio = jnp.abs(jnp.log(k))
    fair = jnp.where(valid, distance / (k + 1), 1)
    excess = fair * fair - 2 * log_ratio
    reachable = excess >= 0
    # u_narrow^2 - u_wide^2 = 2 log b at every optimum. Equality wants the fair rule's u_narrow;
    # where its square is below 2 log b, the least that there is, at u_wide = 0, comes closest.
    narrow = jnp.where(reachable, fair, jnp.sqrt(2 * jnp.where(reachable, 1, log_ratio)))
    wide = jnp.where(excess > 0, jnp.sqrt(jnp.where(excess > 0, excess, 1)), 0)
    trained = jnp.where(k >= 1, k * wide + narrow, k * narrow + wide)
    # The training distance is what the two costs leave: trained = clean - cost - multiplier * cost.
    multiplier = (clean - cost - trained) / jnp.where(valid, cost, 1)
    return Equaliser(jnp.where(valid, multiplier, jnp.nan), reachable & valid)
