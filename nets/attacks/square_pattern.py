"""The schedule of squares and the patterns that fill them, as tables made before compilation."""

import functools
import math

import numpy as np

# Queries after which the covered share halves, of 10,000: the schedule of the paper's section 4.
_SHRINK_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def window_sizes(
    queries: int, share: float, height: int, width: int, smallest: int, rescale: bool
) -> np.ndarray:
    """Returns the side of the square of each query, (queries,).

    The share of the image that is covered halves after 10, 50, 200, ... queries.

    Args:
        queries: how many.
        share: share of the image at first.
        height, width: of the image; no square is larger.
        smallest: 1; or 3, and then sides are odd but for the whole image.
        rescale: whether the schedule, which is made for 10000 queries, is stretched to `queries`.

    References:
        andriushchenko2020square.
    """

    def side(query: int) -> int:
        at = int(query / queries * 10000) if rescale else query
        # Strictly after, as in the code: query 10 still has the first size.
        covered = share / 2 ** sum(at > after for after in _SHRINK_AFTER)
        size = max(round(math.sqrt(covered * height * width)), smallest)
        odd = size + 1 if smallest > 1 and size % 2 == 0 else size
        # Not odd where the image is even and the square as large: there is one place for it.
        return min(odd, height, width)

    return np.array([side(query) for query in range(queries)], np.int32)


@functools.cache
def patterns(sizes: tuple[int, ...], height: int, width: int, p: int) -> np.ndarray:
    """Returns the patterns, upright and turned, in a corner of images of 0, (2, n, h, w)."""
    table = np.zeros((2, len(sizes), height, width))
    for number, size in enumerate(sizes):
        shape = bumps(size, p)
        table[:, number, :size, :size] = shape, shape.T
    return table


def stripes(height: int, width: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns tiles of patterns of a fifth of the height, each in its place, upright and turned.

    Both are (n, h, w), one tile in each image.
    """
    size = height // 5
    first = (height - 5 * size) // 2
    corners = [
        (top, left)
        for top in range(first, height - size + 1, size)
        for left in range(first, width - size + 1, size)
    ]
    tiles = np.zeros((2, len(corners), height, width))
    shape = bumps(size, p)
    for number, (top, left) in enumerate(corners):
        tiles[0, number, top : top + size, left : left + size] = shape
        tiles[1, number, top : top + size, left : left + size] = shape.T
    return tiles[0], tiles[1]


def bumps(size: int, p: int) -> np.ndarray:
    """Returns a square with a positive bump in its upper half and a negative one below, (s, s).

    Its l2 norm (p = 2) or l1 norm (p = 1) is one.

    References:
        andriushchenko2020square, with the powers of the authors' code.

    >>> bumps(1, 2).tolist()
    [[-1.0]]
    """
    # The lower half is the larger one where the side is odd.
    half = size // 2
    square = np.concatenate([_bump(half, size, p), -_bump(size - half, size, p)])
    return square / _norm(square, p)


def _bump(height: int, width: int, p: int) -> np.ndarray:
    """Returns nested rectangles around the middle, the inner ones higher."""
    bump = np.zeros((height, width))
    rows, columns = height // 2 + 1, width // 2 + 1
    for ring in range(max(rows, columns)):
        top, left = rows - 1 - ring, columns - 1 - ring
        below, right = top + 2 * ring + 1, left + 2 * ring + 1
        # Slices end at the edge by themselves, but a negative beginning would count from the end.
        # Weights fall as 1 / k^2 (k^4 for l1) from the middle, and add up where rectangles overlap.
        bump[max(top, 0) : below, max(left, 0) : right] += (ring + 1.0) ** (-2 if p == 2 else -4)
    return bump / _norm(bump, p) if height else bump


def _norm(values: np.ndarray, p: int) -> float:
    return float(np.sum(np.abs(values) ** p) ** (1 / p))
