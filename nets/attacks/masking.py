"""Checks for gradient masking: signs that an attack failed rather than that a network is robust.

No check proves anything: a network that raises none may still be attacked badly, and one that
raises some should be attacked in the way that the advice says before its robust accuracy is
quoted. The list follows Athalye, Carlini and Wagner 2018 (athalye2018obfuscated) and Carlini et
al. 2019 (carlini2019evaluating); the limits are new and were set so that honest networks pass.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nets.attacks.attack import (
    AttackResult,
    Bounds,
    Logits,
    Target,
    checked,
    fold,
    keys_of,
    radius_of,
    require_classes,
    require_count,
    require_valid,
)
from nets.attacks.ball import project, steepest_ascent
from nets.attacks.best import judge, replace
from nets.attacks.gradient import ascend, at_input, pgd
from nets.attacks.losses import cross_entropy, is_label, margin, misclassified, targeted_margin
from nets.attacks.scale import widened
from nets.attacks.threats import whole_box
from theory.problem import Threat


class MaskingMeasurements(NamedTuple):
    """What the checks look at, one number () each; shares are of the correctly classified samples.

    Args:
        changed: largest difference between two calls on the same inputs, relative to the spread
            of the logits.
        batch: the same between a batch and the batch in reverse order with one row replaced.
        probabilities: share of all samples whose outputs are >= 0 and sum to one.
        nonfinite: share of all samples with a logit that is not finite, at x or nearby.
        zero_gradients: share whose cross-entropy has a gradient of zero, or not finite, at x.
        stuck: share whose margin loss is no larger after the ascent than before it.
        margin_only: share that resists PGD on cross-entropy and falls to PGD on the margin.
        black_box_only: share that resists both, and PGD towards each of the three nearest classes,
            and falls to a search without gradients.
        far_robust: share that resists at a radius at which every input can be reached.
        correct: number of correctly classified samples.
    """

    changed: jax.Array
    batch: jax.Array
    probabilities: jax.Array
    nonfinite: jax.Array
    zero_gradients: jax.Array
    stuck: jax.Array
    margin_only: jax.Array
    black_box_only: jax.Array
    far_robust: jax.Array
    correct: jax.Array


class MaskingCheck(NamedTuple):
    """One check: its name, the number measured, the limit, whether it was passed, what to do."""

    name: str
    value: float
    limit: float
    raised: bool
    advice: str


class MaskingReport(NamedTuple):
    """All checks of one network."""

    checks: tuple[MaskingCheck, ...]

    @property
    def raised(self) -> tuple[str, ...]:
        """The names of the checks that were raised."""
        return tuple(check.name for check in self.checks if check.raised)

    def __str__(self) -> str:
        """Returns one line a check that was raised, with what to do; or that there is none."""
        lines = [
            f"{check.name} = {check.value:.3g} (limit {check.limit:g}): {check.advice}"
            for check in self.checks
            if check.raised
        ]
        return "\n".join(lines) or "no sign of gradient masking"


# name: (limit, what to do); a value above the limit, or nan, raises the check. The limits are new:
# set so that no honest network of the tests (linear, trained, adversarially trained; three norms)
# raises one, and every network of their zoo does.
_CHECKS = {
    # Rounding that differs from call to call or batch to batch is about 1e-6 of the spread.
    "changed": (
        1e-3,
        "the output changes from call to call: attack the mean over the randomness (expectation "
        "over transformation), and say so beside the result",
    ),
    "batch": (
        1e-3,
        "the output of a sample depends on its batch: evaluate with the stored statistics of "
        "batch normalisation",
    ),
    # Logits of one sample may look like probabilities by chance; those of most samples do not.
    "probabilities": (
        0.5,
        "the outputs look like probabilities: return the logits from before the softmax",
    ),
    "nonfinite": (0.0, "some logits are not finite, and count as errors: find out where from"),
    # One sample in twenty may sit where the network is flat or sure beyond the dtype.
    "zero_gradients": (
        0.05,
        "the gradient of the cross-entropy vanishes: use the margin or DLR loss, float64, or an "
        "attack without gradients; replace quantisation by a differentiable stand-in",
    ),
    "stuck": (
        0.05,
        "the loss does not grow along its gradient: replace steps that cannot be differentiated "
        "by differentiable stand-ins (BPDA), or attack without gradients",
    ),
    # Wide, since honest networks too lose some samples to one of the two losses alone.
    "margin_only": (
        0.15,
        "cross-entropy misses what the margin loss finds: report the worst over both",
    ),
    # A weak search that beats the gradient at all is the surest sign; 2 % is luck at the threshold.
    "black_box_only": (
        0.02,
        "a search without gradients beats the gradient: do not quote the white-box result",
    ),
    "far_robust": (
        0.02,
        "some samples resist at a radius at which every input can be reached: the attack fails, "
        "not the perturbation",
    ),
}


def measure(
    key: jax.Array, logits_fn: Logits, target: Target, *, steps: int = 20, queries: int = 200
) -> MaskingMeasurements:
    """Returns what the checks for gradient masking look at.

    Costs about 8 times `steps` gradients and `queries` evaluations of the network. Under jit a
    network whose randomness lives in Python is traced twice, and so found out, but one that hides
    it in compiled code of its own may pass.

    Args:
        key: one typed key, or one for each sample, (B,).
        logits_fn: any function from inputs (B, ...) to logits (B, K).
        target: inputs (B, ...), of which one hundred are enough to see the limits, labels (B,),
            bounds, and a ball of norm 1, 2 or infinity: the one that robustness is claimed for.
        steps: steps of each PGD.
        queries: evaluations in the search without gradients.

    Raises:
        InvalidInput: naming the argument.
    """
    target, logits_fn = require_valid(target), checked(logits_fn)
    require_count("steps", steps, 1)
    require_count("queries", queries, 1)
    x, y, threat, bounds = target
    # The same keys for all runs: what differs between two of them is the attack and not the luck.
    keys = keys_of(key, x.shape[0])
    logits = logits_fn(x)
    require_classes(logits, y)
    right = ~misclassified(logits, y)

    def share(of: jax.Array) -> jax.Array:
        count = jnp.sum(right).astype(logits.dtype)
        return jnp.sum(of & right).astype(logits.dtype) / jnp.maximum(count, 1)

    run = functools.partial(pgd, keys, logits_fn, steps=steps)
    crossed, drifted = run(target), run(target, loss=margin)
    searched = random_search(keys, logits_fn, target, queries=queries)
    # A share of 1: sparse l1 steps would leave most coordinates of a far corner where they are.
    whole_box = target._replace(threat=_whole_box(threat, x, bounds))
    far = run(whole_box, loss=margin, restarts=2, share=1.0)
    aimed = _towards_nearest(run, logits, target)
    white = crossed.success | drifted.success | aimed
    reached = jnp.stack([logits, logits_fn(crossed.x_adv), logits_fn(searched.x_adv)])
    return MaskingMeasurements(
        _difference(logits, logits_fn(x)),
        _batch_difference(logits_fn, x, logits, bounds),
        jnp.mean(_like_probabilities(logits).astype(logits.dtype)),
        jnp.mean((~jnp.isfinite(reached).all((0, 2))).astype(logits.dtype)),
        share(_flat_gradient(logits_fn, x, y)),
        share(_stuck(logits_fn, target, steps)),
        share(drifted.success & ~crossed.success),
        share(searched.success & ~white),
        share(~far.success),
        jnp.sum(right),
    )


def masking_report(measurements: MaskingMeasurements) -> MaskingReport:
    """Returns the checks with their limits, which of them were raised, and what to do then.

    Args:
        measurements: concrete numbers, as `measure` returns outside jit. A number that is nan
            raises its check.
    """
    checks = []
    for name, (limit, advice) in _CHECKS.items():
        value = float(getattr(measurements, name))
        checks.append(MaskingCheck(name, value, limit, not value <= limit, advice))
    return MaskingReport(tuple(checks))


def random_search(
    key: jax.Array, logits_fn: Logits, target: Target, *, queries: int = 200
) -> AttackResult:
    """Returns the best point of a search that uses no gradient: accept whatever is not worse.

    A proposal moves a random share of the coordinates of the best point so far, between all and
    few of them, to the other side of the ball. Weaker than Square, and meant for checks only.

    Args:
        key: one typed key, or one for each sample, (B,).
        logits_fn: any function from inputs (B, ...) to logits (B, K).
        target: inputs (B, ...), labels (B,), bounds, and a ball of norm 1, 2 or infinity.
        queries: number of proposals.

    Returns:
        The result; its loss is the margin.
    """
    x, y, threat, bounds = require_valid(target)
    logits_fn = checked(logits_fn)
    require_count("queries", queries, 1)
    keys = keys_of(key, x.shape[0])
    clean = judge(x, logits_fn(x), y, margin)

    def propose(number: jax.Array, best: AttackResult) -> AttackResult:
        own_keys = fold(keys, number)
        moved = jax.vmap(_proposal, (0, None, None))(own_keys, x.shape[1:], x.dtype)
        step = 2 * radius_of(threat, x) * steepest_ascent(threat, moved)
        points = project(threat, best.x_adv + step, x, bounds)
        tried = judge(points, logits_fn(points), y, margin)
        # Not worse is enough: a network that is flat on plateaus is crossed by walking on them.
        as_good = (tried.success == best.success) & (tried.loss >= best.loss)
        better = (tried.success & ~best.success) | as_good
        return replace(~clean.success & better, tried, best)

    best: AttackResult = jax.lax.fori_loop(0, queries, propose, clean)
    return best


def _proposal(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Returns normal noise on a random set of coordinates, of a random size in 1 .. all."""
    size, place, noise = jax.random.split(key, 3)
    total = math.prod(shape)
    # Log-uniform between 1 / total and 1: as many proposals move 1 to 10 coordinates as 10 to 100.
    share = jnp.exp(-jax.random.uniform(size, (), dtype) * math.log(total))
    ranks = jax.random.uniform(place, shape, dtype)
    # At least the coordinate of the smallest rank.
    kept = ranks <= jnp.maximum(share, jnp.min(ranks))
    return jnp.where(kept, jax.random.normal(noise, shape, dtype), 0)


