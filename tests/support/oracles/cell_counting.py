"""Tail probabilities of the samplers' discrete grids by counting cells, in float64 arithmetic.

A sampler draws one of finitely many cells and evaluates the Chambers-Mallows-Stuck transform at
the cell's midpoint. At a fixed angle |X| is monotone in the exponential variable W, so the cells
with |X| > t are counted by inverting W, and what is left is a sum over angle cells. `python -m
support.oracles.cell_counting` in `tests` prints the tables of the docstrings of
`sims.random.draws`.
"""

import numpy as np

from support.oracles.quantiles import ALPHAS, PROBABILITIES, TWO_SIDED

ANGLE_BITS, EXPONENTIAL_BITS, SHARED_BITS = 30, 31, 12
SHARED = 1 << SHARED_BITS
UNIT = np.pi / 2 * 2.0 ** -(ANGLE_BITS + 1)  # width of an angle word's cell


def stable_tail(alpha: float, threshold: float) -> float:
    """Returns P(|X| > threshold) of `sims.random.draws.symmetric_stable` in exact arithmetic.

    The grid is that of its float32 draws.

    An angle word has its low bits in common with the extension of the exponential's word and the
    other way round. Three regions of angle words: below 2^8 every extended cell is counted with
    these bits in common; below 2^18 every word, its extension replaced by the midpoint; above,
    the sum is a composite midpoint rule (error 1e-8), as the angle resolves far more cells.
    """
    if alpha == 1:
        return _cauchy_tail(threshold)
    return 0.5 * sum(
        (
            words_tail(alpha, threshold, near_pole, 1 << 18)
            + _smooth_tail(alpha, threshold, near_pole, 18)
        )
        for near_pole in (True, False)
    )


def words_tail(alpha: float, threshold: float, near_pole: bool, stop: int) -> float:
    """Returns P(|X| > threshold and angle word < stop | end), for stop >= 2^8 and alpha != 1."""
    extended = np.arange(SHARED << 8, dtype=np.int64)
    word, low = extended >> SHARED_BITS, extended & (SHARED - 1)
    critical = _exponential_set(alpha, threshold, (extended + 0.5) / SHARED * UNIT, near_pole)
    offset = low * float(SHARED) + (word & (SHARED - 1)) + 0.5
    total = _counted(alpha, critical, float(SHARED) * SHARED, offset).sum() / SHARED

    word = np.arange(1 << 8, stop, dtype=np.int64)
    critical = _exponential_set(alpha, threshold, (word + 0.5) * UNIT, near_pole)
    total += _counted(alpha, critical, float(SHARED), (word & (SHARED - 1)) + 0.5).sum()
    return float(total / 2.0**ANGLE_BITS)


def _smooth_tail(alpha: float, threshold: float, near_pole: bool, log2_start: int) -> float:
    edges = 2.0 ** np.linspace(log2_start, ANGLE_BITS, 12 * 4096 + 1)
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    critical = _exponential_set(alpha, threshold, middle * UNIT, near_pole)
    return float((_counted(alpha, critical, 1.0, 0.5) * width).sum() / 2.0**ANGLE_BITS)


def _cauchy_tail(threshold: float) -> float:
    """Returns the number of extended angle cells with tan|U| > threshold > 1, as a share of all."""
    cells = np.ceil(np.arctan(1 / threshold) / UNIT * SHARED - 0.5)
    return float(0.5 * cells / SHARED / 2.0**ANGLE_BITS)


def _exponential_set(
    alpha: float, threshold: float, edge: np.ndarray, near_pole: bool
) -> np.ndarray:
    """Returns W at which |X| = threshold; at alpha = 1 infinite where |X| exceeds it, else 0."""
    angle = np.pi / 2 - edge if near_pole else edge
    cosine = np.sin(edge) if near_pole else np.cos(edge)
    with np.errstate(divide="ignore"):
        log_ratio = np.log(threshold) - np.log(np.sin(alpha * angle) / cosine)
    if alpha == 1:
        return np.where(log_ratio < 0, np.inf, 0.0)
    with np.errstate(over="ignore"):
        return np.cos((1 - alpha) * angle) / cosine * np.exp(alpha / (alpha - 1) * log_ratio)


def _counted(
    alpha: float, critical: np.ndarray, step: float, offset: np.ndarray | float
) -> np.ndarray:
    """Returns share of exponential cells on the tail's side of `critical`: above it if alpha > 1.

    Half of the cells are W = -log(v) and half -log(1 - v), where v runs over the midpoints
    (offset + step * j) 2^-44 below 1/2.
    """
    cells = 2.0 ** (EXPONENTIAL_BITS + SHARED_BITS)

    def share_below(v: np.ndarray) -> np.ndarray:
        return np.clip(np.ceil((2 * cells * v - offset) / step), 0, cells / step) * (step / cells)

    above = share_below(np.minimum(np.exp(-critical), 0.5))
    below = share_below(np.minimum(-np.expm1(-critical), 0.5))
    large = critical > np.log(2)
    if alpha > 1:
        return np.where(large, above, 2 - below) / 2
    return np.where(large, 2 - above, below) / 2


def naive_tail(alpha: float, threshold: float, cells: int = 1 << 22) -> float:
    """Returns the same for float32 draws of `jax.random` and the textbook formula.

    They are `uniform` on (-pi/2, pi/2) and `exponential`.

    Both use 23 bits: angles -pi/2 + pi j 2^-23 and W = -log(1 - k 2^-23). By symmetry only the
    angles j 2^-22 pi/2 are enumerated; the single angle -pi/2, which gives nan, is left out.
    """
    edge = np.pi / 2 * np.arange(1, cells + 1) / cells
    critical = _exponential_set(alpha, threshold, edge, True)[:-1]
    share_below = np.ceil(-np.expm1(-critical) * 2 * cells) / (2 * cells)
    return float((1 - share_below if alpha > 1 else share_below).sum() / cells)


def bias_table() -> list[tuple[float, list[float]]]:
    """Returns (p, relative bias of each alpha) for the float32 sampler."""
    return [
        (p, [stable_tail(alpha, TWO_SIDED[alpha][k]) / p - 1 for alpha in ALPHAS])
        for k, p in enumerate(PROBABILITIES)
    ]


if __name__ == "__main__":
    print("p", *ALPHAS)
    for p, row in bias_table():
        print(f"{p:.0e}", *(f"{bias:+.1e}" for bias in row))
    for alpha in ALPHAS[:-1]:
        naive = [
            naive_tail(alpha, x) / p - 1
            for x, p in zip(TWO_SIDED[alpha], PROBABILITIES, strict=True)
        ]
        print("naive", alpha, *(f"{bias:+.1e}" for bias in naive))
