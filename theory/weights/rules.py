"""Class-wise rules of other fair adversarial training methods: FRL, CFA, WAT, FAAL and CFOL.

One pure function for each step of each paper, for theory and networks alike. Class axes come last.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from theory.domain import NON_NEGATIVE, REAL, Interval
from theory.numerics.arguments import checked_arguments
from theory.numerics.noun import require_shape, require_values
from theory.numerics.root import bracketed_root
from theory.weights.dafa import as_floating, per_class

_SHARE = Interval.parse("[0, 1]")
_NO_GAP = -1e4  # the logarithm of a gap of zero: far below every bracket
_LOW, _HIGH = -200.0, 60.0


class FairMultipliers(NamedTuple):
    """FRL's Lagrange multipliers, each (..., K): of clean and boundary error, and of the margin."""

    clean: Array
    boundary: Array
    margin: Array


class FairTargets(NamedTuple):
    """What FRL asks for: how far a class may exceed the mean, and how fast multipliers move.

    Args:
        clean, boundary: slack over the mean clean and boundary error.
        rate, margin_rate: step of the error and of the margin multipliers.
        limit: the largest sum of the clean, and of the boundary multipliers.
    """

    clean: float = 0.1
    boundary: float = 0.1
    rate: float = 0.05
    margin_rate: float = 0.2
    limit: float = 0.5


class TradesWeights(NamedTuple):
    """What CFA gives each class: an attack radius, and the share of the robust loss, (..., K)."""

    radius: Array
    robust_share: Array


def _checked(name: str, value: ArrayLike, domain: Interval, meaning: str) -> Array:
    array = as_floating(name, value)
    require_shape(name, array, array.ndim >= 1 and array.shape[-1] >= 1, "(..., K)")
    require_values(name, array, domain, meaning)
    return array


@checked_arguments
def frl_update(
    multipliers: FairMultipliers,
    clean_errors: ArrayLike,
    robust_errors: ArrayLike,
    targets: FairTargets | None = None,
) -> FairMultipliers:
    """Returns FRL's multipliers after one validation: each grows by its class's violation.

    A class violates its constraint by its error minus the mean over classes minus the slack; the
    boundary error is robust minus clean error, and its multiplier moves twice as fast. Clean and
    boundary multipliers are then cut at zero and scaled down to a sum of at most `limit`.

    Args:
        multipliers: those of the step before; zeros at first.
        clean_errors, robust_errors: of each class on validation data, in [0, 1], (..., K).
        targets: None for the defaults of the paper's code (reweighting).

    Raises:
        InvalidInput: for an error outside [0, 1].

    References:
        xu2021robust and its code; theory document B3.

    >>> zero = FairMultipliers(*jnp.zeros((3, 2)))
    >>> grown = frl_update(zero, [0.2, 0.6], [0.2, 0.6])  # 0.05 * (0.6 - 0.4 - 0.1)
    >>> [round(m, 6) for m in grown.clean.tolist()]
    [0.0, 0.005]
    """
    targets = FairTargets() if targets is None else targets
    clean = _checked("clean_errors", clean_errors, _SHARE, "every class's clean error")
    robust = _checked("robust_errors", robust_errors, _SHARE, "every class's robust error")
    # Robust error is clean error plus boundary error: each part has its own constraint.
    boundary = robust - clean
    excess = [
        error - jnp.mean(error, -1, keepdims=True) - slack
        for error, slack in ((clean, targets.clean), (boundary, targets.boundary))
    ]
    return FairMultipliers(
        _within(multipliers.clean + targets.rate * excess[0], targets.limit),
        # Twice the rate, as in the published code.
        _within(multipliers.boundary + 2 * targets.rate * excess[1], targets.limit),
        # Never cut: the factor on the radius that is made of it, `frl_radii`, is.
        multipliers.margin + targets.margin_rate * excess[1],
    )


def _within(multipliers: Array, limit: float) -> Array:
    """Returns multipliers cut at zero, scaled down where they sum to more than the limit."""
    positive = jnp.maximum(multipliers, 0)
    total = jnp.sum(positive, -1, keepdims=True)
    return positive * jnp.where(total > limit, limit / jnp.where(total > limit, total, 1), 1)


@checked_arguments
def frl_weights(multipliers: ArrayLike) -> Array:
    """Returns FRL's class weights 1/K + lambda_i - mean(lambda), of sum one, (..., K).

    Applied to the clean loss with the clean multipliers and to the robust loss with the boundary
    multipliers. None is negative while the multipliers sum to at most one.

    Args:
        multipliers: lambda, the `clean` or the `boundary` ones of `FairMultipliers`, (..., K).

    Raises:
        InvalidInput: for a multiplier that is not finite.

    References:
        xu2021robust and its code; theory document B3.

    >>> [round(w, 6) for w in frl_weights([0.3, 0.1]).tolist()]
    [0.6, 0.4]
    """
    values = _checked("multipliers", multipliers, REAL, "every multiplier (finite)")
    # The code writes 1/K + (K - 1)/K lambda_i - 1/K sum of the other lambda_j: the same number.
    return 1 / values.shape[-1] + values - jnp.mean(values, -1, keepdims=True)


