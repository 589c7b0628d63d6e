"""Error counts of an argmax rule between K classes: sample, perturb towards each class, classify.

Every coordinate of every point is drawn, and for each other class the point is moved inside the
ball the furthest towards that class and classified again; no norm is subtracted from a margin.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sims.random import draws
from sims.simulate import attack
from sims.simulate.two_classes import BLOCK, ErrorCounts, count, over_blocks
from theory.domain import InvalidInput
from theory.problem import GaussianClasses, LinearScores, Threat


class TargetCounts(NamedTuple):
    """Integer counts for K classes; row y of a matrix is about the points of class y.

    Args:
        errors: points that some perturbation makes wrong; a tie counts, (K,).
        reached: points that the perturbation towards class j makes score j at least as high as
            their own class, (K, K), zero on the diagonal.
        attributed: errors by the class that gets furthest ahead when moved towards, (K, K); a row
            sums to the errors of its class.
        nonfinite: points with a coordinate or a score that is not a finite number; they are in no
            other count, (K,).
    """

    errors: jax.Array
    reached: jax.Array
    attributed: jax.Array
    nonfinite: jax.Array


def points(key: jax.Array, classes: GaussianClasses, factors: jax.Array, count: int) -> jax.Array:
    """Returns `count` independent points of each class, (K, count, d).

    Args:
        key: a JAX key.
        classes: K Gaussian classes; their dtype is that of the draws.
        factors: lower Cholesky factors of the covariances, (K, d, d).
        count: points of each class.
    """
    number, dimension = classes.means.shape
    white = draws.normal(key, (number, count, dimension), classes.means.dtype)
    return classes.means[:, None, :] + _product(white, jnp.swapaxes(factors, 1, 2))


def target_counts(
    key: jax.Array,
    classes: GaussianClasses,
    scores: LinearScores,
    threat: Threat | None,
    trials: jax.Array | int,
    first_block: jax.Array | int = 0,
) -> TargetCounts:
    """Returns how many of `trials` points of each class are wrong, and towards which class.

    Args:
        key: a JAX key; block b draws from fold_in(key, b), so any range of blocks can be counted
            alone and the counts add up.
        classes: unbatched; its dtype is that of the draws.
        scores: the rule argmax_k w_k . x + b_k.
        threat: the perturbations allowed, or None for natural errors.
        trials: points of each class, at most 2^30; may be traced.
        first_block: the block to start from; may be traced.

    Returns:
        int32 counts.

    Raises:
        InvalidInput: for shapes that do not fit.
    """
    if classes.means.shape != scores.weights.shape:
        raise InvalidInput(
            f"weights.shape = {scores.weights.shape}: must be {classes.means.shape}, as means say"
        )
    # One at a time: batched factorisations of one program may lock each other out on CPUs.
    factors = jax.lax.map(jnp.linalg.cholesky, classes.covariances)
    moves = _moves(scores, threat)

    def add(key_of_block: jax.Array, _: jax.Array, wanted: jax.Array, counts: Any) -> TargetCounts:
        x = points(key_of_block, classes, factors, BLOCK)
        return jax.tree.map(jnp.add, counts, _count(x, scores, moves, wanted))

    number = classes.means.shape[0]
    one, two = jnp.zeros(number, jnp.int32), jnp.zeros((number, number), jnp.int32)
    counts: TargetCounts = over_blocks(
        add, TargetCounts(one, two, two, one), key, trials, first_block
    )
    return counts


def class_errors(counts: TargetCounts) -> ErrorCounts:
    """Returns the errors, (K,), as a sweep takes them."""
    return ErrorCounts(counts.errors, counts.nonfinite)


def reached_targets(counts: TargetCounts) -> ErrorCounts:
    """Returns the rows of `reached` one after the other, without the diagonal, (K (K - 1),)."""
    number = counts.errors.shape[0]
    pairs = [(y, j) for y in range(number) for j in range(number) if j != y]
    own, other = jnp.asarray(pairs).T
    return ErrorCounts(counts.reached[own, other], counts.nonfinite[own])


def _moves(scores: LinearScores, threat: Threat | None) -> jax.Array:
    """Returns the perturbation of class y towards class y + shift, (K - 1, K, d)."""
    number = scores.weights.shape[0]
    others = jnp.stack([jnp.roll(scores.weights, -shift, 0) for shift in range(1, number)])
    if threat is None:
        return jnp.zeros_like(others)

    def furthest(weight: jax.Array) -> jax.Array:
        return threat.radius * attack.steepest(threat, weight)

    return jax.vmap(jax.vmap(furthest))(others - scores.weights[None])


def _count(x: jax.Array, scores: LinearScores, moves: jax.Array, wanted: jax.Array) -> TargetCounts:
    """Returns the counts of one block of points, (K, n, d), of which `wanted` are counted."""
    number = x.shape[0]
    own = jnp.arange(number)

    def attacked(shift_and_move: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        """Whether each point is wrong, how far the target is ahead, and whether all is finite."""
        shift, move = shift_and_move
        answer = _product(x + move[:, None, :], scores.weights.T) + scores.biases[None, None, :]
        mine = answer[own, :, own]
        ahead = answer[own, :, (own + shift) % number] - mine
        # Its own score aside: a tie of the largest score with the own class is an error.
        rival = jnp.where(own[:, None, None] == own[None, None, :], -jnp.inf, answer).max(-1)
        return rival >= mine, ahead, jnp.isfinite(answer).all(-1)

    # By shift, not by target: class y is moved towards y + shift, so that every row has a move, and
    # one after the other, so that the moved copies of the points never lie side by side.
    shifts = jnp.arange(1, number)
    wrong, ahead, finite = jax.lax.map(attacked, (shifts, moves))
    good = finite.all(0) & jnp.isfinite(x).all(-1)
    spoiled, good = ~good & wanted, good & wanted
    errs = wrong.any(0) & good
    # The target that gets furthest ahead; of several the one of the smallest shift.
    leader = jnp.argmax(ahead, 0)[None] + 1 == shifts[:, None, None]
    row = jnp.broadcast_to(own[None, :], (number - 1, number))
    column = (row + shifts[:, None]) % number
    empty = jnp.zeros((number, number), jnp.int32)
    return TargetCounts(
        count(errs),
        empty.at[row, column].set(count((ahead >= 0) & good[None])),
        empty.at[row, column].set(count(leader & errs[None])),
        count(spoiled),
    )


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)
