"""Same-class mixup: convex combinations of points of one class, and the rules optimal for them.

A fixed combination of independent points of a class keeps the class mean and multiplies the noise
by one factor, the same for both classes. The robust direction stays, and the intercept becomes
that of a problem with less (stability index above one) or more noise (below one). Random
coefficients give a scale mixture. Evaluation on the original law is left to `theory.rules.risk`.
(Zhong and Tandon 2024; theory document T22-T26.)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from theory.domain import NON_NEGATIVE, POSITIVE, UNIT_INTERVAL, InvalidInput
from theory.fairness.mixup_intercept import ScaleLaw, coefficient_law, random_shift
from theory.numerics import norms
from theory.numerics.arguments import checked_arguments
from theory.numerics.noun import checked_namedtuple, require_values
from theory.problem import LinearClassifier, MixedPairs, Mixture, Threat, imbalance_ratio
from theory.rules import risk as linear
from theory.rules.direction import Direction, optimal_direction
from theory.rules.intercept import Shift, optimal_shift
from theory.rules.optimal import optimal_classifier
from theory.rules.risk import ClassRisks


def _check_weights(weights: "Weights") -> None:
    require_values("values", weights.values, NON_NEGATIVE, "every mixing weight")
    if not isinstance(weights.values, jax.core.Tracer):
        total = np.asarray(weights.values, float).sum(-1)
        # Weights of many points sum to one up to a rounding error each.
        off = np.abs(total - 1) > 4 * total.dtype.type(jnp.finfo(weights.values.dtype).eps) * max(
            weights.values.shape[-1], 8
        )
        if off.any():
            raise InvalidInput(f"values: mixing weights must sum to 1, not {total[off].flat[0]:g}")


def _check_beta(beta: "Beta") -> None:
    require_values("concentration", beta.concentration, POSITIVE, "the Beta parameter")


@checked_namedtuple(_check_weights)
class Weights(NamedTuple):
    """Fixed weights of m points of a class, (..., m), not negative, of sum one.

    Raises:
        InvalidInput: for a negative weight or another sum.
    """

    values: jax.Array


@checked_namedtuple(_check_beta)
class Beta(NamedTuple):
    """Pairs with a random coefficient of the law Beta(a, a); a > 0 of shape (...).

    Raises:
        InvalidInput: for a <= 0.
    """

    concentration: jax.Array


# A bare number or array is the fixed coefficient of a pair, lambda x_i + (1 - lambda) x_j.
Mixing = Weights | Beta | jax.Array | float


class ShrinkingRegion(NamedTuple):
    """Whether mixup is sure to shrink the disparity, and each reason why it is not, booleans (...).

    Args:
        holds: the published statement is a theorem here; none of the following is true.
        opposed: the class of smaller scale is so rare that it fares worse (F1).
        stronger_attack: the test radius exceeds the training radius at unequal scales (F2).
        mixed_law: evaluated on the mixed law, at unequal scales and R other than 1, or past the
            margin (F3).
        heavy_tail: stability index below 2; no effect at 1, the opposite effect below (F4).
    """

    holds: jax.Array
    opposed: jax.Array
    stronger_attack: jax.Array
    mixed_law: jax.Array
    heavy_tail: jax.Array


def _pair(coefficient: Any) -> jax.Array:
    """Returns the two weights of a pair, (..., 2), nan where the coefficient is not in [0, 1]."""
    coefficient = jnp.asarray(coefficient, jnp.result_type(float, coefficient))
    require_values("coefficient", coefficient, UNIT_INTERVAL, "the mixing coefficient")
    inside = (coefficient >= 0) & (coefficient <= 1)
    coefficient = jnp.where(inside, coefficient, jnp.nan)
    return jnp.stack([coefficient, 1 - coefficient], -1)


@checked_arguments
def scale_factor(mixing: Mixing, alpha: jax.Array | float | None = None) -> jax.Array:
    """Returns what a fixed mixing multiplies the scale of the noise by, (...).

    (sum_i w_i^alpha)^(1 / alpha), with alpha = 2 for Gaussian noise: below one for alpha > 1, one
    at alpha = 1 whatever the weights, above one for alpha < 1. m equal weights give
    m^((1 - alpha) / alpha).

    Args:
        mixing: the coefficient of a pair in [0, 1], (...), or `Weights`.
        alpha: stability index, (...); None for Gaussian noise.

    Returns:
        The factor; inside `jit`, nan for a coefficient outside [0, 1].

    Raises:
        InvalidInput: for a coefficient outside [0, 1], and for `Beta`, whose law has no one scale.

    References:
        zhong2024 (Gaussian pairs); theory document T22, T25, T26 (the rest, new).

    >>> [round(float(scale_factor(0.5, alpha)), 4) for alpha in (None, 1.0, 0.5)]
    [0.7071, 1.0, 2.0]
    """
    if isinstance(mixing, Beta):
        raise InvalidInput("mixing = Beta: a random coefficient has no one scale factor")
    weights = mixing.values if isinstance(mixing, Weights) else _pair(mixing)
    order = 2.0 if alpha is None else alpha
    # The norm takes no notice of a weight that is nan; the sum does.
    return norms.power_norm(weights, order) + 0 * jnp.sum(weights, -1)


@checked_arguments
def mixed_mixture(mixture: Mixture, mixing: Mixing) -> Mixture:
    """Returns the law of same-class mixtures with fixed weights: means and prior stay.

    Args:
        mixture: Gaussian (any covariance) or stable.
        mixing: the coefficient of a pair in [0, 1], (...), or `Weights`.

    Raises:
        InvalidInput: for `Beta`, whose mixed law is not of the family, and as `scale_factor`.

    References:
        zhong2024; theory document T22, T25, T26.
    """
    factor = scale_factor(mixing, getattr(mixture, "alpha", None))
    return mixture._replace(scales=_scaled(factor, mixture.scales))


def _scaled(factor: jax.Array, scales: jax.Array) -> jax.Array:
    """Returns both class scales times a factor, (..., 2)."""
    shape = jnp.broadcast_shapes(factor.shape, scales.shape[:-1])
    both = jnp.broadcast_to(scales, (*shape, 2))
    return jnp.broadcast_to(factor, shape)[..., None] * both


@checked_arguments
def mixed_shift(
    margin: jax.Array,
    scales: jax.Array,
    ratio: jax.Array,
    mixing: Mixing,
    alpha: jax.Array | float | None = None,
) -> Shift:
    """Returns the intercept that minimises the risk on same-class mixtures.

    With a fixed factor g that is `optimal_shift` at scales g s_y: for Gaussian classes log(R s_+ /
    s_-) counts g^2 times. With Beta(a, a) the law is a scale mixture; for Gaussian classes the
    intercept lies between those at g = 1 and g^2 = 1/2 if log(R s_+ / s_-) and s_+ - s_- agree
    in sign.

    Args:
        margin: t, in units of the projection's scale before mixing, (...).
        scales: class scales [negative, positive] before mixing, (..., 2).
        ratio: imbalance ratio R > 0, (...).
        mixing: the coefficient of a pair in [0, 1], (...), `Weights` or `Beta`.
        alpha: stability index, (...); None for Gaussian noise of unit variance.

    Returns:
        The intercept in units of the projection's scale, and whether a constant rule does at least
        as well on the mixed law. Differentiable; nan, inside `jit`, for a bad coefficient.

    Raises:
        InvalidInput: for a coefficient outside [0, 1].

    References:
        zhong2024 (fixed coefficient, R = 1); theory document T22, T24-T26 (the rest, new).

    >>> shift = mixed_shift(1.0, jnp.ones(2), jnp.e, 0.5)
    >>> round(float(shift.beta), 6)
    -0.25
    """
    if not isinstance(mixing, Beta):
        factor = scale_factor(mixing, alpha)
        shift: Shift = optimal_shift(margin, _scaled(factor, scales), ratio, alpha)
        return shift
    return random_shift(margin, scales, ratio, mixing.concentration, alpha)


@checked_arguments
def mixed_classifier(mixture: Mixture, threat: Threat | None, mixing: Mixing) -> LinearClassifier:
    """Returns the linear rule of least natural (no threat) or robust risk on same-class mixtures.

    The direction is that of `optimal_classifier`; only the intercept answers to mixup.

    Args:
        mixture: the original law.
        threat: what is trained against, or None.
        mixing: the coefficient of a pair in [0, 1], (...), `Weights` or `Beta`.

    Raises:
        InvalidInput: as `mixed_shift` and `optimal_classifier`.

    References:
        zhong2024; theory document T22, T24-T26.
    """
    if not isinstance(mixing, Beta):
        return optimal_classifier(mixed_mixture(mixture, mixing), threat)
    direction = optimal_direction(mixture, threat)
    ratio, alpha = imbalance_ratio(mixture.prior), getattr(mixture, "alpha", None)
    shift = mixed_shift(direction.margin, mixture.scales, ratio, mixing, alpha)
    return _classifier(mixture, direction, shift)


def _classifier(mixture: Mixture, direction: Direction, shift: Shift) -> LinearClassifier:
    """Returns the rule of this direction and intercept, on the original law's coordinates."""
    # Mixing keeps the centre and the unit of the projection: only class scales change.
    centre = jnp.mean(mixture.means, -2)
    scale = linear.projection_scale(mixture, direction.weight)
    bias = shift.beta * scale - jnp.sum(direction.weight * centre, -1)
    weight = jnp.where(jnp.expand_dims(shift.trivial, -1), 0, direction.weight)
    bias = jnp.where(shift.trivial, shift.label.astype(bias.dtype), bias)
    return LinearClassifier._make((weight, bias))


