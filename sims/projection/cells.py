"""Errors of many one-dimensional two-class problems, counted by one executable.

A cell is one problem. Cells are counted 64 at a time, 1024 draws of each, which stays in the
cache; everything that says which problem and how many draws is an array or a loop bound, so cells
and draws of any number, in chunks of any length, use the same executable. The counts of a cell are
sums of integers over blocks of draws: no chunk, device or order can change them.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sims.random import draws
from sims.simulate import attack
from theory.domain import NON_NEGATIVE, Interval, InvalidInput, require_inside

LANES = 64  # cells counted side by side
BLOCK = 1024  # draws of a cell in one block: part of the definition of the draws
CHUNK = 1 << 22
MOST_CHUNK = 1 << 30  # counts within a chunk are int32
MOST = 1 << 41  # draws of a cell: 2^31 blocks
_FIELD = 128  # draws that an 8-bit field counts before it is widened
_SHIFTS = (0, 8, 16, 24)
_FINITE = Interval(-float(np.inf), float(np.inf), True, True)
_INDEX = Interval.parse("(0, 2]")


class Cells(NamedTuple):
    """Two-class problems on a line: x | y = location_y + scale_y Z, and the rule sign(x + bias).

    Args:
        locations: (n, 2), in the order [negative, positive].
        scales: (n, 2), at least 0.
        bias: (n,).
        radius: (n,), at least 0: how far a point may be moved.
        alpha: (n,), stability index in (0, 2] of Z, whose characteristic function is
            exp(-|t|^alpha); None for all cells makes Z standard Gaussian.
    """

    locations: Any
    scales: Any
    bias: Any
    radius: Any
    alpha: Any = None


class CellCounts(NamedTuple):
    """How many draws of the classes [negative, positive] are errors, int64 (n, 2)."""

    natural: np.ndarray
    robust: np.ndarray


def count(
    key: jax.Array,
    cells: Cells,
    samples: int,
    *,
    first: int = 0,
    chunk: int = CHUNK,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[float], None] | None = None,
) -> CellCounts:
    """Returns the natural and robust errors among the same draws of each cell.

    A draw is one Z; it makes a point of each class, which is classified where it is and where
    the attack moves it. So the two classes of a cell share their noise, and cells do not. Draw i
    of cell c is a function of fold_in(key, c) and i: counts of stretches of draws add up to that
    of the whole, and do not depend on chunk, devices or what other cells there are. A score of
    exactly zero is an error.

    Args:
        key: a JAX key.
        cells: the problems; fields are rounded to float32, as the draws are.
        samples: draws of each cell, from 1 to 2^41.
        first: the draw to start from, a multiple of `BLOCK`; at most 2^41 with the samples.
        chunk: draws of a cell in one call of the executable, a multiple of `BLOCK`, at most
            2^30. Only how often `progress` is called depends on it.
        devices: where to count, blocks in turn; all local devices if None.
        progress: called with the share of the work done, in (0, 1].

    Raises:
        InvalidInput: naming the argument, its value and what is allowed, before any draw.
    """
    cells = _checked(cells)
    _require_range(samples, first, chunk)
    if devices is not None and not len(devices):
        raise InvalidInput("devices = []: must be at least one device, or None for all local ones")
    mesh = Mesh(np.asarray(jax.local_devices() if devices is None else devices), ("device",))
    size, calls = len(cells.bias), -(-len(cells.bias) // LANES) * -(-samples // chunk)
    totals = np.zeros((size, len(_SHIFTS)), np.int64)
    with jax.enable_x64(False):
        # Rules out that a key which the caller tied to one device meets a mesh of others.
        key = jax.device_put(key, NamedSharding(mesh, PartitionSpec()))
        counted = _counted(mesh, key, cells, samples, first, chunk)
        for done, (start, added) in enumerate(counted, 1):
            block = totals[start : start + LANES]
            block += np.asarray(added, np.int64).sum(0)[: len(block)]
            if progress is not None:
                progress(done / calls)
    return CellCounts(totals[:, :2], totals[:, 2:])


def _checked(cells: Cells) -> Cells:
    """Returns the fields as float32 arrays."""
    with np.errstate(over="ignore"):  # what is infinite then is refused below
        given = {name: value for name, value in cells._asdict().items() if value is not None}
        fields = {name: np.asarray(value, np.float32) for name, value in given.items()}
    if missing := [
        name for name in ("locations", "scales", "bias", "radius") if name not in fields
    ]:
        raise InvalidInput(f"{missing[0]} = None: only alpha may be None")
    size = fields["bias"].shape[0] if fields["bias"].ndim == 1 else 0
    if not size:
        raise InvalidInput(f"bias: must have shape (n,) with n >= 1, not {fields['bias'].shape}")
    for name, values in fields.items():
        shape = (size, 2) if name in ("locations", "scales") else (size,)
        if values.shape != shape:
            raise InvalidInput(f"{name}: must have shape {shape} as bias says, not {values.shape}")
    domains = {"scales": NON_NEGATIVE, "radius": NON_NEGATIVE, "alpha": _INDEX}
    for name, values in fields.items():
        require_inside(name, values, domains.get(name, _FINITE), "every cell's")
    return Cells(**fields)


def _require_range(samples: int, first: int, chunk: int) -> None:
    if samples < 1:
        raise InvalidInput(f"samples = {samples}: draws of each cell, must be at least 1")
    if first < 0 or first % BLOCK:
        raise InvalidInput(f"first = {first}: must be a multiple of {BLOCK}, at least 0")
    if first + samples > MOST:
        raise InvalidInput(f"samples = {samples}: with first = {first} more than {MOST} draws")
    if not BLOCK <= chunk <= MOST_CHUNK or chunk % BLOCK:
        raise InvalidInput(f"chunk = {chunk}: must be a multiple of {BLOCK}, at most {MOST_CHUNK}")


def _counted(
    mesh: Mesh, key: jax.Array, cells: Cells, samples: int, first: int, chunk: int
) -> Iterator[tuple[int, jax.Array]]:
    """Yields the first cell of each piece of the work and its counts, (devices, LANES, 4)."""
    waiting: deque[tuple[int, jax.Array]] = deque()
    for start in range(0, len(cells.bias), LANES):
        # The last block is filled up with its last cell, whose counts are dropped.
        lanes = np.minimum(np.arange(start, start + LANES), len(cells.bias) - 1)
        block = jax.tree.map(lambda field, lanes=lanes: field[lanes], cells)
        for offset in range(0, samples, chunk):
            size = min(chunk, samples - offset)
            blocks = -(-size // BLOCK)
            bounds = np.array(
                [start, (first + offset) // BLOCK, blocks, size - (blocks - 1) * BLOCK], np.uint32
            )
            waiting.append((start, count_lanes(mesh, key, block, bounds)))
            if len(waiting) > 1:  # one piece runs while the last one is fetched
                yield waiting.popleft()
    yield from waiting


@functools.partial(jax.jit, static_argnums=0)
def count_lanes(mesh: Mesh, key: jax.Array, cells: Cells, bounds: jax.Array) -> jax.Array:
    """Returns what each device of a mesh counts of one block of cells, int32 (devices, LANES, 4).

    This is the executable behind `count`: one for each law and mesh.

    Args:
        mesh: the devices, one axis.
        key: a JAX key.
        cells: `LANES` cells, float32.
        bounds: uint32 (4,): index of the first cell, first block of draws, number of blocks
            (at most 2^20), and how many draws of the last one are wanted.
    """
    counting = functools.partial(_on_one_device, mesh.size)
    here, everywhere = PartitionSpec("device"), PartitionSpec()
    spread = jax.shard_map(
        counting, mesh=mesh, in_specs=everywhere, out_specs=here, check_vma=False
    )
    counts: jax.Array = spread(key, cells, bounds)
    return counts


def _on_one_device(devices: int, key: jax.Array, cells: Cells, bounds: jax.Array) -> jax.Array:
    """Counts blocks i, i + devices, ..., where i is the device's number, (1, LANES, 4)."""
    start, first_block, blocks, last = bounds
    lanes = start + jnp.arange(LANES, dtype=jnp.uint32)
    # A cell's key is that of its place among all cells, not in this block.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, lanes)
    number = lax.axis_index("device").astype(jnp.uint32)

    def add(turn: jax.Array, totals: jax.Array) -> jax.Array:
        block = number + turn * np.uint32(devices)
        wanted = jnp.where(block + np.uint32(1) == blocks, last, np.uint32(BLOCK))
        return totals + _block(keys, cells, first_block + block, wanted)

    turns = (blocks + np.uint32(devices - 1) - number) // np.uint32(devices)
    return lax.fori_loop(np.uint32(0), turns, add, jnp.zeros((LANES, 4), jnp.int32))[None]