@checked_arguments
def frl_radii(margin: ArrayLike, low: float = 0.98, high: float = 3.0) -> Array:
    """Returns FRL's factor on each class's radius, exp(2 lambda) cut at `low` and `high`, (..., K).

    Args:
        margin: lambda, the margin multipliers, (..., K).
        low, high: the least and the largest factor.

    Raises:
        InvalidInput: for a multiplier that is not finite.

    References:
        xu2021robust and its code (high = 2.5 in its reweighting file); theory document B3.

    >>> frl_radii([0.0, -1.0, 9.0]).round(6).tolist() == [1.0, jnp.asarray(0.98).round(6), 3.0]
    True
    """
    values = _checked("margin", margin, REAL, "every margin multiplier (finite)")
    return jnp.clip(jnp.exp(2 * values), low, high)


@checked_arguments
def cfa_calibration(
    accuracies: ArrayLike,
    radius: ArrayLike,
    regularisation: ArrayLike,
    base: ArrayLike = 0.5,
    regularisation_base: ArrayLike = 0.5,
) -> TradesWeights:
    """Returns CFA's class radii and loss shares from the last epoch's robust training accuracy.

    radius_c = (base + a_c) radius, and the loss (1 - s_c) CE + s_c KL with s = b / (1 + b),
    b = (base + a_c) beta. Hard classes get *smaller* radii: the opposite of DAFA and FRL.

    Args:
        accuracies: robust accuracy of each class on training data, in [0, 1], (..., K).
        radius: of the unweighted attack, >= 0, (...).
        regularisation: beta of TRADES, >= 0, (...).
        base, regularisation_base: lambda_1 and lambda_2, >= 0, (...).

    Raises:
        InvalidInput: for a value out of range.

    References:
        wei2023cfa and its code; theory document B3.

    >>> found = cfa_calibration([0.5, 0.0], 8.0, 6.0)
    >>> found.radius.tolist(), found.robust_share.round(6).tolist()[1] == 0.75
    ([8.0, 4.0], True)
    """
    accuracy = _checked("accuracies", accuracies, _SHARE, "every class's accuracy")
    named = {
        "radius": radius,
        "regularisation": regularisation,
        "base": base,
        "regularisation_base": regularisation_base,
    }
    values = []
    for name, value in named.items():
        array = per_class(value, accuracy)
        require_values(name, array, NON_NEGATIVE, f"the {name.replace('_', ' ')}")
        values.append(array)
    radius, beta, first, second = values
    # TRADES adds b KL to the cross entropy; the published code divides by 1 + b, so that no class
    # counts for more than another in all. A low accuracy lowers the radius and b alike.
    strength = (second + accuracy) * beta
    return TradesWeights((first + accuracy) * radius, strength / (1 + strength))


@checked_arguments
def cfa_average(
    average: Any, current: Any, worst_accuracy: ArrayLike, threshold: float, decay: float = 0.88
) -> Any:
    """Returns CFA's weight average, moved to `current` only where the worst class is good enough.

    Args:
        average, current: parameters, pytrees of one structure.
        worst_accuracy: least robust class accuracy of `current` on validation data, ().
        threshold: below it the average stays.
        decay: share of the old average, in [0, 1].

    Raises:
        InvalidInput: for a decay outside [0, 1].

    References:
        wei2023cfa and its code (threshold 0.2); theory document B3.

    >>> [float(cfa_average(1.0, 2.0, worst, 0.2, decay=0.5)) for worst in (0.3, 0.1)]
    [1.5, 1.0]
    """
    require_values("decay", jnp.asarray(decay), _SHARE, "the decay of the average")
    # A where over the leaves, not a cond: the step stays one compiled program, and a nan accuracy
    # leaves the average as it is.
    good = jnp.asarray(worst_accuracy) >= threshold
    return jax.tree.map(
        lambda old, new: jnp.where(good, decay * old + (1 - decay) * new, old), average, current
    )


@checked_arguments
def wat_weights(costs: ArrayLike, rate: float = 0.1) -> Array:
    """Returns WAT's weights of K classes and of the average, K softmax(rate * costs), (..., K + 1).

    Args:
        costs: losses summed over past epochs, of each class and then of all samples, (..., K + 1).
        rate: step of the exponential weights.

    Raises:
        InvalidInput: for a cost that is not finite.

    References:
        li2023wat and its code; theory document B3.

    >>> [round(w, 6) for w in wat_weights([0.0, 0.0, 0.0, 0.0]).tolist()]
    [0.75, 0.75, 0.75, 0.75]
    """
    values = _checked("costs", costs, REAL, "every cumulative cost (finite)")
    # K experts of classes and one of the average; the published code multiplies the softmax by K.
    return (values.shape[-1] - 1) * jax.nn.softmax(rate * values, -1)


