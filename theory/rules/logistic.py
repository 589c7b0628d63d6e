"""The rule that minimises the adversarial logistic loss: where gradient training converges to.

Its direction is the robust-optimal one; its intercept is optimal for equal class scales only
(theory document T10).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from theory.domain import InvalidInput
from theory.numerics import dense
from theory.numerics.arguments import checked_arguments
from theory.problem import GaussianMixture, LinearClassifier, Threat, imbalance_ratio
from theory.rules.direction import optimal_direction
from theory.rules.risk import projection_scale

# Quadrature of a Gaussian by equal steps: the error falls faster than any power of the step.
_REACH, _NODES = 12.0, 1001
_STEPS = 60  # a fixed number, far more than Newton's method needs, keeps a batch in step


@checked_arguments
def logistic_classifier(mixture: GaussianMixture, threat: Threat | None = None) -> LinearClassifier:
    """Returns the minimiser of E log(1 + exp(-(y (w . x + b) - radius ||w||_q))).

    With equal class scales s it is w = 2 kappa u / s^2 and b = -log R - w . c, u the direction at
    unit projected scale and c the midpoint of the means, in closed form: the 0-1 optimum. With
    unequal scales a convex problem in two numbers, solved by Newton's method and quadrature, good
    to rounding while kappa is below about fifty times the smaller scale; not the 0-1 optimum.

    Args:
        mixture: Gaussian, its fields broadcast over leading axes with the radius. Under stable
            noise with alpha <= 1 the loss is infinite for every weight but zero.
        threat: any l_p ball, or None.

    Returns:
        The rule, weight (..., d) and bias (...), with derivatives; from radius ||Delta||_p on the
        weight is zero and the bias -log R, whatever the scales. nan where the means coincide.

    Raises:
        InvalidInput: for another mixture, or another type of threat.

    References:
        new; theory document T10.

    >>> from theory.problem import L2Ball
    >>> mixture = GaussianMixture([[-1.0], [1.0]], [1.0, 1.0], 0.2)  # R = 4
    >>> rule = logistic_classifier(mixture, L2Ball(0.5))  # kappa = 1/2, so w = 2 kappa; b = -log 4
    >>> rule.weight.tolist(), round(float(rule.bias), 6)
    ([1.0], -1.386294)
    """
    if not isinstance(mixture, GaussianMixture):
        raise InvalidInput(f"mixture = {type(mixture).__name__}: must be a GaussianMixture")
    direction = optimal_direction(mixture, threat)
    log_ratio = jnp.log(imbalance_ratio(mixture.prior))
    solve = jnp.vectorize(_slope_and_shift, signature="(),(2),()->(2)")
    # In units of the root mean square scale, so that one set of nodes and one start serve all.
    unit = jnp.sqrt(jnp.mean(mixture.scales**2, -1))
    fitted = solve(direction.margin / unit, mixture.scales / unit[..., None], log_ratio)
    length = projection_scale(mixture, direction.weight) * unit
    weight = (fitted[..., 0] / length)[..., None] * direction.weight
    centre = jnp.mean(mixture.means, -2)
    return LinearClassifier._make((weight, fitted[..., 1] - jnp.sum(weight * centre, -1)))


@jax.jit
def _slope_and_shift(margin: Array, scales: Array, log_ratio: Array) -> Array:
    """Returns the slope a >= 0 and the intercept e of the logit a x + e along the direction."""
    margin = margin + 0 * log_ratio  # nan where the ratio is
    forward = margin > 0
    safe = jnp.where(forward, margin, 1)
    # The optimum for equal scales, at their mean square.
    start = jnp.stack([2 * safe / jnp.mean(scales**2), -log_ratio])
    problem = safe, scales, log_ratio

    def improve(_: int, point: Array) -> Array:
        # Newton's step, or the best share of it: zero is among them, so that the loss never rises.
        step = dense.solve(jax.hessian(_loss)(point, *fixed), jax.grad(_loss)(point, *fixed))
        shares = jnp.asarray([1, 0.5, 0.2, 0.05, 0.01, 0], point.dtype)
        tried = point[None] - shares[:, None] * step[None]
        return tried[jnp.nanargmin(jax.vmap(lambda p: _loss(p, *fixed))(tried))]

    fixed = lax.stop_gradient(problem)
    minimiser = lax.fori_loop(0, _STEPS, improve, lax.stop_gradient(start))
    # Differentiated as a root of the gradient: the implicit function theorem, not the loop.
    minimiser = lax.custom_root(
        lambda point: jax.grad(_loss)(point, *problem),
        minimiser,
        lambda _, point: point,
        lambda linear, change: dense.solve(jax.jacobian(linear)(change), change),
    )
    # What has a closed form is not left to quadrature.
    minimiser = jnp.where(scales[0] == scales[1], start, minimiser)
    constant = jnp.stack([jnp.zeros_like(log_ratio), -log_ratio])
    return jnp.where(forward, minimiser, jnp.where(jnp.isnan(margin), jnp.nan, constant))


def _loss(point: Array, margin: Array, scales: Array, log_ratio: Array) -> Array:
    """Returns the expected logistic loss, (), of the logit slope x + shift along the direction."""
    # sigmoid(-log R) and sigmoid(log R) are P(y = +1) and P(y = -1).
    nodes = np.linspace(-_REACH, _REACH, _NODES)
    weights = np.exp(-(nodes**2) / 2)
    z, mass = (jnp.asarray(a, margin.dtype) for a in (nodes, weights / weights.sum()))
    slope, shift = point
    positive = jnp.sum(mass * jax.nn.softplus(-(slope * (margin + scales[1] * z) + shift)))
    negative = jnp.sum(mass * jax.nn.softplus(-(slope * (margin + scales[0] * z) - shift)))
    return jax.nn.sigmoid(-log_ratio) * positive + jax.nn.sigmoid(log_ratio) * negative
