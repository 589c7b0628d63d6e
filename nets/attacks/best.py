"""Which of the points that it has seen an attack keeps, sample by sample."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from nets.attacks.attack import AttackResult, fold, rows
from nets.attacks.losses import Loss, misclassified


def judge(x: jax.Array, logits: jax.Array, y: jax.Array, loss: Loss) -> AttackResult:
    """Returns points with what a network makes of them.

    Args:
        x: the points, (B, ...).
        logits: of these points, (B, K).
        y: labels, (B,).
        loss: what the attack increases; its values keep their dtype.
    """
    return AttackResult(x, misclassified(logits, y), loss(logits, y))


def replace(take: jax.Array, new: AttackResult, old: AttackResult) -> AttackResult:
    """Returns the new point and its loss where `take`, (B,), holds, and the old ones elsewhere.

    A sample counts as broken if either point breaks it: who takes a point that does not break a
    sample in place of one that does would contradict that, and nobody does.
    """
    return AttackResult(
        jnp.where(rows(take, new.x_adv), new.x_adv, old.x_adv),
        old.success | new.success,
        jnp.where(take, new.loss, old.loss),
    )


def first_success(new: AttackResult, old: AttackResult) -> AttackResult:
    """Returns the old point if it is a success, else the new one if it is or has the larger loss.

    So a sample that is broken is never touched again, as in published ensembles, which take it out
    of the batch. Here it stays, for batches have one static shape, and its results are dropped.
    """
    return replace(~old.success & (new.success | (new.loss > old.loss)), new, old)


def best_of_runs(
    runs: int,
    keys: jax.Array,
    run: Callable[[jax.Array, jax.Array], AttackResult],
    start: AttackResult,
) -> AttackResult:
    """Returns the best of what is known at the start and what some runs of an attack find.

    Args:
        runs: how many.
        keys: one typed key a sample, (B,), into which run i folds i.
        run: what a run finds with its keys, (B,), and its number i = 0, 1, ..., ().
        start: the result so far, of the samples as they stand.
    """

    def body(i: jax.Array, best: AttackResult) -> AttackResult:
        return first_success(run(fold(keys, i), i), best)

    # A loop and not a batch of runs: memory for one run, and one compiled body for all.
    result: AttackResult = jax.lax.fori_loop(0, runs, body, start)
    return result
