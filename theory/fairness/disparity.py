"""Accuracy disparity of robust rules: what the robustness constraint costs, what imbalance costs.

Robust training moves the optimal rule in two ways: it turns the direction, which lowers the
natural margin, and it lowers the margin at which the intercept answers to the imbalance ratio. The
first is the inherent effect, the second that of imbalance (Hu et al. 2023; theory document T6-T8
for Gaussian classes, T18 for stable ones).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory import stable
from theory.domain import InvalidInput, require_known
from theory.numerics.arguments import checked_arguments
from theory.numerics.root import implicit_root
from theory.problem import GaussianMixture, LinearClassifier, Mixture, Threat
from theory.problem import imbalance_ratio as ratio_of_prior
from theory.rules import risk as linear
from theory.rules.direction import optimal_direction
from theory.rules.intercept import Shift, optimal_shift
from theory.rules.risk import ClassRisks


class Decomposition(NamedTuple):
    """The change of both classes from the standard to the robust rule, in two parts that add up."""

    inherent: ClassRisks
    imbalance: ClassRisks


class MarginPath(NamedTuple):
    """The robust-optimal direction at each radius: its robust and natural margin, and its price.

    All have the shape of the radii, (...). `dual` is ||w||_q over the projection's scale, so that
    robust = natural - radius * dual.
    """

    robust: jax.Array
    natural: jax.Array
    dual: jax.Array


class _Rule(NamedTuple):
    """A rule as its natural margin and its intercept, which is infinite for a constant rule."""

    margin: jax.Array
    beta: jax.Array


@checked_arguments
def accuracy_disparity(risks: ClassRisks) -> jax.Array:
    """Returns the risk of the positive class minus that of the negative one, in [-1, 1], (...).

    Positive when the positive class, the minority where R > 1, fares worse (theory document T0).

    >>> accuracy_disparity(ClassRisks(negative=0.25, positive=0.75))
    0.5
    """
    return risks.positive - risks.negative


@checked_arguments
def log_disparity_deficit(
    mixture: Mixture, classifier: LinearClassifier, threat: Threat | None = None
) -> jax.Array:
    """Returns log(1 - accuracy disparity), finite where the disparity itself rounds to one, (...).

    As R grows the disparity of every optimal rule tends to one; for Gaussian classes of unit scale
    and robust margin kappa its deficit falls like exp(-log(R)^2 / (8 kappa^2)).

    References:
        theory document T8; new.
    """
    # 1 - (R_+ - R_-) is the sum of two chances, and each may be far below rounding.
    margins = linear._standardised_margins(mixture, classifier, threat)
    hit = linear.log_projection_cdf(mixture, -margins.positive)
    return jnp.logaddexp(hit, linear.log_projection_cdf(mixture, margins.negative))


@checked_arguments
def margin_path(mixture: Mixture, threat: Threat) -> MarginPath:
    """Returns kappa, T and nu of the robust-optimal direction at every radius of `threat`.

    kappa is convex and decreasing in the radius with slope -nu and ends at zero where the radius
    is ||Delta||_p; T and nu never increase.

    Args:
        mixture: one mixture, without leading axes.
        threat: with the radii of the path, any shape.

    References:
        theory document T7 (reconstructed in part, new in part).

    >>> from theory.problem import LinfBall
    >>> mixture = GaussianMixture(means=[[-2.0, -1.0], [2.0, 1.0]], scales=[1.0, 1.0], prior=0.5)
    >>> path = margin_path(mixture, LinfBall([1.0]))
    >>> [float(column[0]) for column in path]
    [1.0, 2.0, 1.0]
    """

    def at(radius: jax.Array) -> MarginPath:
        ball = threat._replace(radius=radius)
        direction = optimal_direction(mixture, ball)
        scale = linear.projection_scale(mixture, direction.weight)
        natural = _natural_margin(mixture, direction.weight)
        return MarginPath(
            direction.margin, natural, linear.dual_norm(ball, direction.weight) / scale
        )

    path = jax.vmap(at)(threat.radius.ravel())
    return MarginPath(*(column.reshape(threat.radius.shape) for column in path))


def _natural_margin(mixture: Mixture, weight: jax.Array) -> jax.Array:
    gap = (mixture.means[..., 1, :] - mixture.means[..., 0, :]) / 2
    return jnp.sum(weight * gap, -1) / linear.projection_scale(mixture, weight)


def _shift(mixture: Mixture, margin: jax.Array, ratio: jax.Array) -> Shift:
    shift: Shift = optimal_shift(margin, mixture.scales, ratio, getattr(mixture, "alpha", None))
    return shift


def _intercept(mixture: Mixture, margin: jax.Array, ratio: jax.Array) -> jax.Array:
    """Returns the optimal intercept at a margin, infinite where a constant rule is optimal."""
    shift = _shift(mixture, margin, ratio)
    return jnp.where(shift.trivial, shift.label * jnp.asarray(jnp.inf, margin.dtype), shift.beta)


def _rule(mixture: Mixture, threat: Threat | None) -> _Rule:
    direction = optimal_direction(mixture, threat)
    beta = _intercept(mixture, direction.margin, ratio_of_prior(mixture.prior))
    return _Rule(_natural_margin(mixture, direction.weight), beta)


def _risks(mixture: Mixture, rule: _Rule) -> ClassRisks:
    negative, positive = mixture.scales[..., 0], mixture.scales[..., 1]
    return ClassRisks(
        linear.projection_cdf(mixture, -(rule.margin - rule.beta) / negative),
        linear.projection_cdf(mixture, -(rule.margin + rule.beta) / positive),
    )


def _difference(after: ClassRisks, before: ClassRisks) -> ClassRisks:
    return ClassRisks(after.negative - before.negative, after.positive - before.positive)


def _by_argument(mixture: Mixture, standard: _Rule, robust: _Rule) -> Decomposition:
    lost = standard.margin - robust.margin
    # Two constant rules alike differ by nothing.
    moved = jnp.where(robust.beta == standard.beta, 0, robust.beta - standard.beta)
    negative, positive = mixture.scales[..., 0], mixture.scales[..., 1]
    return Decomposition(
        ClassRisks(lost / negative, lost / positive),
        ClassRisks(moved / negative, -moved / positive),
    )


def _by_path(mixture: Mixture, standard: _Rule, robust: _Rule) -> Decomposition:
    # What lies between: already the robust direction, but an intercept that fears no attack.
    ratio = ratio_of_prior(mixture.prior)
    between = _risks(mixture, _Rule(robust.margin, _intercept(mixture, robust.margin, ratio)))
    return Decomposition(
        _difference(between, _risks(mixture, standard)),
        _difference(_risks(mixture, robust), between),
    )


def _by_balance(mixture: Mixture, standard: _Rule, robust: _Rule) -> Decomposition:
    def balanced(margin: jax.Array) -> ClassRisks:
        return _risks(mixture, _Rule(margin, _intercept(mixture, margin, jnp.ones_like(margin))))

    inherent = _difference(balanced(robust.margin), balanced(standard.margin))
    total = _difference(_risks(mixture, robust), _risks(mixture, standard))
    return Decomposition(inherent, _difference(total, inherent))


_MODES: dict[str, Callable[[Mixture, _Rule, _Rule], Decomposition]] = {
    "probit": _by_argument,
    "path": _by_path,
    "balanced": _by_balance,
}


@checked_arguments
def decomposition(mixture: Mixture, threat: Threat, mode: str = "probit") -> Decomposition:
    """Returns what the robustness constraint and the imbalance each do to the natural class risks.

    Both parts compare the robust-optimal with the standard-optimal rule, without a perturbation.
    With kappa_0 the standard and T the natural margin of the robust direction, T <= kappa_0:

    - "probit": in the argument of the distribution function; the inherent part is
      (kappa_0 - T) / s_y >= 0, the rest is due to the intercept. Infinite for a constant rule.
    - "path": in risk; the inherent part goes to the robust direction with the intercept that is
      optimal for it without a threat, the rest to the robust intercept.
    - "balanced": in risk; the inherent part is the change at R = 1.

    For Gaussian classes of equal scales, R > 1 and radius < ||Delta||_p: the minority is never
    helped by either part; the part of imbalance lowers the majority's risk; the inherent one, in
    mode "path", does so too exactly if kappa_0 T < log(R) / 2 and T < kappa_0. For stable classes
    imbalance can act the other way. At radius 0 all parts are zero; where the robust rule is a
    constant, that is put down to imbalance.

    Args:
        mixture: the law; unequal scales and stable laws take the same definitions.
        threat: what the robust rule is trained against.
        mode: "probit", "path" or "balanced".

    Raises:
        InvalidInput: for another mode, naming the known ones, and where `optimal_direction` does.

    References:
        hu2023accuracydisparity (which form it uses is not known; "probit" fits its abstract);
        theory document T6, and T18 for stable laws.
    """
    require_known("mode", mode, _MODES)
    return _MODES[mode](mixture, _rule(mixture, None), _rule(mixture, threat))


@checked_arguments
def majority_gain_threshold(mixture: Mixture, threat: Threat) -> jax.Array:
    """Returns the |log R| beyond which robust training lowers the majority's natural risk, (...).

    2 (kappa_0 - T) / (1 / kappa - 1 / kappa_0) / s^2 for scales s: zero where the direction does
    not turn, at radius 0 (a limit), and where the robust rule is constant. The minority loses.

    Args:
        mixture: Gaussian; its prior does not matter. nan for unequal class scales.
        threat: what the robust rule is trained against.

    Raises:
        InvalidInput: for another law, for which the threshold is not a function of the margins.

    References:
        theory document T6.5; new.
    """
    if not isinstance(mixture, GaussianMixture):
        raise InvalidInput(f"mixture = {type(mixture).__name__}: must be a GaussianMixture")
    standard, robust = optimal_direction(mixture), optimal_direction(mixture, threat)
    natural = _natural_margin(mixture, robust.weight)
    inside = (robust.margin > 0) & (robust.margin < standard.margin)
    # Elsewhere a margin that makes no term infinite: both branches of a where are differentiated.
    pull = 1 / jnp.where(inside, robust.margin, standard.margin / 2) - 1 / standard.margin
    negative, positive = mixture.scales[..., 0], mixture.scales[..., 1]
    # The standard margin is the largest, but for rounding.
    lost = jnp.where(inside, jnp.maximum(standard.margin - natural, 0), 0)
    return jnp.where(negative == positive, 2 * lost / (negative**2 * pull), jnp.nan)


def _pair(log_x: jax.Array, log_shift: jax.Array) -> jax.Array:
    """Returns x and y = x + 2 shift, (2,): the arguments of the two class densities."""
    x = jnp.exp(log_x)
    return jnp.stack([x, x + 2 * jnp.exp(log_shift)])


def _score_fall(log_x: jax.Array, log_shift: jax.Array, alpha: jax.Array) -> jax.Array:
    near, far = stable.score(_pair(log_x, log_shift), alpha)
    fall: jax.Array = near - far
    return fall


def _log_ratio(log_x: jax.Array, log_shift: jax.Array, alpha: jax.Array) -> jax.Array:
    near, far = stable.logpdf(_pair(log_x, log_shift), alpha)
    log_ratio: jax.Array = near - far
    return log_ratio


def _bisected(f: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array) -> jax.Array:
    """Returns where an increasing f changes sign: one call of f in the compiled loop, no more."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, right = ends
        middle = (left + right) / 2
        below = f(middle) < 0
        return jnp.where(below, middle, left), jnp.where(below, right, middle)

    # A bit a step: those of the mantissa, and the ten by which the bracket exceeds its root's size.
    steps = np.finfo(low.dtype).nmant + 10
    ends: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, steps, halve, (low, high))
    return ends[1]


