"""Error counts of one problem: sample, perturb, classify, count."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sims import attack, sample
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


def _block(
    key: jax.Array, mixture: Law, classifier: LinearClassifier, threat: Threat | None
) -> tuple[jax.Array, jax.Array]:
    """Returns for each point of a block whether it errs and whether it is finite, (2, BLOCK)."""
    x = sample.points(mixture, key, BLOCK)
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

    def add(index: jax.Array, counts: ErrorCounts) -> ErrorCounts:
        key_of_block = jax.random.fold_in(key, start + index.astype(jnp.uint32))
        wrong, finite = _block(key_of_block, mixture, classifier, threat)
        wanted = (index * BLOCK + jnp.arange(BLOCK, dtype=jnp.int32) < trials)[None, :]
        return ErrorCounts(
            counts.errors + _count(wrong & finite & wanted),
            counts.nonfinite + _count(~finite & wanted),
        )

    start, none = jnp.asarray(first_block, jnp.uint32), jnp.zeros(2, jnp.int32)
    blocks = jnp.asarray((trials + BLOCK - 1) // BLOCK, jnp.int32)
    return jax.lax.fori_loop(jnp.int32(0), blocks, add, ErrorCounts(none, none))


def _count(flags: jax.Array) -> jax.Array:
    return jnp.sum(flags, axis=-1, dtype=jnp.int32)