@checked_arguments
def mixed_class_risks(
    mixture: Mixture,
    classifier: LinearClassifier,
    mixing: Mixing,
    threat: Threat | None = None,
) -> ClassRisks:
    """Returns the natural or robust risk of each class on the law of same-class mixtures.

    Args:
        mixture: the original law.
        classifier: any linear rule.
        mixing: the coefficient of a pair in [0, 1], (...), `Weights` or `Beta`.
        threat: the perturbations of the mixed points, or None.

    References:
        theory document T22, T24, T25.
    """
    if isinstance(mixing, Weights):
        return linear.class_risks(mixed_mixture(mixture, mixing), classifier, threat)
    if isinstance(mixing, Beta):
        pairs = MixedPairs(mixture, None, mixing.concentration)
    else:
        pairs = MixedPairs(mixture, jnp.asarray(mixing))
    return linear.class_risks(pairs, classifier, threat)


def _factors(pairs: MixedPairs) -> ScaleLaw:
    """Returns the law of the scale factor of a pair, one node if its coefficient is fixed.

    One code path then serves both: an average over a single node is exact.
    """
    alpha = getattr(pairs.original, "alpha", 2.0)
    if pairs.coefficient is None:
        return coefficient_law(jnp.asarray(pairs.concentration), alpha)
    factor = scale_factor(pairs.coefficient, alpha)[None]
    return ScaleLaw(factor, jnp.zeros_like(factor))


