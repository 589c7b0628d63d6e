"""The training loop: blocks of lanes of one width, repacked as lanes stop, one executable.

Shuffles come from the host and depend on the seed and the size of the data alone, so all models of
one seed and data set share their batches.
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from sims.training.setup import Group, Lanes, Points, Rule, Settings, require_valid
from sims.training.step import ROWS, LanesState, Sample, advance, begin

# With another width the compiler may order sums differently: part of what fixes the bits.
WIDTH = 32
# Epochs between two packings.
CHUNK = 25

Progress = Callable[[float], None]


class Trained(NamedTuple):
    """For each model of a group the rule of least validation loss, and when that was.

    `weight` (models, d), `bias`, `loss` and `best_epoch` (models,); the epoch counts from 0, and
    is -1 with an infinite loss where no validation loss was finite. `epochs` is how many were run.
    """

    weight: np.ndarray
    bias: np.ndarray
    loss: np.ndarray
    best_epoch: np.ndarray
    epochs: np.ndarray


class _Work(NamedTuple):
    """A group on the device, its lanes on the host."""

    group: Group
    train: Sample
    validation: Sample
    state: LanesState
    blocks: list[np.ndarray]


def train(
    groups: Sequence[Group],
    settings: Settings | None = None,
    *,
    epochs: int = 500,
    pack: bool = True,
    progress: Progress | None = None,
) -> list[Trained]:
    """Returns the trained models of every group, in float32, by one executable.

    The executable serves every group whose data fit the padding of the largest, and every later
    call with the same padding, number of features and settings.

    Args:
        groups: at least one, all with the same number of features.
        settings: what all models share; the defaults of `Settings` if None.
        epochs: the most epochs of any model.
        pack: repack the lanes that have not stopped into full blocks; changes no bit.
        progress: called after each chunk with the share of epochs done, in [0, 1].

    Raises:
        InvalidInput: for bad arguments, before any computation.
    """
    settings = settings or Settings()
    require_valid(groups, settings, epochs)
    most, held = (max(len(p.y) for p in sets) for sets in zip(*map(_data, groups), strict=True))
    rows = (_padded(most, settings.batch), _padded(held, ROWS))
    # A block is too small to keep two cores busy, but groups run side by side.
    with jax.enable_x64(False), ThreadPoolExecutor(_cores()) as pool:
        works = [_prepare(group, settings, rows) for group in groups]
        for first in range(0, epochs, CHUNK):
            last = min(first + CHUNK, epochs)
            works = [_pack(work, first, settings.patience) if pack else work for work in works]
            chunk = functools.partial(_advance, settings=settings, first=first, last=last)
            works = list(pool.map(chunk, works))
            if progress is not None:
                progress(last / epochs)
            if not any(_live(work, last, settings.patience).size for work in works):
                break
    return [_result(work, epochs, settings.patience) for work in works]


def _cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _data(group: Group) -> tuple[Points, Points]:
    return group.train, group.validation


def _padded(rows: int, multiple: int) -> int:
    return -(-rows // multiple) * multiple


def _prepare(group: Group, settings: Settings, rows: tuple[int, int]) -> _Work:
    lanes = Lanes(*(np.asarray(field, np.float32) for field in group.lanes))
    start = Rule(*(np.asarray(field, np.float32) for field in group.start))
    state = begin(settings, start)
    everyone = np.arange(len(lanes.rate))
    blocks = [everyone[first : first + WIDTH] for first in range(0, len(everyone), WIDTH)]
    parts = zip(_data(group), rows, strict=True)
    used, held = (jax.device_put(_sample(points, settings.batch, count)) for points, count in parts)
    return _Work(group._replace(lanes=lanes), used, held, state, blocks)


def _sample(points: Points, size: int, rows: int) -> Sample:
    """Returns padded data; a row's share is that in a mean over batches of each batch's mean."""
    count = len(points.y)
    batch = np.arange(count) // size
    share = 1 / (np.bincount(batch)[batch] * (batch[-1] + 1))
    pad = rows - count
    return Sample(
        np.pad(points.x, ((0, pad), (0, 0))).astype(np.float32),
        np.pad(points.y, (0, pad)).astype(np.float32),
        np.pad(share, (0, pad)).astype(np.float32),
    )


def _live(work: _Work, epoch: int, patience: int) -> np.ndarray:
    """Returns the lanes that have not stopped before this epoch."""
    return np.flatnonzero(epoch - work.state.epoch <= patience)


def _pack(work: _Work, epoch: int, patience: int) -> _Work:
    live = _live(work, epoch, patience)
    return work._replace(blocks=[live[i : i + WIDTH] for i in range(0, live.size, WIDTH)])


def _advance(work: _Work, settings: Settings, first: int, last: int) -> _Work:
    """Returns the group after a chunk of epochs of each of its blocks."""
    if not work.blocks:
        return work
    group, rows = work.group, len(work.train.y)
    tables = shuffles(group.seed, group.train.y, first, rows, settings.mixup)
    span = (np.int32(first), np.int32(last))
    before = after = work.state  # a block must not see the step count of the one before
    data = (work.train, work.validation, *tables, np.int32(len(group.train.y)), span)
    # The default dtype is that of the thread.
    with jax.enable_x64(False):
        for block in work.blocks:
            # A block is filled up with its last lane: one width, one executable, the same sums.
            full = np.pad(block, (0, WIDTH - block.size), mode="edge")
            chosen = jax.tree.map(lambda leaf, i=full: _of(leaf, i), (group.lanes, before))
            new = jax.device_get(advance(settings, *chosen, *data))
            after = _written(after, new, block)
    return work._replace(state=after)


def _of(leaf: Any, lanes: np.ndarray) -> np.ndarray:
    """Returns those lanes of a leaf; the optimiser's step count, a scalar, is everyone's."""
    selected: np.ndarray = leaf[..., lanes] if np.ndim(leaf) else leaf
    return selected


def _written(whole: LanesState, part: LanesState, block: np.ndarray) -> LanesState:
    """Returns the state of a group with that of a block written into it."""

    def write(into: np.ndarray, new: np.ndarray) -> np.ndarray:
        if not into.ndim:
            return new
        into = into.copy()
        into[..., block] = new[..., : block.size]
        return into

    merged: LanesState = jax.tree.map(write, whole, part)
    return merged


def shuffles(
    seed: int, y: np.ndarray, first: int, rows: int, partners: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the order of the rows for CHUNK epochs from `first`, and their partners, int32.

    The order depends on the seed, the epoch and the number of points alone. A partner is the point
    of the same class in its place after a second shuffle within the class.

    Args:
        seed: of the group.
        y: labels, (n,).
        first: the first epoch, a multiple of CHUNK.
        rows: the width to pad to.
        partners: whether to draw partners; otherwise the second array repeats the first.

    Returns:
        two arrays (CHUNK, rows); entries past the n points are zero and stand for no point.
    """
    count = len(y)
    # A generator for each chunk, so that a chunk does not depend on which came before it.
    rng = np.random.default_rng((seed, count, first))
    order = rng.permuted(np.tile(np.arange(count, dtype=np.int32), (CHUNK, 1)), axis=1)
    padded = np.pad(order, ((0, 0), (0, rows - count)))
    if not partners:
        return padded, padded
    matched = np.empty_like(order)
    for label in (-1, 1):
        members = np.flatnonzero(y == label).astype(np.int32)
        drawn = rng.permuted(np.tile(members, (CHUNK, 1)), axis=1)
        matched[:, members] = drawn
    matched = np.take_along_axis(matched, order, axis=1)
    return padded, np.pad(matched, ((0, 0), (0, rows - count)))


def _result(work: _Work, epochs: int, patience: int) -> Trained:
    state = work.state
    return Trained(
        weight=np.ascontiguousarray(state.best.weight.T),
        bias=state.best.bias,
        loss=state.loss,
        best_epoch=state.epoch,
        epochs=np.minimum(state.epoch + patience + 1, epochs),
    )
