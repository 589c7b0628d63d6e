"""Catastrophic overfitting of one-step training: clean accuracy stays, robust accuracy is gone."""

from collections.abc import Sequence

import numpy as np

from theory.domain import InvalidInput

# The published probe: how many images, and how many steps of PGD.
IMAGES, STEPS = 256, 5


def collapsed(
    correct: Sequence[int], size: int, drop: float = 20.0, clean: Sequence[int] | None = None
) -> bool:
    """Returns whether robust accuracy has fallen by more than `drop` points below its best.

    The published rule compares with the check before; a fall over several epochs is as bad, so
    this one compares with the best of all checks before. A fall that clean accuracy shares, by half
    or more, is no overfitting to the attack but a step too large, from which a training may well
    recover: it has until the next check.

    Args:
        correct: how many images of a fixed probe were robustly correct, at each check so far.
        size: of the probe, >= 1.
        drop: percentage points, in (0, 100].
        clean: how many were correct without attack, at the same checks; None where nothing comes
            after the last of them in which a training could recover.

    Raises:
        InvalidInput: for a count outside [0, size], or another argument out of range.

    References:
        wong2020fast (early stopping).

    >>> collapsed([100, 130, 79], 256), collapsed([100, 130, 78], 256)  # 51 and 52 images fewer
    (False, True)
    >>> collapsed([100, 130, 78], 256, clean=[200, 220, 150])  # clean accuracy has fallen as well
    False
    """
    counts = _counts("correct", correct, size)
    if not 0 < drop <= 100:
        raise InvalidInput(f"drop = {drop:g}: must lie in (0, 100], in percentage points")
    if not _has_fallen(counts, size, drop) or clean is None:
        return _has_fallen(counts, size, drop)
    unattacked = _counts("clean", clean, size)
    if len(unattacked) != len(counts):
        raise InvalidInput(f"clean = {clean!r}: must be as many checks as the {len(counts)} robust")
    return not is_shared(counts, unattacked) or _has_fallen(counts[:-1], size, drop)


def is_shared(correct: Sequence[int], clean: Sequence[int]) -> bool:
    """Returns whether clean accuracy has fallen by half as much as robust accuracy or more.

    Args:
        correct, clean: see `collapsed`, of two checks or more.
    """
    best = correct.index(max(correct[:-1]))
    return 2 * (clean[best] - clean[-1]) >= correct[best] - correct[-1]


def _counts(name: str, values: Sequence[int], size: int) -> list[int]:
    """Returns the counts as whole numbers once all of them are, from 0 to `size`."""
    if not size >= 1:
        raise InvalidInput(f"size = {size}: the probe must hold at least 1 image")
    counts = np.asarray(values)
    if counts.size and not np.issubdtype(counts.dtype, np.integer):
        raise InvalidInput(f"{name} = {values!r}: must be counts of images, integers")
    bad = counts[(counts < 0) | (counts > size)]
    if bad.size:
        raise InvalidInput(f"{name} = {bad[0]}: must lie between 0 and the {size} images")
    # Of Python, which know no smallest type in which a difference could wrap.
    return [int(count) for count in counts]


def _has_fallen(counts: Sequence[int], size: int, drop: float) -> bool:
    # One check has nothing before it to have fallen from. In whole numbers, so that a fall of
    # exactly `drop` points is no matter of rounding.
    return len(counts) > 1 and bool(100 * (max(counts[:-1]) - counts[-1]) > drop * size)