def _equal_scores(log_odds: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns 0 < x < y with equal scores and log f(x) - log f(y) = log_odds, at least eps^(1/3).

    Half of y - x is the least intercept over all margins; half of x + y is where it is attained.
    """
    # In logarithms, as x and the shift run over hundreds of decades when alpha is small.
    lowest = jnp.full_like(alpha, 0.95 * jnp.log(np.finfo(alpha.dtype).tiny))
    # Closer to zero the difference of x and y drowns in rounding, and the result is flat there.
    log_odds = jnp.maximum(log_odds, np.finfo(alpha.dtype).eps ** (1 / 3))
    frozen_odds, frozen = jax.lax.stop_gradient((log_odds, alpha))

    def near(log_shift: jax.Array) -> jax.Array:
        # The score has its peak below 30 for every alpha.
        highest = jnp.full_like(frozen, jnp.log(30.0))
        return _bisected(lambda log_x: _score_fall(log_x, log_shift, frozen), lowest, highest)

    def excess(log_shift: jax.Array) -> jax.Array:
        return _log_ratio(near(log_shift), log_shift, frozen) - frozen_odds

    log_shift = _bisected(excess, lowest, frozen_odds + 4)
    log_x = near(log_shift)

    # x makes the difference of the logarithms stationary, so its slope in x does not count.
    def excess_at_x(log_shift: jax.Array, log_odds: jax.Array, alpha: jax.Array) -> jax.Array:
        return _log_ratio(log_x, log_shift, alpha) - log_odds

    log_shift = implicit_root(excess_at_x, log_shift, log_odds, alpha)
    near_x, far_x = _pair(implicit_root(_score_fall, log_x, log_shift, alpha), log_shift)
    return near_x, far_x


@checked_arguments
def turning_margin(ratio: Any, alpha: Any) -> jax.Array:
    """Returns the margin at which the intercept of stable classes is least moved by imbalance.

    Up to it a smaller margin moves the intercept further from zero, as it always does for
    Gaussian classes; past it a smaller margin moves it back, so that where classes are well
    separated a little robustness lowers the accuracy disparity. cosh(log(R) / 2) for Cauchy
    noise; infinite at alpha = 2. Classes of equal scales, in units of the scale.

    Args:
        ratio: imbalance ratio R > 0, (...); R and 1 / R give the same, 1 the limit. nan elsewhere.
        alpha: stability index in [0.1, 2], broadcasting against `ratio`; nan outside.

    Returns:
        The margin, with first derivatives; to 1e-9 for R within 1e-5 of 1, elsewhere to 1e-13 of
        itself.

    References:
        theory document T18 (reconstructed, new for alpha other than 1).
    """
    dtype = jnp.result_type(float, ratio, alpha)
    ratio, alpha = jnp.asarray(ratio, dtype), jnp.asarray(alpha, dtype)
    shape = jnp.broadcast_shapes(ratio.shape, alpha.shape)
    ratio, alpha = jnp.broadcast_to(ratio, shape), jnp.broadcast_to(alpha, shape)
    known = (ratio > 0) & (ratio < jnp.inf) & (alpha >= 0.1) & (alpha < 2)
    log_odds = jnp.abs(jnp.log(jnp.where(known, ratio, 1)))
    near, far = _equal_scores(log_odds, jnp.where(known, alpha, 1))
    gaussian = (ratio > 0) & (alpha == 2)
    return jnp.where(known, (near + far) / 2, jnp.where(gaussian, jnp.inf, jnp.nan))
