"""Adversarial training of many linear models side by side: the step and the epochs.

A lane is one model. All lanes of a block see the same batches, so a step is two matrix products
whatever their rates, radii, mixup coefficients and class weights. The attack needs no perturbed
batch: every point moves along one vector of its model, x - side * radius * g, so its score moves
by radius * weight . g and its part of the gradient by a multiple of g.

Two logits are one: the gradients of the two columns of a softmax classifier are opposite, and Adam
and SGD are odd, so their difference `weight` trained at twice the rate is the same model.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sims.training.optimiser import OPTIMISERS
from sims.training.setup import Array, Lanes, Rule, Settings

# Rows of a validation set are read this many at a time; its arrays are padded to a multiple.
ROWS = 256


class LanesState(NamedTuple):
    """Where the training of a block stands; lanes are the last axis wherever there is one.

    Args:
        rule: the models as they are.
        optimiser: its moments, shaped as the rule, and a count of steps, ().
        best: the rule of least validation loss.
        loss: that loss, (lanes,); infinite before the first.
        epoch: when it was, from 0, (lanes,); -1 before the first.
    """

    rule: Rule
    optimiser: optax.OptState
    best: Rule
    loss: Array
    epoch: Array


class Sample(NamedTuple):
    """A data set padded to whole batches: x (rows, d), y (rows,), share (rows,).

    `share` is what a row weighs in the mean loss of a validation set: they sum to 1, 0 is padding.
    """

    x: Array
    y: Array
    share: Array


def begin(settings: Settings, rule: Rule) -> LanesState:
    """Returns the state before the first step, on the host: no validation loss is known yet.

    Built by numpy, as every eager operation would be one more executable.
    """
    lanes = rule.bias.shape
    # The optimisers allowed begin with zeros: no moment, no step.
    shapes = jax.eval_shape(OPTIMISERS[settings.optimiser].init, rule)
    start = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    never = np.full(lanes, -1, np.int32)
    return LanesState(rule, start, rule, np.full(lanes, np.inf, np.float32), never)


@functools.partial(jax.jit, static_argnames="settings")
def advance(
    settings: Settings,
    lanes: Lanes,
    state: LanesState,
    train: Sample,
    validation: Sample,
    order: jax.Array,
    partner: jax.Array,
    rows: jax.Array,
    epochs: tuple[jax.Array, jax.Array],
) -> LanesState:
    """Returns the state some epochs later: one executable for data sets of every size.

    A lane does not depend on the other lanes of its block, nor on its place among them: with the
    same number of lanes, its bits are the same.

    Args:
        settings: static.
        lanes, state: of the block.
        train, validation: the data; arrays of one shape for every set of a run.
        order: for each epoch the rows in the order of use, (epochs, rows padded), int32.
        partner: the same-class row that each row is mixed with, in that order; unused without
            mixup.
        rows: how many rows of the training set are no padding, (), int32.
        epochs: the first epoch and the one to stop before, at most len(order) later, int32.
    """
    first, last = epochs

    def epoch(index: jax.Array, state: LanesState) -> LanesState:
        tables = (order, partner) if settings.mixup else (order,)
        shuffled = [_rows(train.x, table[index - first]) for table in tables]
        y = _rows(train.y, order[index - first])

        def step(batch: jax.Array, carry: tuple[Rule, optax.OptState]) -> tuple[Any, ...]:
            return _step(settings, lanes, carry, shuffled, y, batch, rows)

        batches = (rows + settings.batch - 1) // settings.batch
        carry = (state.rule, state.optimiser)
        rule, optimiser = jax.lax.fori_loop(jnp.int32(0), batches, step, carry)
        loss = validation_loss(settings, lanes, rule, validation)
        # A lane that has stopped goes on in its block, and keeps the rule that it stopped with.
        better = (loss < state.loss) & (index - state.epoch <= settings.patience)
        return LanesState(
            rule,
            optimiser,
            jax.tree.map(lambda new, old: jnp.where(better, new, old), rule, state.best),
            jnp.where(better, loss, state.loss),
            jnp.where(better, index, state.epoch),
        )

    # Bounds that are traced: one executable for a chunk of any length.
    after: LanesState = jax.lax.fori_loop(first, last, epoch, state)
    return after


def _rows(array: jax.Array, chosen: jax.Array) -> jax.Array:
    # The default mode, which fills what is out of range, is several times slower.
    return jnp.take(array, chosen, axis=0, mode="clip")


def _step(
    settings: Settings,
    lanes: Lanes,
    carry: tuple[Rule, optax.OptState],
    shuffled: list[jax.Array],
    targets: jax.Array,
    batch: jax.Array,
    rows: jax.Array,
) -> tuple[Rule, optax.OptState]:
    """Returns the rule and the optimiser's state after one batch."""
    rule, optimiser = carry
    start = batch * settings.batch
    arrays = (*shuffled, targets)
    *points, y = (jax.lax.dynamic_slice_in_dim(a, start, settings.batch) for a in arrays)
    size = jnp.minimum(rows - start, settings.batch)
    used = jnp.arange(settings.batch, dtype=jnp.int32) < size
    # The last batch of an epoch is smaller: its padding weighs nothing, and the mean is its own.
    share = jnp.where(used, 1 / size.astype(y.dtype), 0)
    slopes = gradient(settings, lanes, rule, points, y[:, None], share[:, None])
    update, optimiser = OPTIMISERS[settings.optimiser].update(slopes, optimiser, rule)
    return jax.tree.map(lambda p, u: p - _per_lane(lanes.rate, p) * u, rule, update), optimiser


