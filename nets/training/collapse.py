"""Catastrophic overfitting of one-step training: clean accuracy stays, robust accuracy is gone."""

from collections.abc import Sequence

import numpy as np

from theory.domain import InvalidInput

# The published probe: how many images, and how many steps of PGD.
IMAGES, STEPS = 256, 5


def collapsed(correct: Sequence[int], size: int, drop: float = 20.0) -> bool:
    """Returns whether robust accuracy has fallen by more than `drop` points below its best.

    The published rule compares with the check before; a fall over several epochs is as bad, so
    this one compares with the best of all checks before.

    Args:
        correct: how many images of a fixed probe were robustly correct, at each check so far.
        size: of the probe, >= 1.
        drop: percentage points, in (0, 100].

    Raises:
        InvalidInput: for a count outside [0, size], or another argument out of range.

    References:
        wong2020fast (early stopping).

    >>> collapsed([100, 130, 79], 256), collapsed([100, 130, 78], 256)  # 51 and 52 images fewer
    (False, True)
    """
    counts = np.asarray(correct)
    if not size >= 1:
        raise InvalidInput(f"size = {size}: the probe must hold at least 1 image")
    if not 0 < drop <= 100:
        raise InvalidInput(f"drop = {drop:g}: must lie in (0, 100], in percentage points")
    if counts.size and not np.issubdtype(counts.dtype, np.integer):
        raise InvalidInput(f"correct = {correct!r}: must be counts of images, integers")
    bad = counts[(counts < 0) | (counts > size)]
    if bad.size:
        raise InvalidInput(f"correct = {bad[0]}: must lie between 0 and the {size} images")
    # One check has nothing before it to have fallen from.
    if counts.size < 2:
        return False
    # In whole numbers, so that a fall of exactly `drop` points is no matter of rounding.
    return bool(100 * (int(counts[:-1].max()) - int(counts[-1])) > drop * size)