def _towards_nearest(
    run: Callable[..., AttackResult], logits: jax.Array, target: Target
) -> jax.Array:
    """Returns whether PGD on the margin towards one of the three nearest classes succeeds, (B,).

    Towards the nearest class of all, which changes on the way, honest networks have dead ends.
    """
    y = target.y
    others = jnp.where(is_label(logits, y), -jnp.inf, logits)
    nearest = jax.lax.top_k(others, min(3, logits.shape[1] - 1))[1].astype(jnp.int32)

    def towards(target_class: jax.Array) -> jax.Array:
        loss = functools.partial(targeted_margin, target_class=target_class)
        return run(target, loss=loss).success

    # A loop over the targets and not a batch: the network is traced once.
    reached: jax.Array = jax.lax.map(towards, nearest.T).any(0)
    return reached


def _difference(logits: jax.Array, again: jax.Array) -> jax.Array:
    """Returns the largest difference relative to the spread of the logits; equal nans are equal."""
    logits, again = widened(logits), widened(again)
    finite = jnp.where(jnp.isfinite(logits), logits, 0)
    spread = jnp.max(finite) - jnp.min(finite)
    same = (logits == again) | (jnp.isnan(logits) & jnp.isnan(again))
    gap = jnp.max(jnp.where(same, 0, jnp.abs(logits - again)))
    return gap / jnp.where(spread > 0, spread, 1)


