"""One compiled function over any number of samples: fixed blocks, spread over devices."""

import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from theory.domain import InvalidInput

# Blocks that wait on one device before the first result is fetched: while one is computed the next
# one's arguments are there already, and memory is held for no more than these.
AHEAD = 2
Progress = Callable[[float], None]


def over_blocks(
    function: Callable[..., Any],
    shared: Any,
    samples: Sequence[np.ndarray | jax.Array],
    *,
    block: int,
    devices: Sequence[jax.Device] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Returns what `function` says of each sample, computed in blocks of one fixed size.

    Every block has the same shape and is computed whole on one device by the same executable, so
    what is said of a sample depends neither on how many others there are nor on the devices. The
    last block is filled up with copies of the first sample, of which nothing is kept.

    Args:
        function: a compiled function (shared, *samples of a block) -> pytree of arrays
            (block, ...).
        shared: what all blocks need, such as parameters; copied once to each device.
        samples: arrays (n, ...), n >= 1.
        block: samples of a block.
        devices: where to compute, blocks in turn; all local devices if None.
        progress: called after each block with the share done, in [0, 1].

    Returns:
        the pytree with NumPy arrays (n, ...).

    Raises:
        InvalidInput: for a block below 1, no samples, or arrays of different lengths.
    """
    lengths = {len(array) for array in samples}
    if block < 1:
        raise InvalidInput(f"block = {block}: samples at a time, must be at least 1")
    if len(lengths) != 1 or 0 in lengths:
        raise InvalidInput(f"samples: must be arrays of one length >= 1, not {sorted(lengths)}")
    (number,) = lengths
    devices = devices or jax.local_devices()
    copies = [jax.device_put(shared, device) for device in devices]
    pending: collections.deque[Any] = collections.deque()
    results: list[Any] = []
    starts = range(0, number, block)
    for turn, start in enumerate(starts):
        index = np.arange(start, start + block)
        # A shorter last block would be another shape: another executable, and other roundings.
        index[index >= number] = 0
        which = turn % len(devices)
        arguments = jax.device_put([array[index] for array in samples], devices[which])
        # Returns at once: JAX computes while the next block is cut.
        pending.append(function(copies[which], *arguments))
        if len(pending) > AHEAD * len(devices):
            _fetch(pending, results, len(starts), progress)
    while pending:
        _fetch(pending, results, len(starts), progress)
    return jax.tree.map(lambda *blocks: np.concatenate(blocks)[:number], *results)


def _fetch(
    pending: collections.deque[Any], results: list[Any], total: int, progress: Progress | None
) -> None:
    """Waits for the block that was begun first: results stay in the order of the samples."""
    results.append(jax.tree.map(np.asarray, pending.popleft()))
    if progress is not None:
        progress(len(results) / total)
