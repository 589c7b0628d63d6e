"""Counting on all devices of all hosts by one executable, whatever their number."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sims.random import keys
from sims.simulate import by_problem, regression, two_classes
from sims.sweep import hosts


class Piece(NamedTuple):
    """A range of blocks of one point: so many trials of each class from the first block on."""

    point: int
    trials: int
    first_block: int


class Work(NamedTuple):
    """What a device needs to count a piece: the words of the point's key, (2,), and its problem."""

    key: jax.Array | np.ndarray
    problem: Any


@functools.partial(jax.jit, static_argnums=0)
def count(
    mesh: Mesh, work: Work, trials: jax.Array, first_block: jax.Array
) -> two_classes.ErrorCounts | regression.SquaredSums:
    """Returns what a range of blocks adds on each device; all arrays are (devices, ...).

    Compiled once for each kind of problem.
    """

    def one(work: Work, *span: jax.Array) -> Any:
        # Each device holds one row of an array that has as many rows as there are devices.
        work, span = jax.tree.map(lambda leaf: leaf[0], (work, span))
        added = by_problem.simulate(work.problem, keys.from_words(work.key), *span)
        return jax.tree.map(lambda leaf: leaf[None], added)

    # The check would want the simulators to know that they run on many devices.
    spread = jax.shard_map(
        one, mesh=mesh, in_specs=P("device"), out_specs=P("device"), check_vma=False
    )
    added: two_classes.ErrorCounts | regression.SquaredSums = spread(work, trials, first_block)
    return added


def cut(point: int, done: int, trials: int, most: int, share: int = 1) -> list[Piece]:
    """Returns the pieces of a range of trials, in order.

    Args:
        point: of the grid.
        done: trials before the range, whole blocks.
        trials: in the range.
        most: trials of a piece at most.
        share: pieces to make at least, if there are so many blocks.
    """
    # Whole blocks: a piece's first block fixes its draws, so that no block may be split.
    blocks = -(-trials // (share * two_classes.BLOCK))
    length = min(most, blocks * two_classes.BLOCK)
    return [
        Piece(point, min(length, done + trials - start), start // two_classes.BLOCK)
        for start in range(done, done + trials, length)
    ]


def count_all(
    devices: Sequence[jax.Device], work: Callable[[int], Work], pieces: Sequence[Piece]
) -> np.ndarray:
    """Returns what each piece adds, in their order, (pieces,): a field for each total.

    Devices take the pieces in turn. Every host calls this with the same arguments, counts on its
    own devices and learns the rest.

    Args:
        devices: of all hosts.
        work: point -> what to count there.
        pieces: at least one.
    """
    mesh, number = Mesh(np.array(devices), ("device",)), len(devices)
    rounds = []
    # All is dispatched before the first is fetched, so that devices work side by side.
    for start in range(0, len(pieces), number):
        taken = list(pieces[start : start + number])
        # Devices without a piece count nothing, so that one executable serves every round.
        taken += [taken[-1]._replace(trials=0)] * (number - len(taken))
        spans = [(np.int32(piece.trials), np.uint32(piece.first_block)) for piece in taken]
        rows = [(work(p.point), *span) for p, span in zip(taken, spans, strict=True)]
        with jax.enable_x64(False):
            rounds.append(count(mesh, *_spread(mesh, rows)))
    local = np.stack([_records(counted) for counted in rounds])
    everyones = np.zeros((len(rounds), number), local.dtype)
    host_of_device = np.array([device.process_index for device in devices])
    # As bytes, the same on all hosts: the records of each go to the columns of its devices.
    for host, message in enumerate(hosts.exchange(local.tobytes())):
        records = np.frombuffer(message, local.dtype)
        everyones[:, host_of_device == host] = records.reshape(len(rounds), -1)
    return everyones.ravel()[: len(pieces)]


def _spread(mesh: Mesh, rows: list[Any]) -> Any:
    """Returns one row to each device; each host gives its own devices theirs."""
    sharding = NamedSharding(mesh, P("device"))

    def place(*leaves: np.ndarray) -> jax.Array:
        whole = np.stack(leaves)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, *rows)


def _records(counted: two_classes.ErrorCounts | regression.SquaredSums) -> np.ndarray:
    """Returns what this host's devices counted, (local devices,)."""
    fields = counted._asdict()
    dtype = np.dtype([(name, leaf.dtype, leaf.shape[1:]) for name, leaf in fields.items()])
    local = {name: _own_rows(leaf) for name, leaf in fields.items()}
    records = np.zeros(len(local["nonfinite"]), dtype)
    for name, rows in local.items():
        records[name] = rows
    return records


def _own_rows(array: jax.Array) -> np.ndarray:
    """Returns the rows of an array that this host's devices hold, in order."""
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