@checked_arguments
def cfol_probabilities(log_weights: ArrayLike, base: ArrayLike, mixing: float = 0.5) -> Array:
    """Returns CFOL's class sampling probabilities, mixing * base + (1 - mixing) softmax, (..., K).

    Args:
        log_weights: of the exponential weights, zeros at first, (..., K).
        base: the classes' frequencies, of sum one, (..., K).
        mixing: gamma in [0, 1].

    Raises:
        InvalidInput: for a weight that is not finite, or a frequency outside [0, 1].

    References:
        pethick2023cfol and its code; theory document B3.

    >>> cfol_probabilities([0.0, 0.0], [1.0, 0.0]).tolist()
    [0.75, 0.25]
    """
    values = _checked("log_weights", log_weights, REAL, "every weight's logarithm (finite)")
    shares = _checked("base", base, _SHARE, "every class frequency").astype(values.dtype)
    shares = jnp.broadcast_to(shares, values.shape)
    return mixing * shares + (1 - mixing) * jax.nn.softmax(values, -1)


@checked_arguments
def cfol_update(
    log_weights: ArrayLike,
    label: ArrayLike,
    loss: ArrayLike,
    probabilities: ArrayLike,
    rate: float = 1e-5,
) -> Array:
    """Returns CFOL's log weights after one sampled class's loss: its own grows by rate loss / p.

    Args:
        log_weights: before the update, (..., K).
        label: the class that was sampled, (...).
        loss: its loss, (...).
        probabilities: with which classes are sampled, (..., K).
        rate: eta > 0.

    Raises:
        InvalidInput: for a weight that is not finite, or a probability outside [0, 1].

    References:
        pethick2023cfol and its code (Exp3); theory document B3.

    >>> cfol_update([0.0, 0.0], 1, 2.0, [0.75, 0.25], rate=0.5).tolist()
    [0.0, 4.0]
    """
    values = _checked("log_weights", log_weights, REAL, "every weight's logarithm (finite)")
    chances = _checked("probabilities", probabilities, _SHARE, "every class probability")
    # Not in their own type: the number of class 261 wraps to 5 in that of small labels.
    label = jnp.asarray(label, jnp.int32)
    one_hot = jax.nn.one_hot(label, values.shape[-1], dtype=values.dtype)
    # Over p: the estimate of all classes' losses from one of them is then without bias (Exp3).
    return values + rate * one_hot * per_class(loss, values) / chances.astype(values.dtype)


@checked_arguments
def faal_weights(margins: ArrayLike, radius: ArrayLike = 0.5) -> Array:
    """Returns FAAL's class distribution: the worst for the margins within a KL ball around uniform.

    It maximises sum p_c l_c over KL(u || p) <= radius, u uniform: p_c ~ 1 / (eta - l_c), with eta
    from one bracketed root. (The published code adds a class's margin once per sample of the
    batch: pass counts times margins for that.)

    Args:
        margins: l_c, mean of the largest other probability minus the true one, (..., K); -1 for a
            class that is absent.
        radius: of the ball, (...); radius <= 0 or equal margins give the uniform distribution.

    Raises:
        InvalidInput: for a margin that is not finite.

    References:
        zhang2024faal; theory document B3 (closed solution new).

    >>> p = faal_weights([0.0, -1.0], 0.5 * jnp.log(4 / 3))  # p (1 - p) = 3 / 16
    >>> [round(float(x), 5) for x in p]
    [0.75, 0.25]
    """
    values = _checked("margins", margins, REAL, "every class margin (finite)")
    radius = jnp.asarray(radius).astype(values.dtype)
    # Closed but for a root, where the published code calls a convex solver for every batch.
    worst: Array = jnp.vectorize(_worst_distribution, signature="(k),()->(k)")(values, radius)
    return worst


@jax.jit
def _worst_distribution(margins: Array, radius: Array) -> Array:
    """Returns p_c ~ 1 / (e^t + gap_c), (K,), with t such that KL(u || p) is the radius."""
    gaps = jnp.max(margins) - margins
    widest = jnp.max(gaps)
    moved = (widest > 0) & (radius > 0)
    # In units of the widest gap, as the solution does not depend on the unit.
    relative = gaps / jnp.where(widest > 0, widest, 1)
    open_gap = relative > 0
    log_gaps = jnp.where(open_gap, jnp.log(jnp.where(open_gap, relative, 1)), _NO_GAP)
    # Any radius that has a root: the result is not used, but its derivative must not be nan.
    goal = jnp.where(moved, radius, 0.1)
    count = margins.shape[-1]

    # KL(u || p) = mean log(1 / p) - log K, which falls in t from infinity to zero: in logarithms
    # throughout, as the gaps of one batch span all magnitudes.
    def excess(t: Array, log_gaps: Array, goal: Array) -> Array:
        height = jnp.logaddexp(t, log_gaps)
        return jnp.mean(height) + logsumexp(-height) - jnp.log(jnp.asarray(count, t.dtype)) - goal

    ends = (jnp.asarray(end, margins.dtype) for end in (_LOW, _HIGH))
    t = bracketed_root(excess, *ends, log_gaps, goal)
    worst = jax.nn.softmax(-jnp.logaddexp(t, log_gaps))
    return jnp.where(moved, worst, 1 / count)
