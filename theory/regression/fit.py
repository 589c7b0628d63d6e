"""Fits of least adversarial squared risk, each with a bound on what it misses.

The optimum is found on its path (`theory.regression.paths`); that it is one is shown by a dual
point, which knows nothing of the path. What follows from fits is here too: keep or drop the
spurious features, and how much of their correlation must survive (theory document C4, C7, C8).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from theory.numerics import dense
from theory.numerics.arguments import checked_arguments
from theory.problem import Regression, Threat
from theory.regression.paths import MEAN_SIZE, Optimum, polyhedral_optimum, ridge_optimum
from theory.regression.risk import (
    ball,
    ball_order,
    deviation,
    multiplier,
    polar_norm,
    root_of_square,
    squared_risk,
    times,
    zero_radius,
)
from theory.rules.risk import dual_norm


class RegressionFit(NamedTuple):
    """The weights of least adversarial squared risk, and what is known of them.

    Args:
        weight: the minimiser, (..., d).
        risk: its adversarial squared risk, (...).
        gap: an upper bound, by duality, on the risk in excess of the least one, up to rounding.
        multiplier: kappa, with Sigma (w_o - w) in kappa times the subgradient of ||w||_q, (...).
        singular: whether the covariance is singular to rounding. The true weights are then known
            up to its null space only, and what replaces them is their part in its range (l_2) or
            the interpolating weights of least dual norm (l_1, l_inf), booleans (...).
    """

    weight: Array
    risk: Array
    gap: Array
    multiplier: Array
    singular: Array


def _certificate(
    problem: Regression, order: float, radius: Array, optimum: Optimum, s: Array, norm: Array
) -> Array:
    """Returns by how much the risk may exceed the least one (theory document C8).

    Every u with ||u||_p <= beta and u' Sigma^-1 u <= alpha^2 bounds all risks from below, by
    u . w_o + noise sqrt(alpha^2 - u' Sigma^-1 u) - risk; here u = t Sigma v for the best t >= 0.
    """
    # u' Sigma^-1 u is t^2 u . v: nothing is inverted. v is (w_o - w) / kappa, which the path knows
    # even where that is 0 / 0, at the true weights without noise.
    v, noise = optimum.direction, problem.noise
    u = times(problem.covariance, v)
    power, gain = jnp.maximum(jnp.sum(u * v), 0), jnp.sum(u * problem.weight)
    alpha = 2 * (s + MEAN_SIZE * radius * norm)
    beta = 2 * radius * (MEAN_SIZE * s + radius * norm)
    length, root = polar_norm(order, u), root_of_square(power)
    most = jnp.minimum(
        beta / jnp.where(length > 0, length, 1), alpha / jnp.where(root > 0, root, 1)
    )
    scale = root_of_square(power * (gain * gain + noise * noise * power))
    best = jnp.where(noise > 0, gain * alpha / jnp.where(scale > 0, scale, 1), jnp.inf)
    # The bound is concave in t, with `best` for its maximum before either constraint cuts in.
    t = jnp.where((power > 0) & (gain > 0), jnp.clip(best, 0, most), 0)
    # alpha, beta and `risk` are those of the weights handed out: the bound holds whatever v is.
    bound = t * gain + noise * root_of_square(alpha * alpha - t * t * power)
    push = radius * norm
    risk = s * s + 2 * MEAN_SIZE * push * s + push * push
    return jnp.maximum(2 * risk - bound, 0)


def _condition(
    problem: Regression, order: float, radius: Array, optimum: Optimum, zero: Array
) -> Any:
    """Returns the equations that the optimum solves among weights with the same ties and signs."""
    # As many equations as weights, whatever is tied: implicit derivatives need a square system.
    free, sign, start = optimum.free, optimum.sign, optimum.weight
    first = jnp.argmin(free)  # a coordinate of largest weight, for l_1

    def equations(weight: Array) -> Array:
        error = problem.weight - weight
        pull = times(problem.covariance, error)
        s = root_of_square(jnp.sum(error * pull) + problem.noise**2)
        if order == jnp.inf:
            kappa = multiplier(radius, s, radius * jnp.sum(jnp.where(free, sign * weight, 0)))
            inside = jnp.where(free, pull - kappa * sign, weight)
        elif order == 2:
            norm = root_of_square(jnp.sum(weight * weight))
            kappa = multiplier(radius, s, radius * norm)
            inside = pull - kappa * weight / jnp.where(norm > 0, norm, 1)
        else:
            norm = sign[first] * weight[first]
            kappa = multiplier(radius, s, radius * norm)
            total = jnp.sum(jnp.where(free, 0, sign * pull)) - kappa
            tied = jnp.where(jnp.arange(weight.size) == first, total, weight - sign * norm)
            inside = jnp.where(free, pull, tied)
        return jnp.where(zero, weight, jnp.where(optimum.natural, weight - start, inside))

    return equations


def _implicit(equations: Any, root: Array) -> Array:
    """Returns the root itself, (d,), with the derivatives of the implicit function theorem.

    The solver that `custom_root` asks for returns its guess: the path has found the root already.
    """

    def tangent(linear: Any, change: Array) -> Array:
        columns = jax.vmap(linear)(jnp.eye(change.size, dtype=change.dtype))
        return dense.solve(columns.T, change)

    solution: Array = lax.custom_root(
        equations, lax.stop_gradient(root), lambda _, guess: guess, tangent
    )
    return solution


def _definiteness(matrix: Array) -> tuple[Array, Array]:
    """Returns whether a symmetric matrix is singular, and whether semidefinite, to rounding."""
    values = dense.eigh(matrix)[0]
    limit = 16 * matrix.shape[-1] * np.finfo(matrix.dtype).eps * values[-1]
    return values[0] <= limit, values[0] >= -limit


def _optimum(
    weight: Array, covariance: Array, noise: Array, radius: Array, order: float
) -> Optimum:
    """Returns the point of the path of one problem: (d,), (d, d), () and (), the ball's order."""
    if order == 2:
        return ridge_optimum(weight, covariance, noise, radius)
    return polyhedral_optimum(weight, covariance, noise, radius, sup=order == 1)


def _solve(
    weight: Array, covariance: Array, noise: Array, radius: Array, order: float
) -> tuple[Array, ...]:
    """Returns the fields of a fit to one problem."""
    problem = Regression._make((weight, covariance, noise))
    # Events of the path are decided on values; derivatives come from the equations at its end.
    inputs = lax.stop_gradient((weight, covariance, noise, radius))
    optimum = _optimum(*inputs, order)
    singular, semidefinite = _definiteness(inputs[1])
    zero = lax.stop_gradient(radius >= zero_radius(problem, ball(order, radius)))
    # The true weights to the last place, unless the covariance does not determine them.
    true = optimum.natural & ~singular
    # No weight at all has its own dual point: u along Cov(x, y) = Sigma w_o.
    kept = jnp.where(zero, 0, jnp.where(true, inputs[0], optimum.weight))
    optimum = optimum._replace(weight=kept, direction=jnp.where(zero, inputs[0], optimum.direction))
    equations = _condition(problem, order, radius, optimum, zero)
    fitted = _implicit(equations, kept)
    # Where they are optimal all around, the optimum moves with the true weights, one for one.
    fitted = jnp.where(true & ~zero, weight, fitted)
    threat = ball(order, radius)
    s, norm = deviation(problem, fitted), dual_norm(threat, fitted)
    gap = _certificate(problem, order, radius, optimum, s, norm)
    rounding = 8 * weight.size * np.finfo(weight.dtype).eps * jnp.max(jnp.abs(covariance))
    symmetric = jnp.all(jnp.abs(covariance - covariance.T) <= rounding)
    good = (radius >= 0) & (noise >= 0) & symmetric & semidefinite
    risk, kappa = squared_risk(problem, fitted, threat), multiplier(radius, s, radius * norm)
    known = (
        jnp.where(good, value, jnp.nan) for value in (fitted, risk, lax.stop_gradient(gap), kappa)
    )
    return (*known, singular)


@functools.partial(jax.jit, static_argnums=0)
def _fit(order: float, *values: Array) -> RegressionFit:
    solve = functools.partial(_solve, order=order)
    signature = "(d),(d,d),(),()->(d),(),(),(),()"
    return RegressionFit(*jnp.vectorize(solve, signature=signature)(*values))


def _aligned(problem: Regression, radius: Array) -> tuple[Array, ...]:
    """Returns the fields and the radius, all with the same leading axes."""
    cores = (1, 2, 0, 0)
    values = (*problem, jnp.asarray(radius, problem.weight.dtype))
    shapes = [jnp.shape(v)[: jnp.ndim(v) - core] for v, core in zip(values, cores, strict=True)]
    leading = jnp.broadcast_shapes(*shapes)
    return tuple(
        jnp.broadcast_to(v, leading + jnp.shape(v)[jnp.ndim(v) - core :])
        for v, core in zip(values, cores, strict=True)
    )


@checked_arguments
def fit(problem: Regression, threat: Threat) -> RegressionFit:
    """Returns the weights of least adversarial squared risk, with a duality gap for each.

    Args:
        problem: one or many, fields broadcast over leading axes with the radius.
        threat: an l_1, l_2 or l_inf ball.

    Returns:
        A `RegressionFit`, differentiable but for its gap. Where a weight is about to change its
        support or its ties, the derivative is that of one side. Inside `jit`, nan for a radius or
        a noise below zero, or a covariance that is not symmetric positive semidefinite.

    Raises:
        InvalidInput: for another type of threat.

    References:
        moayeri2022explicit; efron2004lars for the path; theory document C2, C8.

    >>> from theory.problem import LinfBall
    >>> problem = Regression([1.0, 0.0], [[1.0, 0.5], [0.5, 1.0]], 0.0)
    >>> found = fit(problem, LinfBall(1.0))  # without noise (1 - c t) / (1 - 2 c t + t^2) at t = 1
    >>> [round(float(w), 4) for w in found.weight], float(found.gap) < 1e-5
    ([0.5, 0.0], True)
    """
    fitted: RegressionFit = _fit(ball_order(threat), *_aligned(problem, threat.radius))
    return fitted


@checked_arguments
def natural_radius(problem: Regression, threat: Threat) -> Array:
    """Returns eps_1, the largest radius at which the true weights themselves are optimal, (...).

    With noise it is zero. Without, it is c / sqrt(min g' Sigma^-1 g) over the subgradients g of
    the dual norm at w_o, so that training against a small threat changes nothing; infinite for
    w_o = 0. Only the norm of `threat` matters.

    References:
        moayeri2022explicit; theory document C4.d.

    >>> from theory.problem import L2Ball
    >>> problem = Regression([2.0], [[9.0]], 0.0)
    >>> round(float(natural_radius(problem, L2Ball(0.0))), 6)  # sqrt(2 / pi) * 3
    2.393654
    """
    values = _aligned(problem, jnp.zeros((), problem.weight.dtype))
    radius: Array = _natural_radius(ball_order(threat), *values)
    return radius


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jnp.vectorize, excluded=(0,), signature="(d),(d,d),(),()->()")
def _natural_radius(
    order: float, weight: Array, covariance: Array, noise: Array, radius: Array
) -> Array:
    # At radius zero the path ends at the true weights, and its last direction is Sigma^-1 g for the
    # subgradient g that minimises g' Sigma^-1 g.
    fixed = lax.stop_gradient((weight, covariance, jnp.zeros_like(noise), radius))
    v = _optimum(*fixed, order).direction
    size = root_of_square(jnp.sum(weight * weight))
    g = weight / jnp.where(size > 0, size, 1) if order == 2 else times(fixed[1], v)
    # Its own derivative is that of g' Sigma^-1 g, whose minimiser stays put.
    steepness = 2 * jnp.sum(g * v) - jnp.sum(v * times(covariance, v))
    found = MEAN_SIZE / jnp.sqrt(jnp.where(steepness > 0, steepness, 1))
    return jnp.where(jnp.all(weight == 0), jnp.inf, jnp.where(noise > 0, 0, found))