def _batch_difference(
    logits_fn: Logits, x: jax.Array, logits: jax.Array, bounds: Bounds
) -> jax.Array:
    """Returns what reversing the batch, and replacing one row of it, changes in the others."""
    # The middle of the box moves any statistics of the batch; its own row is left out below.
    low, high = (b if math.isfinite(b) else 0.0 for b in bounds)
    other = x.at[0].set(jnp.asarray(0.5 * (low + high), x.dtype))
    return _difference(logits[1:], logits_fn(other[::-1])[::-1][1:])


def _like_probabilities(logits: jax.Array) -> jax.Array:
    """Returns whether the outputs of each sample are >= 0 and sum to one, (B,), for (B, K)."""
    # What rounding to the type of the outputs alone does to their sum.
    close = max(1e-3, float(jnp.finfo(logits.dtype).eps))
    total = jnp.sum(widened(logits), -1)
    looks: jax.Array = (jnp.abs(total - 1) < close) & (logits >= 0).all(-1)
    return looks


def _flat_gradient(logits_fn: Logits, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns whether the gradient of the cross-entropy is zero, or not finite, at x, (B,)."""
    gradient = jax.grad(lambda points: jnp.sum(cross_entropy(logits_fn(points), y)))(x)
    flat = gradient.reshape(x.shape[0], -1)
    useless: jax.Array = (flat == 0).all(-1) | ~jnp.isfinite(flat).all(-1)
    return useless


def _stuck(logits_fn: Logits, target: Target, steps: int) -> jax.Array:
    """Returns whether the margin loss is no larger at the end of an ascent from x than at x."""

    x, y, threat, bounds = target

    def objective(points: jax.Array) -> jax.Array:
        return margin(logits_fn(points), y)

    end = ascend(objective, at_input(threat, x, x, bounds), x, threat, bounds, steps=steps)
    # Negated, so that a loss that is nan counts as stuck.
    return ~(objective(end) > objective(x))


def _whole_box(threat: Threat, x: jax.Array, bounds: Bounds) -> Threat:
    """Returns a ball of the same norm in which every point of the box can be reached.

    Without bounds: one hundred times the radius, and ten times the largest input.
    """
    low, high = bounds
    if math.isfinite(low) and math.isfinite(high):
        reach = whole_box(threat, bounds, math.prod(x.shape[1:]))
        return threat._replace(radius=jnp.asarray(reach, x.dtype))
    radius = jnp.asarray(threat.radius).astype(x.dtype)
    return threat._replace(radius=jnp.maximum(100 * radius, 10 * jnp.max(jnp.abs(x))))
