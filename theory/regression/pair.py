"""One core and one spurious feature: the path of adversarial training in closed form.

The same forms serve any number of exchangeable core and exchangeable spurious features, which
behave as one pair (theory document C3, C6; Moayeri et al. 2022).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from theory.numerics import dense
from theory.numerics.arguments import checked_arguments
from theory.numerics.root import bracketed_root
from theory.problem import Regression, Threat
from theory.regression.paths import penalty_radius
from theory.regression.risk import ball_order, polar_norm, root_of_square, times, zero_radius
from theory.rules.risk import dual_norm


def _entries(problem: Regression) -> tuple[Array, Array, Array, Array, Array]:
    """Returns |theta|, a, |b|, d and the sign of the covariance, of a pair."""
    covariance = problem.covariance
    b = covariance[..., 0, 1]
    sign = jnp.where(b < 0, -1, 1).astype(b.dtype)
    theta = jnp.abs(problem.weight[..., 0])
    return theta, covariance[..., 0, 0], jnp.abs(b), covariance[..., 1, 1], sign


@checked_arguments
def pair_weights(problem: Regression, penalty: Array, threat: Threat) -> Array:
    """Returns the weights (core, spurious) on the path of a pair, in closed form, (..., 2).

    Args:
        problem: true weights (theta, 0), (..., 2), and a positive definite covariance, (..., 2, 2).
        penalty: kappa >= 0 against l_1 and l_inf; against l_2 the ridge, kappa / ||w||_2; (...).
        threat: the ball; only its norm matters.

    References:
        moayeri2022explicit; theory document C3.

    >>> from theory.problem import LinfBall
    >>> problem = Regression([1.0, 0.0], [[1.0, 0.5], [0.5, 1.0]], 1.0)
    >>> pair_weights(problem, jnp.asarray(0.25), LinfBall(0.0)).tolist()  # theta - kappa / a
    [0.75, 0.0]
    """
    core, _, spurious = _path(problem, penalty, ball_order(threat))
    direction = jnp.sign(problem.weight[..., 0])
    sign = _entries(problem)[-1]
    return jnp.stack([direction * core, direction * sign * spurious], -1)


def _path(problem: Regression, penalty: Array, order: float) -> tuple[Array, Array, Array]:
    """Returns |w_C|, theta - |w_C| and |w_S| on the path, each without cancellation.

    theta - |w_C| is what risks are made of, and near the true weights a difference would drown in
    rounding. Signs are put back by `pair_weights`: flipping one feature flips its weight.
    """
    theta, a, b, d, _ = _entries(problem)
    form = {1.0: _path_l1, 2.0: _path_l2, float("inf"): _path_linf}[order]
    return form(theta, a, b, d, jnp.asarray(penalty, theta.dtype))


def _path_l2(
    theta: Array, a: Array, b: Array, d: Array, ridge: Array
) -> tuple[Array, Array, Array]:
    share = b / (d + ridge)
    unit = theta / (a + ridge - share * b)
    return unit * (a - share * b), unit * ridge, unit * ridge * share


def _path_linf(
    theta: Array, a: Array, b: Array, d: Array, kappa: Array
) -> tuple[Array, Array, Array]:
    # With b > a, and so d > b, the spurious weight grows until the core one is down to zero, then
    # shrinks alone. With b <= a it is never used (theory document C3).
    minor, gap = a * d - b * b, jnp.where(d > b, d - b, 1)
    early = kappa * gap <= theta * minor
    error = jnp.where(early, kappa * gap / minor, theta)
    spurious = jnp.where(early, kappa * (b - a) / minor, (b * theta - kappa) / d)
    error = jnp.where(b > a, error, kappa / a)
    error = jnp.minimum(error, theta)
    return theta - error, error, jnp.maximum(jnp.where(b > a, spurious, 0), 0)


def _path_l1(
    theta: Array, a: Array, b: Array, d: Array, kappa: Array
) -> tuple[Array, Array, Array]:
    # The largest weight alone is penalised: the spurious one grows up to it, then both are equal.
    minor = a * d - b * b
    early = kappa * (d + b) <= theta * minor
    equal = jnp.maximum(((a + b) * theta - kappa) / (a + d + 2 * b), 0)
    error, spurious = kappa * d / minor, kappa * b / minor
    core, error = jnp.where(early, theta - error, equal), jnp.where(early, error, theta - equal)
    return core, error, jnp.where(early, spurious, equal)


@checked_arguments
def pair_fit(problem: Regression, threat: Threat) -> Array:
    """Returns the weights (core, spurious) of least adversarial squared risk of a pair, (..., 2).

    A point of the closed path, found by a bracketed root in its penalty; differentiable.

    Args:
        problem: true weights (theta, 0), (..., 2), and a positive definite covariance, (..., 2, 2).
        threat: an l_1, l_2 or l_inf ball; the radius may have leading axes too.

    References:
        moayeri2022explicit; theory document C3.

    >>> from theory.problem import L1Ball
    >>> problem = Regression([1.0, 0.0], [[1.0, 0.5], [0.5, 1.0]], 0.1)
    >>> core, spurious = pair_fit(problem, L1Ball(1.5))  # from some radius on both are equal
    >>> bool(core == spurious), bool(core > 0)
    (True, True)
    """
    order = ball_order(threat)
    shape = jnp.broadcast_shapes(
        problem.weight.shape[:-1],
        problem.covariance.shape[:-2],
        problem.noise.shape,
        jnp.shape(threat.radius),
    )
    radius = jnp.broadcast_to(threat.radius, shape)
    problem = Regression._make(
        jnp.broadcast_to(field, shape + field.shape[field.ndim - core :])
        for field, core in zip(problem, (1, 2, 0), strict=True)
    )
    ridge = order == 2

    def excess(level: Array, weight: Array, covariance: Array, noise: Array, goal: Array) -> Array:
        law = Regression._make((weight, covariance, noise))
        level = jnp.exp(level) if ridge else level
        _, a, b, d, _ = _entries(law)
        core, error, spurious = _path(law, level, order)
        # From `error`, not from weights; minus, because |b| and |w_S| carry the sign of the error.
        square = a * error**2 - 2 * b * error * spurious + d * spurious**2
        s = root_of_square(jnp.maximum(square, 0) + noise**2)
        size = dual_norm(threat, jnp.stack([core, spurious], -1))
        return penalty_radius(level * size if ridge else level, s, size) - goal

    arguments = (*problem, radius)
    if ridge:
        # Ridges from exp(-80) to exp(80) traces: beyond them nothing changes in any dtype.
        middle = jnp.log(problem.covariance[..., 0, 0] + problem.covariance[..., 1, 1])
        level = bracketed_root(excess, middle - 80, middle + 80, *arguments)
        weight = pair_weights(problem, jnp.exp(level), threat)
    else:
        most = polar_norm(order, times(problem.covariance, problem.weight))
        level = bracketed_root(excess, jnp.zeros_like(most), most, *arguments)
        weight = pair_weights(problem, level, threat)
    # At both ends of the path the root is degenerate, and what it should be is known exactly.
    none = radius >= zero_radius(problem, threat)
    true = (radius == 0) | (radius <= pair_natural_radius(problem, threat))
    return jnp.where(none[..., None], 0, jnp.where(true[..., None], problem.weight, weight))


@checked_arguments
def pair_natural_radius(problem: Regression, threat: Threat) -> Array:
    """Returns eps_1 of a pair, up to which the true weights are optimal; zero with noise, (...).

    Args:
        problem: true weights (theta, 0), (..., 2), and a positive definite covariance, (..., 2, 2).
        threat: an l_1, l_2 or l_inf ball; only its norm matters.

    References:
        moayeri2022explicit; theory document C4.d.

    >>> from theory.problem import LinfBall
    >>> problem = Regression([1.0, 0.0], [[4.0, 1.0], [1.0, 1.0]], 0.0)
    >>> round(float(pair_natural_radius(problem, LinfBall(0.0))), 6)  # sqrt(2 / pi) * 2
    1.595769
    """
    _, a, b, d, _ = _entries(problem)
    # 1 / (g' Sigma^-1 g): the variance of the core feature given the spurious one for g = (1, 0),
    # and for l_inf the best g = (1, g_S) with |g_S| <= 1, which is an end of the interval if b > a.
    square = (a * d - b * b) / d
    if ball_order(threat) == jnp.inf:
        under = jnp.where(b > a, a + d - 2 * b, 1)
        square = jnp.where(b > a, (a * d - b * b) / under, a)
    natural = root_of_square(2 / jnp.pi * square)
    return jnp.where(problem.noise > 0, 0, natural)


@checked_arguments
def flip_cost(problem: Regression, weight: Array) -> Array:
    """Returns by how much the standard risk of a pair rises when its covariance changes sign.

    4 |b| (theta - w_C) |w_S|, (...), for weights on the path: never negative, and zero where the
    spurious feature is not used.

    Args:
        problem: the pair before the change.
        weight: weights (core, spurious) on its path, (..., 2).

    References:
        moayeri2022explicit; theory document C7.

    >>> problem = Regression([1.0, 0.0], [[1.0, 0.5], [0.5, 1.0]], 1.0)
    >>> float(flip_cost(problem, jnp.asarray([0.5, 1.0])))
    1.0
    """
    theta, _, b, _, _ = _entries(problem)
    return 4 * b * (theta - jnp.abs(weight[..., 0])) * jnp.abs(weight[..., 1])


class Block(NamedTuple):
    """Exchangeable core and exchangeable spurious features.

    Args:
        core, spurious: how many there are of each, static.
        core_variance, core_covariance: of and among core features, (...).
        spurious_variance, spurious_covariance: of and among spurious features, (...).
        coupling: covariance of a core with a spurious feature, (...).
        weight: true weight of every core feature, (...).
        noise: standard deviation of y given x, (...).
    """

    core: int
    spurious: int
    core_variance: Array
    core_covariance: Array
    spurious_variance: Array
    spurious_covariance: Array
    coupling: Array
    weight: Array
    noise: Array


@checked_arguments
def block_regression(block: Block) -> Regression:
    """Returns the problem of core + spurious features that a block stands for, unbatched."""
    kinds = jnp.arange(block.core + block.spurious) < block.core
    both, neither = kinds[:, None] & kinds[None, :], ~kinds[:, None] & ~kinds[None, :]
    shared = jnp.where(both, block.core_covariance, block.coupling)
    shared = jnp.where(neither, block.spurious_covariance, shared)
    variances = jnp.where(kinds, block.core_variance, block.spurious_variance)
    covariance = jnp.where(jnp.eye(kinds.size, dtype=bool), variances[None, :], shared)
    return Regression._make((jnp.where(kinds, block.weight, 0), covariance, block.noise))


@checked_arguments
def block_pair(block: Block, threat: Threat) -> tuple[Regression, Array]:
    """Returns the pair that a block is equivalent to, and how its weights scale back, (2,).

    The weights of every core and every spurious feature are those of the pair over k^(1/q) and
    m^(1/q), with k and m the numbers of features and q the dual order.

    References:
        moayeri2022explicit; theory document C6.

    >>> from theory.problem import LinfBall
    >>> numbers = [jnp.asarray(v) for v in (1.0, 0.0, 0.9, 0.0, 0.45, 1.0, 1.0)]
    >>> pair, scale = block_pair(Block(4, 1, *numbers), LinfBall(0.0))
    >>> [round(float(v), 6) for v in pair.covariance.ravel()], scale.tolist()  # 0.45 > 1 / 4
    ([0.25, 0.45, 0.45, 0.9], [0.25, 1.0])
    """
    # With all weights of a kind alike, ||w||_q of the block is that of the pair of k^(1/q) w_C and
    # m^(1/q) w_S; covariances are those of the sums over each kind, in the same unit.
    k, m = block.core, block.spurious
    power = 1 - 1 / ball_order(threat)  # 1 / q
    a = k * (block.core_variance + (k - 1) * block.core_covariance) * k ** (-2 * power)
    d = m * (block.spurious_variance + (m - 1) * block.spurious_covariance) * m ** (-2 * power)
    b = k * m * block.coupling * (k * m) ** -power
    theta = k**power * block.weight
    rows = jnp.stack([jnp.stack([a, b], -1), jnp.stack([b, d], -1)], -2)
    weight = jnp.stack([theta, jnp.zeros_like(theta)], -1)
    scale = jnp.asarray([k**-power, m**-power], theta.dtype)
    return Regression._make((weight, rows, block.noise)), scale


@checked_arguments
def irrepresentable_index(problem: Regression) -> Array:
    """Returns ||Sigma_SC Sigma_CC^-1 sign(w_C)||_inf: above one, small l_inf threats go spurious.

    The irrepresentable index of the lasso, (). For a pair it is |corr| sd_S / sd_C, so that a
    larger scale of the spurious feature is necessary but not sufficient; with several core features
    it is not even necessary. Up to one, larger radii may still go spurious once a core feature is
    out.

    Args:
        problem: unbatched, weights (d,), with positive definite covariance, (d, d).

    References:
        moayeri2022explicit; theory document C5.

    >>> problem = Regression([1.0, 0.0], [[1.0, 0.75], [0.75, 4.0]], 1.0)
    >>> float(irrepresentable_index(problem))
    0.75
    """
    core = problem.weight != 0
    identity = jnp.eye(core.size, dtype=problem.weight.dtype)
    # Sigma_CC with ones in place of the spurious rows: a solve of one shape whatever the weights.
    block = jnp.where(core[:, None] & core[None, :], problem.covariance, identity)
    pull = times(problem.covariance, dense.solve(block, jnp.sign(problem.weight)))
    return jnp.max(jnp.where(core, 0, jnp.abs(pull)))