@checked_arguments
def without_spurious(problem: Regression) -> Regression:
    """Returns the problem with its spurious features, those of true weight zero, made pure noise.

    They become uncorrelated with all else and of variance one, so that no optimum uses them: its
    fit is the fit of the core features alone. To delete them, shapes would depend on values.

    Args:
        problem: one or many; weights (..., d) of which those that are zero mark the features.

    >>> problem = Regression([1.0, 0.0], [[1.0, 0.5], [0.5, 4.0]], 1.0)
    >>> without_spurious(problem).covariance.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    core = problem.weight != 0
    both = core[..., :, None] & core[..., None, :]
    alone = jnp.where(core, 0, 1).astype(problem.weight.dtype)[..., None, :]
    identity = jnp.eye(core.shape[-1], dtype=problem.weight.dtype)
    diagonal = alone * jnp.expand_dims(identity, range(core.ndim - 1))
    return problem._replace(covariance=jnp.where(both, problem.covariance, diagonal))


class KeepOrDrop(NamedTuple):
    """The fit to all features, the fit to the core features alone, and the risk that is saved.

    Args:
        keep, drop: the two fits.
        gain: adversarial risk of `drop` minus that of `keep`, (...); positive if and only if the
            optimum uses a spurious feature.
    """

    keep: RegressionFit
    drop: RegressionFit
    gain: Array


@checked_arguments
def keep_or_drop(problem: Regression, threat: Threat) -> KeepOrDrop:
    """Returns what the spurious features are worth to adversarial training.

    Args:
        problem: one or many, with spurious features where the true weight is zero.
        threat: an l_1, l_2 or l_inf ball.

    Raises:
        InvalidInput: for another type of threat.

    References:
        moayeri2022explicit; theory document C7.

    >>> from theory.problem import LinfBall
    >>> problem = Regression([1.0, 0.0], [[1.0, 0.5], [0.5, 1.0]], 1.0)
    >>> float(keep_or_drop(problem, LinfBall(0.3)).gain) < 1e-6  # |corr| sd_S < sd_C
    True
    """
    keep, drop = fit(problem, threat), fit(without_spurious(problem), threat)
    return KeepOrDrop(keep, drop, drop.risk - keep.risk)


@checked_arguments
def shift_cost(problem: Regression, shifted: Array, weight: Array) -> Array:
    """Returns by how much the standard risk rises when the covariance becomes `shifted`, (...).

    (w_o - w)' (shifted - Sigma) (w_o - w): zero for the true weights, whatever the shift.

    Args:
        problem: the law before the shift, with true weights w_o.
        shifted: covariance of the features after it, (..., d, d).
        weight: any weights w, (..., d).

    References:
        moayeri2022explicit; theory document C7.

    >>> problem = Regression([1.0, 0.0], [[1.0, 0.5], [0.5, 1.0]], 1.0)
    >>> float(shift_cost(problem, jnp.asarray([[1.0, -0.5], [-0.5, 1.0]]), jnp.asarray([0.5, 1.0])))
    1.0
    """
    error = problem.weight - weight
    return jnp.sum(error * times(shifted - problem.covariance, error), -1)


class BreakEven(NamedTuple):
    """How much of the core-spurious covariance must survive for keeping to match dropping.

    Args:
        standard, adversarial: factors, (...), of the covariance of core with spurious features in
            training; above one where even the training law does not suffice. nan where the fit
            uses no spurious feature, or no covariance reaches the risk of dropping them.
    """

    standard: Array
    adversarial: Array


@checked_arguments
def break_even(problem: Regression, threat: Threat) -> BreakEven:
    """Returns the break-even factors of the correlation, by standard and by adversarial risk.

    Arguments as for `keep_or_drop`, whose fits are compared.

    Raises:
        InvalidInput: for another type of threat than an l_1, l_2 or l_inf ball.

    References:
        moayeri2022explicit; theory document C7.

    >>> from theory.problem import L2Ball
    >>> problem = Regression([1.0, 0.0], [[1.0, 0.75], [0.75, 1.0]], 1.0)
    >>> found = break_even(problem, L2Ball(1.0))  # the spurious feature saves adversarial risk
    >>> bool(found.adversarial < 1)
    True
    """
    both = keep_or_drop(problem, threat)
    keep, drop = both.keep.weight, both.drop.weight
    spurious = jnp.where(problem.weight == 0, keep, 0)
    core_error = jnp.where(problem.weight == 0, 0, problem.weight - keep)
    # s^2 holds the core-spurious covariance in this one term, so that it is linear in the factor.
    coupling = 2 * jnp.sum(core_error * times(problem.covariance, spurious), -1)
    s = deviation(problem, keep)
    push = threat.radius * dual_norm(threat, keep)
    # The s at which s^2 + 2 c push s + push^2 is the risk of dropping.
    room = both.drop.risk - push * push
    goal = root_of_square((MEAN_SIZE * push) ** 2 + room) - MEAN_SIZE * push
    used = jnp.any(spurious != 0, -1) & (coupling != 0)
    over = jnp.where(used, coupling, 1)
    standard = 1 + (s * s - squared_risk(problem, drop)) / over
    adversarial = 1 + (s * s - goal * goal) / over
    return BreakEven(
        jnp.where(used, standard, jnp.nan), jnp.where(used & (room >= 0), adversarial, jnp.nan)
    )
