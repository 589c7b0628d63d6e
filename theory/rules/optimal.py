"""Optimal natural and robust linear rules: the direction of largest margin and its best intercept.

The direction maximises the robust margin and answers neither to the prior nor to the class scales;
the intercept alone answers to them (theory document T2).
"""

import jax.numpy as jnp

from theory.domain import InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.problem import GaussianMixture, LinearClassifier, Mixture, Threat, imbalance_ratio
from theory.rules.direction import optimal_direction
from theory.rules.intercept import optimal_shift
from theory.rules.risk import dual_norm, projection_scale

__all__ = ["class_budget_classifier", "optimal_classifier"]


@checked_arguments
def optimal_classifier(mixture: Mixture, threat: Threat | None = None) -> LinearClassifier:
    """Returns the linear rule of least natural (no threat) or robust risk.

    Where no direction is worth following the rule is constant: zero weight, bias -1 or +1.

    Args:
        mixture: any law, class scales and prior, fields broadcast over leading axes. A stability
            index below 0.1 gives nan, and so do coinciding class means.
        threat: any l_p ball, or None.

    Returns:
        Weight (..., d) and bias (...): the optimum where `optimal_direction` is exact or certified,
        otherwise the best rule along the direction it found.

    Raises:
        InvalidInput: for another type of mixture or threat.

    References:
        hu2023accuracydisparity; theory document T2-T5, T16-T20.

    >>> mixture = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0], 0.2)  # R = 4
    >>> rule = optimal_classifier(mixture)  # -log(R) / 2
    >>> rule.weight.tolist(), round(float(rule.bias), 6)
    ([1.0, 0.0], -0.693147)
    """
    # Two problems one after the other, and no joint search: the direction does not depend on the
    # intercept. None selects the Gaussian closed form of the intercept, alpha = 2 one by value.
    direction = optimal_direction(mixture, threat)
    alpha = None if isinstance(mixture, GaussianMixture) else mixture.alpha
    ratio = imbalance_ratio(mixture.prior)
    shift = optimal_shift(direction.margin, mixture.scales, ratio, alpha)
    beta = jnp.where(shift.trivial, 0, shift.beta)
    centre = jnp.mean(mixture.means, -2)
    weight = direction.weight
    bias = beta * projection_scale(mixture, weight) - jnp.sum(weight * centre, -1)
    # Unchecked: nan is the documented result where the means coincide.
    return LinearClassifier._make(
        (
            jnp.where(jnp.expand_dims(shift.trivial, -1), 0, weight),
            jnp.where(shift.trivial, shift.label.astype(bias.dtype), bias),
        )
    )


@checked_arguments
def class_budget_classifier(
    mixture: Mixture, negative: Threat, positive: Threat
) -> LinearClassifier:
    """Returns the linear rule of least robust risk when each class has a radius of its own.

    The direction is that of the mean radius; the intercept moves by half the difference times
    ||w||_q / scale(w).

    Args:
        mixture: as for `optimal_classifier`.
        negative, positive: the threat to each class, balls of one type and norm, radii (...).

    Returns:
        As `optimal_classifier` does: weight (..., d) and bias (...).

    Raises:
        InvalidInput: for balls of two norms, or another type of mixture or threat.

    References:
        new; theory document T13.

    >>> from theory.problem import L2Ball
    >>> mixture = GaussianMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5)
    >>> class_budget_classifier(mixture, L2Ball(0.0), L2Ball(0.5)).bias.tolist()
    0.25
    """
    if type(negative) is not type(positive) or getattr(negative, "p", 0) != getattr(
        positive, "p", 0
    ):
        raise InvalidInput(f"negative = {negative!r}: must be a ball of the norm of {positive!r}")
    # m_+ and m_- lose the two radii: moving the boundary by half their difference makes the losses
    # equal, and what is left is the problem of one radius.
    threat = positive._replace(radius=(negative.radius + positive.radius) / 2)
    half = (positive.radius - negative.radius) / 2
    rule = optimal_classifier(mixture, threat)
    return rule._replace(bias=rule.bias + half * dual_norm(threat, rule.weight))