@linear.projection_scale.register
def _(pairs: MixedPairs, weight: jax.Array) -> jax.Array:
    return linear.projection_scale(pairs.original, weight)


@linear.projection_cdf.register
def _(pairs: MixedPairs, margin: jax.Array) -> jax.Array:
    law = _factors(pairs)
    at = jax.vmap(lambda factor: linear.projection_cdf(pairs.original, margin / factor))
    return jnp.sum(jnp.exp(law.log_weights) * at(law.factors), 0)


@linear.log_projection_cdf.register
def _(pairs: MixedPairs, margin: jax.Array) -> jax.Array:
    law = _factors(pairs)
    at = jax.vmap(lambda factor: linear.log_projection_cdf(pairs.original, margin / factor))
    return logsumexp(law.log_weights + at(law.factors), 0)


@checked_arguments
def many_way_shift(
    margin: jax.Array, scales: jax.Array, ratio: jax.Array, alpha: jax.Array | float | None = None
) -> jax.Array:
    """Returns the limit of the mixed intercept as ever more points are mixed with equal weights.

    t (M - 1) / (M + 1) with M = (s_+^alpha / (R s_-^alpha))^(1 / (1 + alpha)); for Gaussian
    classes M = s_+ / s_- and both classes have the same risk. For 1 < alpha < 2 they have not.

    Args:
        margin: t > 0, (...).
        scales: class scales [negative, positive], (..., 2).
        ratio: imbalance ratio R > 0, (...).
        alpha: stability index in (1, 2), (...); nan elsewhere: for alpha <= 1 mixing does not
            take the noise away. None for Gaussian classes.

    References:
        theory document T26; new.

    >>> float(many_way_shift(2.0, jnp.asarray([1.0, 3.0]), 1.0))
    1.0
    """
    # With hardly any noise left the threshold is where both tails are alike: Gaussian ones at equal
    # margins in scales, whatever the prior; power laws where prior and scale still count.
    spread = scales[..., 1] / scales[..., 0]
    if alpha is not None:
        alpha = jnp.where((alpha > 1) & (alpha < 2), alpha, jnp.nan)
        spread = (spread**alpha / ratio) ** (1 / (1 + alpha))
    intercept: jax.Array = margin * (spread - 1) / (spread + 1)
    return intercept


