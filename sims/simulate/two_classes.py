"""Error counts of one problem: sample, perturb, classify, count."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sims.simulate import attack, sample
from theory.problem import Law, LinearClassifier, Threat

# Trials of each class drawn at once. Part of the definition of the draws: block b of a key is
# always the same points, so counts do not depend on how trials are cut into chunks.
BLOCK = 4096


class ErrorCounts(NamedTuple):
    """Integer counts for the classes [negative, positive], (2,).

    `nonfinite` counts points with a coordinate or a score that is not a finite number; they are
    not errors, and where there is any, the counts support no verdict.
    """

    errors: jax.Array
    nonfinite: jax.Array


def classify(
    x: jax.Array, classifier: LinearClassifier, threat: Threat | None
) -> tuple[jax.Array, jax.Array]:
    """Returns whether points of both classes err under attack, and whether they are finite.

    Args:
        x: points, (2, n, d), in the order [negative, positive].
        classifier: the rule.
        threat: the perturbations allowed, or None.

    Returns:
        two arrays of booleans, (2, n); finite means that every coordinate and the score are.
    """
    y = jnp.broadcast_to(jnp.asarray(sample.LABELS, x.dtype)[:, None], x.shape[:-1])
    scores = attack.score(classifier, attack.perturb(threat, classifier, x, y))
    return attack.errs(scores, y), jnp.isfinite(x).all(-1) & jnp.isfinite(scores)


def class_errors(
    key: jax.Array,
    mixture: Law,
    classifier: LinearClassifier,
    threat: Threat | None,
    trials: jax.Array | int,
    first_block: jax.Array | int = 0,
) -> ErrorCounts:
    """Returns how many of `trials` points of each class the rule gets wrong.

    Args:
        key: a JAX key; block b draws from fold_in(key, b), so any range of blocks can be counted
            alone and the counts add up.
        mixture: one problem, unbatched; its dtype is that of the draws.
        classifier: the rule.
        threat: the perturbations allowed, or None for natural errors.
        trials: points of each class, at most 2^30; may be traced.
        first_block: the block to start from; may be traced.

    Returns:
        int32 counts of each class.
    """

    def add(key_of_block: jax.Array, _: jax.Array, wanted: jax.Array, counts: Any) -> ErrorCounts:
        x = sample.points(mixture, key_of_block, BLOCK)
        wrong, finite = classify(x, classifier, threat)
        # A point that is not finite is no error, whatever the comparison with nan says.
        return ErrorCounts(
            counts.errors + count(wrong & finite & wanted),
            counts.nonfinite + count(~finite & wanted),
        )

    none = jnp.zeros(2, jnp.int32)
    counts: ErrorCounts = over_blocks(add, ErrorCounts(none, none), key, trials, first_block)
    return counts


def over_blocks(
    add: Callable[[jax.Array, jax.Array, jax.Array, Any], Any],
    empty: Any,
    key: jax.Array,
    trials: jax.Array | int,
    first_block: jax.Array | int,
) -> Any:
    """Returns the totals of a range of blocks, one after the other.

    Args:
        add: the block's own key, its place in the range, which of its points are wanted
            (1, BLOCK), and the totals so far -> the totals with the block.
        empty: the totals of no block.
        key: a JAX key; block b gets fold_in(key, b), wherever the range begins.
        trials: points wanted in all; the last block may be wanted in part.
        first_block: the block to start from.
    """
    start = jnp.asarray(first_block, jnp.uint32)

    def one(index: jax.Array, totals: Any) -> Any:
        # The number of the block is its own, not its place in this range.
        key_of_block = jax.random.fold_in(key, start + index.astype(jnp.uint32))
        wanted = (index * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32) < trials)[None, :]
        return add(key_of_block, index, wanted, totals)

    # Bounds that are traced: one executable for any number of trials.
    blocks = jnp.asarray((trials + BLOCK - 1) // BLOCK, jnp.int32)
    return jax.lax.fori_loop(jnp.int32(0), blocks, one, empty)


def count(flags: jax.Array) -> jax.Array:
    """Returns how many flags (..., n) of the last axis are set, int32 (...)."""
    return jnp.sum(flags, axis=-1, dtype=jnp.int32)
