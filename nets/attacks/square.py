"""The Square attack: random search over squares of an image, which needs no gradient.

Samples differ in where their squares lie, by keys of their own; the authors' code moves one square
in all of them. Squares may lie anywhere, as in the paper; in the code they spare the last row and
column.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nets.attacks.apgd import best_of
from nets.attacks.attack import (
    AttackResult,
    Bounds,
    Logits,
    Target,
    inside,
    keys_of,
    radius_of,
    require_named_ball,
    rows,
)
from nets.attacks.ball import project
from nets.attacks.losses import margin, misclassified
from nets.attacks.square_pattern import patterns, stripes, window_sizes
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall, Threat

_TINY = 1e-12


class _Window(NamedTuple):
    """One random square for each sample: its mask, (B, h, w, 1), and where it begins, (B,)."""

    mask: jax.Array
    top: jax.Array
    left: jax.Array


def square(
    key: jax.Array,
    logits_fn: Logits,
    target: Target,
    *,
    queries: int = 5000,
    restarts: int = 1,
    share: float = 0.8,
    rescale: bool = False,
) -> AttackResult:
    """Returns what the Square attack finds, by the logits alone.

    Args:
        key: a typed key, or one for each sample, (B,).
        logits_fn: logits (B, K) of images.
        target: images (B, h, w, c), labels (B,), bounds of every pixel, and an L1Ball, L2Ball or
            LinfBall (or the LpBall that is one); for l2 and l1 h and w are at least 5.
        queries: images tried in each run after the first one, >= 1; a run ends before if every
            sample of the batch is misclassified.
        restarts: number of runs, >= 1.
        share: share of an image that the first squares cover, in (0, 1].
        rescale: whether the squares shrink as the queries are used up, instead of after 10, 50,
            200, 500, 1000, 2000, 4000, 6000 and 8000 queries.

    Returns:
        An Attack; its loss is the margin, max_{j != y} z_j - z_y.

    Raises:
        InvalidInput: naming the argument.

    References:
        andriushchenko2020square; for l1 the authors' code (croce2021l1).
    """
    target = require_named_ball(target)
    x, y, threat, _ = target
    _require_images(x, threat)
    _require_settings(queries, restarts, share)
    keys = keys_of(key, x.shape[0])
    smallest = 1 if isinstance(threat, LinfBall) else 3
    sizes = window_sizes(queries, share, x.shape[1], x.shape[2], smallest, rescale)

    def run(i: jax.Array) -> AttackResult:
        own = jax.vmap(lambda one: jax.random.fold_in(one, i))(keys)
        return _search(own, logits_fn, target, sizes)

    logits = logits_fn(x)
    clean = AttackResult(x, misclassified(logits, y), margin(logits, y).astype(x.dtype))
    return best_of(restarts, run, clean)


def _search(
    keys: jax.Array,
    logits_fn: Logits,
    target: Target,
    sizes: np.ndarray,
) -> AttackResult:
    """Returns the result of one run: a square is kept if it raises the margin or fools."""
    x, y, threat, bounds = target
    size, shape = jnp.asarray(sizes), x.shape[1:]
    known, place = np.unique(sizes, return_inverse=True)
    p = 1 if isinstance(threat, L1Ball) else 2
    table = jnp.asarray(patterns(tuple(map(int, known)), shape[0], shape[1], p), x.dtype)
    places = jnp.asarray(place, jnp.int32)

    def query(state: tuple[jax.Array, AttackResult]) -> tuple[jax.Array, AttackResult]:
        i, best = state
        own = jax.vmap(lambda one: jax.random.fold_in(one, i + 1))(keys)
        pattern = table[:, places[i]]
        tried = _propose(threat, own, x, best.x_adv, bounds, size[i], pattern)
        new = _judge(logits_fn, tried, y)
        take = ~best.success & (new.success | (new.loss > best.loss))
        kept = AttackResult(
            jnp.where(rows(take, x), tried, best.x_adv),
            best.success | new.success,
            jnp.where(take, new.loss, best.loss),
        )
        return i + 1, kept

    def unfinished(state: tuple[jax.Array, AttackResult]) -> jax.Array:
        return (state[0] < len(sizes)) & ~jnp.all(state[1].success)

    first = _judge(logits_fn, _start(threat, keys, x, bounds), y)
    return jax.lax.while_loop(unfinished, query, (jnp.int32(0), first))[1]


def _judge(logits_fn: Logits, x: jax.Array, y: jax.Array) -> AttackResult:
    logits = logits_fn(x)
    return AttackResult(x, misclassified(logits, y), margin(logits, y).astype(x.dtype))


def _start(threat: Threat, keys: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns the first images: vertical stripes for linf, else five by five tiles of patterns."""
    own = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys)
    height, width, channels = x.shape[1:]
    if isinstance(threat, LinfBall):
        sign = _signs(own, (1, width, channels), x.dtype)
        return inside(x + radius_of(threat, x) * sign, bounds)
    p = 1 if isinstance(threat, L1Ball) else 2
    upright, flat = (jnp.asarray(tiles, x.dtype) for tiles in stripes(height, width, p))
    parts = jax.vmap(lambda key: jax.random.split(key))(own)
    turned = _signs(parts[:, 0], (len(upright), 1, 1), x.dtype) > 0
    sign = _signs(parts[:, 1], (len(upright), 1, 1, channels), x.dtype)
    tile = jnp.where(turned, upright[None], flat[None])[..., None]
    return _finish(threat, x, jnp.sum(tile * sign, 1), bounds)