@checked_arguments
def shrinking_region(
    margin: jax.Array,
    scales: jax.Array,
    ratio: jax.Array,
    train_radius: jax.Array,
    test_radius: jax.Array,
    *,
    alpha: jax.Array | float | None = None,
    on_mixed: bool = False,
) -> ShrinkingRegion:
    """Returns where the published theorem, that mixup shrinks the accuracy disparity, is true.

    There the disparity of the mixup-optimal rule never changes sign and strictly falls in absolute
    value as the mixing reduces the noise. Elsewhere it may still do so; each flag of the result
    names a reason for which counterexamples exist. Where R s_+ = s_- nothing changes.

    Args:
        margin: the training margin, (...), in any unit: only its sign matters.
        scales: class scales [negative, positive], (..., 2).
        ratio: imbalance ratio R > 0, (...).
        train_radius, test_radius: perturbation radius of training and of evaluation, >= 0, (...).
        alpha: stability index, (...); None for Gaussian classes.
        on_mixed: whether the disparity is that on the mixed law, not on the original one.

    References:
        zhong2024 (the theorem); theory document T23, F1-F4 (its limits, new).

    >>> region = shrinking_region(1.0, jnp.asarray([1.0, 2.0]), 1.0, 0.5, 0.5)
    >>> bool(region.holds)
    True
    """
    margin, ratio = jnp.asarray(margin), jnp.asarray(ratio)
    negative, positive = scales[..., 0], scales[..., 1]
    # Inputs are compared without tolerance: each flag is an exact set of parameters.
    equal = positive == negative
    odds = ratio * positive - negative
    opposed = ~equal & ((positive - negative) * odds <= 0)
    stronger = ~equal & (jnp.asarray(test_radius) > jnp.asarray(train_radius))
    safe = (margin > 0) & (equal | (ratio == 1))
    mixed = ~safe if on_mixed else jnp.zeros_like(safe)
    heavy = jnp.asarray(False if alpha is None else jnp.asarray(alpha) < 2)
    return ShrinkingRegion(~(opposed | stronger | mixed | heavy), opposed, stronger, mixed, heavy)