def _per_lane(values: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.expand_dims(values, range(like.ndim - 1))


def gradient(
    settings: Settings,
    lanes: Lanes,
    rule: Rule,
    batches: list[jax.Array],
    y: jax.Array,
    share: jax.Array,
) -> Rule:
    """Returns the gradient of the mean loss of the perturbed batch, perturbations held fixed.

    Args:
        settings, lanes, rule: the models.
        batches: the points, (n, d), and with mixup the points they are mixed with.
        y: labels or targets, (n, 1).
        share: 1 / size of the batch, or 0 for padding, (n, 1).
    """
    kept = lanes.mixup[None, :]
    mixing = [kept, 1 - kept] if settings.mixup else [1]
    parts = [c * _product(x, rule.weight) for c, x in zip(mixing, batches, strict=True)]
    score = sum(parts[1:], parts[0]) + rule.bias[None, :]
    side, weighed = _side(settings, y, score), share * _class_weight(settings, lanes, y)
    toward = steepest(rule.weight, lanes.order)
    reach = lanes.radius * jnp.sum(rule.weight * toward, 0)
    clean = _slope(settings, score, y)
    moved = side * _moved(settings, lanes, rule.weight, weighed * clean)
    # The perturbation is held fixed, so the gradient is that of the loss at the moved points:
    # x - moved * side * radius * toward, which enters as the pull less a multiple of `toward`.
    residual = weighed * _slope(settings, score - moved * reach[None, :], y)
    along = lanes.radius * jnp.sum(residual * moved, 0)
    if settings.gradient == "mixed":
        residual = residual + jnp.where(lanes.radius > 0, weighed * clean, 0)
    pulls = [_product(x.T, c * residual) for c, x in zip(mixing, batches, strict=True)]
    pull = sum(pulls[1:], pulls[0])
    return Rule(pull - along[None, :] * toward, jnp.sum(residual, 0))


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def steepest(weight: jax.Array, order: jax.Array) -> jax.Array:
    """Returns for each lane the point g of the unit l_p ball where weight . g is largest, (d, L).

    Args:
        weight: (d, L); a lane of zeros gives zeros.
        order: p of each lane, 1, 2 or infinity, (L,).

    >>> weight = jnp.array([[3.0, 3.0, 3.0], [-4.0, -4.0, -4.0]])
    >>> steepest(weight, jnp.array([1.0, 2.0, jnp.inf])).round(6).T.tolist()
    [[0.0, -1.0], [0.6000000238418579, -0.800000011920929], [1.0, -1.0]]
    """
    p, sign, size = order[None, :], jnp.sign(weight), jnp.abs(weight)
    length = jnp.sqrt(jnp.sum(weight**2, 0))
    unit = weight / jnp.where(length > 0, length, 1)[None, :]
    # Where several entries are largest they share the unit; argmax takes ten times as long.
    largest = (size == jnp.max(size, 0)[None, :]).astype(weight.dtype)
    corner = sign * largest / jnp.sum(largest, 0)[None, :]
    return jnp.where(p == 2, unit, jnp.where(p == 1, corner, sign))


def _moved(settings: Settings, lanes: Lanes, weight: jax.Array, slope: jax.Array) -> jax.Array:
    """Returns the share of the radius that each point moves, (n, L), or 1.

    Args:
        slope: of the mean loss of the batch in the score of each point, (n, L).
    """
    if settings.attack == "worst-case":
        return jnp.ones((), weight.dtype)
    # advertorch divides an l_2 gradient by its length or 1e-6, whichever is more, and takes the
    # sign of an l_inf gradient, which is zero where the slope underflows.
    length = jnp.abs(slope) * jnp.sqrt(jnp.sum(weight**2, 0))[None, :]
    return jnp.where((lanes.order == 2)[None, :], jnp.minimum(length / 1e-6, 1), jnp.sign(length))


def _side(settings: Settings, y: jax.Array, score: jax.Array) -> jax.Array:
    """Returns -1 or +1 for each point: the loss rises where side * score falls."""
    return y if settings.loss == "logistic" else jnp.where(y >= score, 1, -1).astype(y.dtype)


def _slope(settings: Settings, score: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the derivative of the loss in the score."""
    return -y / (1 + jnp.exp(y * score)) if settings.loss == "logistic" else 2 * (score - y)


def _class_weight(settings: Settings, lanes: Lanes, y: jax.Array) -> jax.Array:
    if settings.loss == "squared":
        return jnp.ones((), y.dtype)
    return jnp.where(y > 0, lanes.positive[None, :], lanes.negative[None, :])


def validation_loss(settings: Settings, lanes: Lanes, rule: Rule, sample: Sample) -> jax.Array:
    """Returns the mean loss of each lane, natural or robust, with its class weights, (L,)."""
    reach = jnp.zeros_like(rule.bias)
    if settings.validation == "robust":
        reach = lanes.radius * jnp.sum(rule.weight * steepest(rule.weight, lanes.order), 0)

    def add(part: jax.Array, total: jax.Array) -> jax.Array:
        x, y, share = (jax.lax.dynamic_slice_in_dim(a, part * ROWS, ROWS) for a in sample)
        y = y[:, None]
        score = _product(x, rule.weight) + rule.bias[None, :]
        score = score - _side(settings, y, score) * reach[None, :]
        weighed = share[:, None] * _class_weight(settings, lanes, y)
        return total + jnp.sum(weighed * _loss(settings, score, y), 0)

    used = jnp.sum(sample.share > 0, dtype=jnp.int32)
    parts = (used + ROWS - 1) // ROWS
    total: jax.Array = jax.lax.fori_loop(jnp.int32(0), parts, add, jnp.zeros_like(rule.bias))
    return total


def _loss(settings: Settings, score: jax.Array, y: jax.Array) -> jax.Array:
    if settings.loss == "squared":
        return (score - y) ** 2
    margin = y * score
    # log1p would add less than a rounding of the mean, and a third to the time.
    return jnp.maximum(-margin, 0) + jnp.log(1 + jnp.exp(-jnp.abs(margin)))
