"""A million optimal rules: the time of one call, and its ratio to a SciPy loop on some of them.

python -m benchmarks.cells
"""

import resource
import statistics
import time
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, stats

from theory.problem import L2Ball
from theory.rules.grid import optimal_risk_grid

HALF_GAP = np.linspace(3.0, 0.5, 8)
ALPHAS = np.linspace(0.5, 2.0, 10)
SCALE_RATIOS = np.geomspace(0.4, 2.5, 10)
RADII = np.linspace(0.0, 0.95 * np.linalg.norm(HALF_GAP), 100)
RATIOS = np.geomspace(0.1, 20.0, 100)
SAMPLE = 3  # cells of the peer for each repetition, which takes seconds for one stable law
REPETITIONS = 3


def _margin(alpha: float, radius: float) -> float:
    """The largest margin by bounded quasi-Newton search over non-negative weights."""

    def negative(w: np.ndarray) -> float:
        size = np.sum((w + 1e-300) ** alpha) ** (1 / alpha)
        return float(-(w @ HALF_GAP - radius * np.linalg.norm(w)) / size)

    bounds = [(0, None)] * len(HALF_GAP)
    starts = (HALF_GAP / HALF_GAP.max(), np.eye(len(HALF_GAP))[0])
    found = [optimize.minimize(negative, s, method="L-BFGS-B", bounds=bounds) for s in starts]
    return -min(result.fun for result in found)


def _peer(alpha: float, scale_ratio: float, radius: float, ratio: float) -> float:
    """The least risk of one cell with SciPy's own stable law."""
    margin, law = _margin(alpha, radius), stats.levy_stable(alpha, 0.0)

    def risk(beta: float) -> float:
        positive = law.sf((margin + beta) / scale_ratio)
        return float((positive + ratio * law.sf(margin - beta)) / (1 + ratio))

    span = 3 * (1 + margin)
    found = [
        optimize.minimize_scalar(risk, bounds=ends, method="bounded").fun
        for ends in ((-span, -margin), (-margin, margin), (margin, span))
    ]
    return min(*found, 1 / (1 + ratio), ratio / (1 + ratio))


def _timed(work: object, *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    """Print the time of a million cells, its memory, and the ratio to the peer."""
    jax.config.update("jax_enable_x64", True)
    axes = [jnp.asarray(a) for a in (ALPHAS, SCALE_RATIOS, RADII, RATIOS)]
    half_gap = jnp.asarray(HALF_GAP)
    cells = int(np.prod([len(a) for a in axes]))

    def mine() -> None:
        jax.block_until_ready(optimal_risk_grid(half_gap, L2Ball, *axes))

    compiling = _timed(mine)
    rng = np.random.default_rng(0)
    times, ratios = [], []
    for _ in range(REPETITIONS):
        times.append(_timed(mine))
        sample = zip(*(rng.choice(a, SAMPLE) for a in axes), strict=True)
        theirs = sum(_timed(_peer, *map(float, cell)) for cell in sample) / SAMPLE
        ratios.append(theirs / (times[-1] / cells))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{cells} cells: {statistics.median(times):.2f} s warm (first call {compiling:.1f} s)")
    print(f"peak memory {peak:.0f} MiB, executables {cast(Any, optimal_risk_grid)._cache_size()}")
    print(f"SciPy takes {statistics.median(ratios):.0f} times as long a cell")


if __name__ == "__main__":
    main()
