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

from nets.attacks.attack import (
    AttackResult,
    Bounds,
    Logits,
    Target,
    checked,
    fold,
    inside,
    keys_of,
    radius_of,
    require_named_ball,
)
from nets.attacks.ball import project
from nets.attacks.best import best_of_runs, first_success, judge
from nets.attacks.losses import margin
from nets.attacks.scale import TINY, wide_dtype, widened
from nets.attacks.square_pattern import patterns, stripes, window_sizes
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall, Threat


class _Square(NamedTuple):
    """What a query draws its squares from: keys (B,), the side (), the patterns, (2, h, w)."""

    keys: jax.Array
    size: jax.Array
    pattern: jax.Array


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
        The result; its loss is the margin, max_{j != y} z_j - z_y.

    Raises:
        InvalidInput: naming the argument.

    References:
        andriushchenko2020square; for l1 the authors' code (croce2021l1).
    """
    target, logits_fn = require_named_ball(target), checked(logits_fn)
    x, y, threat, _ = target
    _require_images(x, threat)
    _require_settings(queries, restarts, share)
    # Patterns of l2 and l1 have two halves and a middle: their squares are odd, and 3 at least.
    smallest = 1 if isinstance(threat, LinfBall) else 3
    sizes = window_sizes(queries, share, x.shape[1], x.shape[2], smallest, rescale)

    def run(keys: jax.Array, _: jax.Array) -> AttackResult:
        return _search(keys, logits_fn, target, sizes)

    clean = _judge(logits_fn, x, y)
    return best_of_runs(restarts, keys_of(key, x.shape[0]), run, clean)


def _search(
    keys: jax.Array,
    logits_fn: Logits,
    target: Target,
    sizes: np.ndarray,
) -> AttackResult:
    """Returns the result of one run: a square is kept if it raises the margin or fools."""
    x, y, threat, bounds = target
    size, shape = jnp.asarray(sizes), x.shape[1:]
    # The size of a square depends on the query alone, and there are few sizes: one table of all
    # patterns, in a corner of images, lets one compiled query serve every size.
    known, which = np.unique(sizes, return_inverse=True)
    table = jnp.asarray(
        patterns(tuple(map(int, known)), shape[0], shape[1], _power(threat)), wide_dtype(x.dtype)
    )
    rows_of_table = jnp.asarray(which, jnp.int32)

    def query(state: tuple[jax.Array, AttackResult]) -> tuple[jax.Array, AttackResult]:
        i, best = state
        # Number 0 is the start's, see `_start`.
        drawn = _Square(fold(keys, i + 1), size[i], table[:, rows_of_table[i]])
        tried = _propose(target, best.x_adv, drawn)
        return i + 1, first_success(_judge(logits_fn, tried, y), best)

    # Ends early once the whole batch is broken. What is returned of a sample does not depend on
    # when that is, since `first_success` leaves a broken sample as it is.
    def unfinished(state: tuple[jax.Array, AttackResult]) -> jax.Array:
        return (state[0] < len(sizes)) & ~jnp.all(state[1].success)

    first = _judge(logits_fn, _start(threat, keys, x, bounds), y)
    last: AttackResult = jax.lax.while_loop(unfinished, query, (jnp.int32(0), first))[1]
    return last


def _judge(logits_fn: Logits, x: jax.Array, y: jax.Array) -> AttackResult:
    """Returns the points with their margins, of one dtype, which the loop carries."""
    result = judge(x, logits_fn(x), y, margin)
    return result._replace(loss=result.loss.astype(wide_dtype(x.dtype)))


def _power(threat: Threat) -> int:
    """Returns the p of the norm that patterns of a ball of l2 or l1 have length one in."""
    return 1 if isinstance(threat, L1Ball) else 2


def _start(threat: Threat, keys: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns the first images: vertical stripes for linf, else five by five tiles of patterns."""
    keys = fold(keys, 0)
    height, width, channels = x.shape[1:]
    if isinstance(threat, LinfBall):
        # One sign a column and channel: convolutions answer strongly to stripes, says the paper.
        sign = _signs(keys, (1, width, channels), x.dtype)
        return inside(x + radius_of(threat, x) * sign, bounds)
    upright, flat = (
        jnp.asarray(tiles, x.dtype) for tiles in stripes(height, width, _power(threat))
    )
    turn_key, sign_key = _split(keys)
    # Each tile is turned or not for all channels, and has a sign in each of them.
    turned = _signs(turn_key, (len(upright), 1, 1), x.dtype) > 0
    sign = _signs(sign_key, (len(upright), 1, 1, channels), x.dtype)
    tile = jnp.where(turned, upright[None], flat[None])[..., None]
    return _finish(threat, x, jnp.sum(tile * sign, 1), bounds)


