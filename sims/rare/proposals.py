"""Proposals for rare errors: noise drawn where errors are, each point with its likelihood ratio.

Gaussian noise is moved to the nearest point where the perturbed class mean would err. Of stable
noise one coordinate, chosen anew for each point, is enlarged: the distance of its Chambers-
Mallows-Stuck angle from the pole is log-uniform. A point's ratio is that of the laws of all its
coordinates, so whatever a proposal assumes makes an estimate noisy, never biased; and on errors
the ratio has a known upper bound, without which no exact interval would end.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sims.random import draws
from theory.domain import InvalidInput
from theory.problem import GaussianMixture, Law, StableMixture

# Share of points drawn from the law itself.
DEFENSIVE = 0.1
# Edge distances below this are not told apart; no draw of the law itself comes near.
_LEAST_EDGE = 1e-30


class Boundary(NamedTuple):
    """Where a class errs: direction . noise >= distance, for noise at unit scale.

    Args:
        direction: against the label, largest entry 1 in magnitude, or all zeros, (2, d).
        distance: of the perturbed class mean from the boundary; errors are rare if it is large,
            (2,).
    """

    direction: jax.Array
    distance: jax.Array


class Proposal(NamedTuple):
    """Noise, and likelihood ratios in units of their bound.

    Args:
        noise: at unit class scale, (2, count, d).
        relative: ratio over bound, at most 1 wherever the point errs, (2, count).
        log_bound: logarithm of what no ratio of an error exceeds, (2,).
    """

    noise: jax.Array
    relative: jax.Array
    log_bound: jax.Array


@functools.singledispatch
def propose(mixture: Law, boundary: Boundary, key: jax.Array, count: int) -> Proposal:
    """Returns `count` points of noise for each class, drawn near the boundary, (2, count, d).

    Args:
        mixture: one problem, unbatched.
        boundary: where each of its classes errs.
        key: a JAX key.
        count: points of each class.

    Raises:
        InvalidInput: for another law.
    """
    raise InvalidInput(
        f"mixture = {type(mixture).__name__}: rare errors are simulated for a GaussianMixture or a "
        "StableMixture"
    )


@propose.register
def _(mixture: GaussianMixture, boundary: Boundary, key: jax.Array, count: int) -> Proposal:
    """Draws standard Gaussians e and moves them by m, the point of the boundary nearest to zero.

    The ratio is exp(-m . e - |m|^2 / 2), and e is on the far side of m where the point errs.
    """
    means, direction = mixture.means, boundary.direction
    white = draws.normal(key, (2, count, means.shape[-1]), means.dtype)
    factor = None if mixture.covariance is None else jnp.linalg.cholesky(mixture.covariance)
    steepest = direction if factor is None else _product(direction, factor)
    square = jnp.sum(steepest**2, -1)
    rare = (boundary.distance > 0) & (square > 0)
    length = jnp.where(rare, boundary.distance / jnp.where(square > 0, square, 1), 0)
    # Where errors are not rare the move is zero, the ratio one, and points are counted plainly.
    move = length[:, None] * steepest
    along = jnp.einsum("cnd,cd->cn", white, move, precision=jax.lax.Precision.HIGHEST)
    noise = white + move[:, None, :]
    if factor is not None:
        noise = _product(noise, factor.T)
    return Proposal(noise, jnp.exp(-along), -jnp.sum(move**2, -1) / 2)


@propose.register
def _(mixture: StableMixture, boundary: Boundary, key: jax.Array, count: int) -> Proposal:
    """Draws a share DEFENSIVE of the points from the law, the others with one large coordinate.

    Nothing is cut: below a small edge distance the proposal is uniform instead of log-uniform.
    The ratio's inverse is DEFENSIVE + sum_i c_i h_i over the coordinates that push towards an
    error, h_i = (A / max(R_i, cut_i) + D) g(W_i), where pi/2 R = pi/2 - |U|, A = sin(pi alpha / 2)
    and D = 4 (1 - A); g is in `_exponential_ratio`. Since

        |X|^alpha = sin(alpha |U|)^alpha cos((1 - alpha) U)^(1 - alpha) W^(alpha - 1) / sin(pi/2 R)

    is at most (A / R + D) W^(alpha - 1) (numerically: the tests go over a grid), h_i is at least
    k |X_i|^alpha above the cut, and the cut is where h_i >= k T_i^alpha below it, T_i being the
    size at which coordinate i alone errs; k is in `_exponential_ratio`, too. An error
    needs sum_i min(|X_i|, T_i) / T_i >= 1, and c_i is proportional to T_i^-alpha: by Hoelder's
    inequality sum_i c_i h_i >= k d^-max(alpha - 1, 0) c_j T_j^alpha, any j, where the point errs.
    """
    shape, alpha = (2, count, mixture.means.shape[-1]), mixture.alpha
    keys = jax.random.split(key)
    jump = _jump(alpha, boundary)
    plain = draws.primitives(keys[0], shape, mixture.means.dtype)
    # Five uniforms a point: which coordinate, and two each for its edge and its exponential.
    noise = _enlarge(jump, plain, draws.primitives(keys[1], (5, *shape[:2]), mixture.means.dtype))
    pushes = noise.sign == jump.side[:, None, :]
    density = jnp.where(pushes, _density_ratio(jump, noise), 0)
    mixed = jnp.einsum("cnd,cd->cn", density, jump.weight, precision=jax.lax.Precision.HIGHEST)
    relative = jnp.exp(-jump.log_bound)[:, None] / (jump.defensive[:, None] + mixed)
    return Proposal(draws.stable_of(noise, alpha), relative, jump.log_bound)


class _Jump(NamedTuple):
    """How each class's large coordinate is drawn; arrays (2, d) unless said.

    Args:
        alpha: stability index, ().
        side: the sign that pushes towards an error.
        log_cut: logarithm of the edge distance below which the proposal is uniform.
        chances: cumulative; up to the first nothing is enlarged, up to the next coordinate 0, ...
        weight: c_i of the inverse ratio.
        defensive: share drawn from the law itself, (2,).
        log_bound: as in `Proposal`, (2,).
    """

    alpha: jax.Array
    side: jax.Array
    log_cut: jax.Array
    chances: jax.Array
    weight: jax.Array
    defensive: jax.Array
    log_bound: jax.Array


def _jump(alpha: jax.Array, boundary: Boundary) -> _Jump:
    direction, distance = boundary
    size = jnp.abs(direction)
    used, rare = size > 0, distance > 0
    # In logarithms: sizes and reaches to the power alpha leave the range of float32.
    log_reach = alpha * jnp.log(jnp.where(rare, distance, 1))[:, None]
    power = jnp.where(used, jnp.where(used, size, 1) ** alpha, 0)
    least = jnp.where(alpha < 1, 1, 2 - alpha) * _near(alpha)
    log_cut = jnp.log(least) + jnp.log(jnp.where(used, power, 1)) - log_reach
    log_cut = jnp.clip(log_cut, math.log(_LEAST_EDGE), 0)
    mass = power * (_near(alpha) * (1 - log_cut) + _flat(alpha))
    total = jnp.sum(mass, -1, keepdims=True)
    defensive = jnp.where(rare & (total[:, 0] > 0), jnp.asarray(DEFENSIVE, size.dtype), 1)
    share = (1 - defensive[:, None]) / jnp.where(total > 0, total, 1)
    cumulative = jnp.cumsum(share * mass, -1) + defensive[:, None]
    number = jnp.maximum(jnp.sum(used, -1, dtype=size.dtype), 1)
    spread = number ** -jnp.maximum(alpha - 1, 0)
    smallest = jnp.where(alpha < 1, alpha / (1 + alpha), 1)
    inverse = defensive + 2 * share[:, 0] * smallest * jnp.exp(log_reach[:, 0]) * spread
    chances = jnp.concatenate([defensive[:, None], cumulative[:, :-1]], -1)
    weight = 2 * share * power
    return _Jump(alpha, jnp.sign(direction), log_cut, chances, weight, defensive, -jnp.log(inverse))


def _near(alpha: jax.Array) -> jax.Array:
    """A of the docstring of the proposal: how heavy the tail is beside the bulk, in (0, 1]."""
    return jnp.sin(math.pi / 2 * jnp.minimum(alpha, 2 - alpha))


def _flat(alpha: jax.Array) -> jax.Array:
    return 4 * (1 - _near(alpha))


def _enlarge(jump: _Jump, plain: draws.Primitives, extra: draws.Primitives) -> draws.Primitives:
    """Returns the variables with those of at most one coordinate of each point replaced."""
    uniform = jnp.where(extra.near_pole, extra.edge, 1 - extra.edge)
    past = uniform[0][:, :, None] >= jump.chances[:, None, :]
    coordinate = jnp.sum(past, -1, dtype=jnp.int32)[:, :, None]  # from 1; 0 if none is enlarged
    number = jnp.arange(1, jump.side.shape[-1] + 1, dtype=jnp.int32)
    chosen = coordinate == number[None, None, :]
    log_cut = jnp.take_along_axis(jump.log_cut, jnp.maximum(coordinate[..., 0] - 1, 0), axis=-1)
    edge = _edge(jump.alpha, log_cut, uniform[1], uniform[2])[..., None]
    slow = _exponential(jump.alpha, uniform[3], uniform[4], extra.exponential)[..., None]
    # As `Primitives` has it: the distance from the nearer end, and which end that is.
    near = edge <= 0.5
    return plain._replace(
        sign=jnp.where(chosen, jump.side[:, None, :], plain.sign),
        near_pole=jnp.where(chosen, near, plain.near_pole),
        edge=jnp.where(chosen, jnp.where(near, edge, 1 - edge), plain.edge),
        exponential=jnp.where(chosen, slow, plain.exponential),
    )


def _edge(alpha: jax.Array, log_cut: jax.Array, which: jax.Array, uniform: jax.Array) -> jax.Array:
    """Draws R in (0, 1) of density proportional to A / max(R, cut) + D."""
    near = _near(alpha)
    # Three parts: below the cut uniform, above it log-uniform, and the flat part.
    which = which * (near * (1 - log_cut) + _flat(alpha))
    log_uniform = jnp.exp(log_cut * uniform)
    inner = jnp.where(which < near, jnp.exp(log_cut) * uniform, log_uniform)
    return jnp.where(which < near * (1 - log_cut), inner, uniform)


def _exponential(
    alpha: jax.Array, which: jax.Array, uniform: jax.Array, exponentials: jax.Array
) -> jax.Array:
    """Draws W with the density ratio `_exponential_ratio` to the exponential law.

    Large coordinates have the W of a gamma law of shape alpha. Above 1 its density is at most that
    of a mixture of gamma laws of shapes 1 and 2; below 1 a power of a uniform stands in.
    """
    light = exponentials[0] + jnp.where(which < alpha - 1, exponentials[1], 0)
    # The draws of smaller W exceed every finite number whenever a uniform can make such W.
    least = float(np.finfo(uniform.dtype).tiny) ** 0.8
    power = jnp.maximum(uniform ** (1 / alpha), least)
    return jnp.where((alpha < 1) & (which * (1 + alpha) < 1), power, light)


def _exponential_ratio(alpha: jax.Array, w: jax.Array) -> jax.Array:
    """g(w) >= k w^(alpha - 1), with k = alpha / (1 + alpha) below alpha = 1, otherwise 1."""
    below = jnp.where(w < 1, jnp.where(w < 1, w, 1) ** (alpha - 1) * jnp.exp(w), 0)
    return jnp.where(alpha < 1, alpha / (1 + alpha) * (below + 1), (2 - alpha) + (alpha - 1) * w)


def _density_ratio(jump: _Jump, drawn: draws.Primitives) -> jax.Array:
    """h_i of the docstring of the proposal, (2, count, d)."""
    edge = jnp.where(drawn.near_pole, drawn.edge, 1 - drawn.edge)
    edge = jnp.maximum(edge, jnp.exp(jump.log_cut)[:, None, :])
    shape = _near(jump.alpha) / edge + _flat(jump.alpha)
    return shape * _exponential_ratio(jump.alpha, drawn.exponential)


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