def _block(keys: jax.Array, cells: Cells, block: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns the counts of the first `wanted` draws of one block of draws, (LANES, 4).

    Four sums would make XLA draw four times. The four flags of a draw are one word instead,
    added up over 128 draws before it is taken apart.
    """
    parts = jax.vmap(_noise, (0, 0, None))(keys, cells.alpha, block)
    size = BLOCK // len(parts)
    words = jnp.zeros((LANES, size), jnp.uint32)
    for place, noise in enumerate(parts):
        index = np.arange(place * size, (place + 1) * size, dtype=np.uint32)[None, :]
        words += jnp.where(index < wanted, _flags(noise, cells), np.uint32(0))
    fields = words.reshape(LANES, _FIELD // len(parts), -1).sum(1, dtype=jnp.uint32)
    apart = [(fields >> shift & np.uint32(255)).astype(jnp.int32) for shift in _SHIFTS]
    return jnp.stack([field.sum(1, dtype=jnp.int32) for field in apart], axis=1)


def _noise(key: jax.Array, alpha: jax.Array | None, block: jax.Array) -> tuple[jax.Array, ...]:
    """Returns a block's draws of one cell in one or more arrays, one after the other."""
    if alpha is None:
        return draws.normal_pair(key, (BLOCK // 2,), jnp.float32, block=block)
    return (draws.symmetric_stable(key, alpha, (BLOCK,), jnp.float32, block=block),)


def _flags(noise: jax.Array, cells: Cells) -> jax.Array:
    """Returns whether each draw errs, one flag in each byte: both classes natural, then robust."""
    word = jnp.zeros(noise.shape, jnp.uint32)
    for place, y in enumerate((-1.0, 1.0)):
        label = jnp.float32(y)
        x = cells.locations[:, place, None] + cells.scales[:, place, None] * noise
        moved = x - label * cells.radius[:, None]
        for shift, point in ((_SHIFTS[place], x), (_SHIFTS[place + 2], moved)):
            wrong = attack.errs(point + cells.bias[:, None], label)
            word += wrong.astype(jnp.uint32) << shift
    return word