def _finish(threat: Threat, x: jax.Array, delta: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns x + delta brought to the ball: scaled to its surface for l2, projected for l1."""
    if isinstance(threat, L1Ball):
        return project(threat, x + delta.astype(x.dtype), x, bounds)
    delta = widened(delta)
    length = _length(delta**2, (1, 2, 3), root=True)
    moved = delta / (length + TINY) * radius_of(threat, delta)
    return inside(x + moved.astype(x.dtype), bounds)


def _propose(target: Target, best: jax.Array, square: _Square) -> jax.Array:
    """Returns the next images to try, (B, h, w, c), from the best so far, (B, h, w, c)."""
    x, _, threat, bounds = target
    if not isinstance(threat, LinfBall):
        return _move_mass(target, best, square)
    sign_key, place_key = _split(square.keys)
    sign = _signs(sign_key, (1, 1, x.shape[3]), x.dtype)
    inside_square = _window(place_key, x, square.size).mask
    # By the diameter, so that wherever the pixel is, it ends on the face that the sign says.
    moved = jnp.where(inside_square, best + 2 * radius_of(threat, x) * sign, best)
    return project(threat, moved, x, bounds)


def _move_mass(target: Target, best: jax.Array, square: _Square) -> jax.Array:
    """Moves what lies in a second square into the first, shaped by the pattern: l2 and l1.

    Algorithm 3 of the paper, in the form of its code for l1. A perturbation is on the sphere of its
    ball; so mass that goes into one square has to be taken from another.
    """
    x, _, threat, bounds = target
    channels, squared = x.shape[3], isinstance(threat, L2Ball)
    sign_key, turn_key, into_key, out_key = _split(square.keys, 4)
    delta = widened(best) - widened(x)
    sign = _signs(sign_key, (1, 1, channels), delta.dtype)
    turned = _signs(turn_key, (1, 1), delta.dtype) > 0
    into, out_of = (_window(key, x, square.size) for key in (into_key, out_key))
    shaped = jnp.where(turned, square.pattern[1][None], square.pattern[0][None])
    shaped = jax.vmap(_to_corner)(shaped, into.top, into.left)[..., None]

    power = _squares if squared else jnp.abs
    measure = functools.partial(_length, axes=(1, 2), root=squared)
    # What is in the first square already is mixed with the pattern, each with length one.
    kept = jnp.where(into.mask, delta, 0)
    new = shaped * sign + kept / (measure(power(kept)) + TINY)
    new = jnp.where(into.mask, new, 0)
    # To spend: what the ball leaves, in equal parts on the channels, and what each channel has in
    # the two squares; in squares of lengths for l2, which add up.
    room = radius_of(threat, delta) ** (2 if squared else 1) - _length(
        power(delta), (1, 2, 3), False
    )
    held = _length(power(jnp.where(into.mask | out_of.mask, delta, 0)), (1, 2), False)
    budget = jnp.maximum(room, 0) / channels + held
    # As in the code, which for l1 gives each channel the whole of it: `_finish` projects.
    length = jnp.sqrt(budget) if squared else budget * channels
    new = new / (measure(power(new)) + TINY) * length
    moved = jnp.where(into.mask, new, jnp.where(out_of.mask, 0, delta))
    return _finish(threat, x, moved, bounds)


def _to_corner(image: jax.Array, top: jax.Array, left: jax.Array) -> jax.Array:
    """Returns an image (h, w) whose upper left corner has moved to (top, left), () each."""
    # By rolling, whose shape is static: a pattern is as large as its square and so never wraps.
    return jnp.roll(image, jnp.stack([top, left]), (0, 1))


def _squares(v: jax.Array) -> jax.Array:
    """Returns the squares of the entries, in the shape of v."""
    return v**2


def _length(powers: jax.Array, axes: tuple[int, ...], root: bool) -> jax.Array:
    """Returns the sum of |v|^p over the axes, which stay with length one, or its root for l2."""
    total = jnp.sum(powers, axes, keepdims=True)
    return jnp.sqrt(total) if root else total


def _window(keys: jax.Array, x: jax.Array, size: jax.Array) -> _Window:
    """Returns a square of that size anywhere in each image, (B, h, w, c), from keys (B,).

    As a mask: the size is traced, so that one compiled query serves all sizes.
    """
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
    """Returns which of `length` places lie in [first, first + size), (B, length), first (B, 1)."""
    places = jnp.arange(length, dtype=jnp.int32)[None]
    return (places >= first) & (places < first + size)


def _signs(keys: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Returns -1 or 1 with equal probability, (B, ...), of keys (B,)."""
    # Drawn as int8 whatever the dtype, so that float32 and float64 try the same squares.
    return jax.vmap(lambda key: jax.random.rademacher(key, shape, jnp.int8))(keys).astype(dtype)


def _split(keys: jax.Array, parts: int = 2) -> tuple[jax.Array, ...]:
    """Returns so many new keys a sample, (B,) each."""
    split = jax.vmap(lambda key: jax.random.split(key, parts))(keys)
    return tuple(split[:, part] for part in range(parts))


def _require_images(x: jax.Array, threat: Threat) -> None:
    if x.ndim != 4:
        raise InvalidInput(f"x.shape = {x.shape}: must be images (B, h, w, c); squares need rows")
    if not isinstance(threat, LinfBall) and min(x.shape[1:3]) < 5:
        raise InvalidInput(f"x.shape = {x.shape}: h and w must be at least 5 for l2 and l1")


def _require_settings(queries: int, restarts: int, share: float) -> None:
    for name, value in (("queries", queries), ("restarts", restarts)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidInput(f"{name} = {value!r}: must be an integer >= 1")
    if not (0 < share <= 1 and math.isfinite(share)):
        raise InvalidInput(f"share = {share!r}: must lie in (0, 1]")