def _finish(threat: Threat, x: jax.Array, delta: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns x + delta brought to the ball: scaled to its surface for l2, projected for l1."""
    if isinstance(threat, L1Ball):
        return project(threat, x + delta, x, bounds)
    length = _length(delta**2, (1, 2, 3), root=True)
    return inside(x + delta / (length + _TINY) * radius_of(threat, x), bounds)


@functools.singledispatch
def _propose(
    threat: Threat,
    keys: jax.Array,
    x: jax.Array,
    best: jax.Array,
    bounds: Bounds,
    size: jax.Array,
    pattern: jax.Array,
) -> jax.Array:
    """Returns the next images to try, (B, h, w, c); the pattern is (2, h, w), see `patterns`."""
    raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball or LinfBall")


@_propose.register
def _(
    threat: LinfBall,
    keys: jax.Array,
    x: jax.Array,
    best: jax.Array,
    bounds: Bounds,
    size: jax.Array,
    pattern: jax.Array,
) -> jax.Array:
    parts = jax.vmap(lambda key: jax.random.split(key))(keys)
    sign = _signs(parts[:, 0], (1, 1, x.shape[3]), x.dtype)
    square = _window(parts[:, 1], x, size).mask
    moved = jnp.where(square, best + 2 * radius_of(threat, x) * sign, best)
    return project(threat, moved, x, bounds)


@_propose.register(L1Ball)
@_propose.register(L2Ball)
def _(
    threat: L1Ball | L2Ball,
    keys: jax.Array,
    x: jax.Array,
    best: jax.Array,
    bounds: Bounds,
    size: jax.Array,
    pattern: jax.Array,
) -> jax.Array:
    """Moves what lies in a second square into the first, shaped by the pattern."""
    parts = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
    sign, channels = _signs(parts[:, 0], (1, 1, x.shape[3]), x.dtype), x.shape[3]
    turned = _signs(parts[:, 1], (1, 1), x.dtype) > 0
    into, out_of = _window(parts[:, 2], x, size), _window(parts[:, 3], x, size)
    shaped = jnp.where(turned, pattern[1][None], pattern[0][None])
    shift = jax.vmap(lambda image, top, left: jnp.roll(image, (top, left), (0, 1)))
    shaped = shift(shaped, into.top, into.left)[..., None]

    delta, squared = best - x, isinstance(threat, L2Ball)
    power = (lambda v: v**2) if squared else jnp.abs
    measure = functools.partial(_length, axes=(1, 2), root=squared)
    kept = jnp.where(into.mask, delta, 0)
    new = shaped * sign + kept / (measure(power(kept)) + _TINY)
    new = jnp.where(into.mask, new, 0)
    room = radius_of(threat, x) ** (2 if squared else 1) - _length(power(delta), (1, 2, 3), False)
    held = _length(power(jnp.where(into.mask | out_of.mask, delta, 0)), (1, 2), False)
    budget = jnp.maximum(room, 0) / channels + held
    target = jnp.sqrt(budget) if squared else budget * channels
    new = new / (measure(power(new)) + _TINY) * target
    moved = jnp.where(into.mask, new, jnp.where(out_of.mask, 0, delta))
    return _finish(threat, x, moved, bounds)


def _length(powers: jax.Array, axes: tuple[int, ...], root: bool) -> jax.Array:
    total = jnp.sum(powers, axes, keepdims=True)
    return jnp.sqrt(total) if root else total


def _window(keys: jax.Array, x: jax.Array, size: jax.Array) -> _Window:
    """Returns a square of that size anywhere in each image."""
    height, width = x.shape[1:3]
    room = jnp.stack([height - size, width - size])

    def corner(key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (2,), 0, room + 1, jnp.int32)

    corners = jax.vmap(corner)(keys)
    inside_rows = _covers(corners[:, :1], size, height)
    inside_columns = _covers(corners[:, 1:], size, width)
    mask = inside_rows[:, :, None, None] & inside_columns[:, None, :, None]
    return _Window(mask, corners[:, 0], corners[:, 1])


def _covers(first: jax.Array, size: jax.Array, length: int) -> jax.Array:
    places = jnp.arange(length, dtype=jnp.int32)[None]
    return (places >= first) & (places < first + size)


def _signs(keys: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    return jax.vmap(lambda key: jax.random.rademacher(key, shape, jnp.int8))(keys).astype(dtype)


def _require_images(x: jax.Array, threat: Threat) -> None:
    if x.ndim != 4:
        raise InvalidInput(f"x.shape = {x.shape}: must be images (B, h, w, c); squares need rows")
    if not isinstance(threat, LinfBall) and min(x.shape[1:3]) < 5:
        raise InvalidInput(f"x.shape = {x.shape}: h and w must be at least 5 for l2 and l1")


def _require_settings(queries: int, restarts: int, share: float) -> None:
    for name, value in (("queries", queries), ("restarts", restarts)):
        if not isinstance(value, int) or value < 1:
            raise InvalidInput(f"{name} = {value!r}: must be an integer >= 1")
    if not (0 < share <= 1 and math.isfinite(share)):
        raise InvalidInput(f"share = {share!r}: must lie in (0, 1]")
