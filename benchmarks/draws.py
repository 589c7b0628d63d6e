"""Speed of the draws against named peers, and their tails at 2^28 draws.

python benchmarks/draws.py          nanoseconds a value and ratios, one core, float32
python benchmarks/draws.py --tails  exact binomial test at alpha 0.5, 1, 1.5, 1.9 and 2
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in (".", "tests")]

from sims.random import bits, draws
from support.oracles.quantiles import PROBABILITIES, TWO_SIDED

SIZES, ROUNDS, ALPHA = (10**4, 10**5, 10**6), 21, 1.5
BLOCK, BLOCKS = 1 << 18, 1 << 10
FAMILY_WISE = 1e-6
RATIOS = (
    ("scipy levy_stable.rvs", "symmetric_stable"),
    ("naive jax.random stable", "symmetric_stable"),
    ("symmetric_stable", "two words, sims.random.bits"),
    ("jax.random.normal", "normal"),
    ("two words, jax.random.bits", "two words, sims.random.bits"),
)


def naive_stable(key: jax.Array, alpha: jax.Array, size: int) -> jax.Array:
    """Chambers-Mallows-Stuck as usually written: uniform angle, exponential, two powers."""
    angle_key, exponential_key = jax.random.split(key)
    half_pi = np.float32(np.pi / 2)
    angle = jax.random.uniform(angle_key, (size,), jnp.float32, -half_pi, half_pi)
    exponential = jax.random.exponential(exponential_key, (size,), jnp.float32)
    ratio = jnp.cos((1 - alpha) * angle) / exponential
    return jnp.sin(alpha * angle) / jnp.cos(angle) ** (1 / alpha) * ratio ** ((1 - alpha) / alpha)


def contenders(size: int) -> dict[str, Callable[[], object]]:
    """Runs that each make `size` values."""
    key, alpha = jax.random.key(0), jnp.float32(ALPHA)
    rng = np.random.default_rng(0)
    shape = (size,)

    def jitted(function: Callable[..., jax.Array]) -> Callable[[], object]:
        compiled = jax.jit(function)
        return lambda: compiled(key, alpha).block_until_ready()

    def two_words(key: jax.Array, alpha: jax.Array) -> jax.Array:
        first, second = bits.words(key, shape)
        return first ^ second

    def two_jax_words(key: jax.Array, alpha: jax.Array) -> jax.Array:
        first, second = (jax.random.bits(k, shape, jnp.uint32) for k in jax.random.split(key))
        return first ^ second

    return {
        "two words, jax.random.bits": jitted(two_jax_words),
        "two words, sims.random.bits": jitted(two_words),
        "jax.random.normal": jitted(lambda key, _: jax.random.normal(key, shape, jnp.float32)),
        "normal": jitted(lambda key, _: draws.normal(key, shape)),
        "scipy levy_stable.rvs": lambda: stats.levy_stable.rvs(
            ALPHA, 0, size=size, random_state=rng
        ),
        "naive jax.random stable": jitted(lambda key, alpha: naive_stable(key, alpha, size)),
        "symmetric_stable": jitted(lambda key, alpha: draws.symmetric_stable(key, alpha, shape)),
    }


def nanoseconds(runs: dict[str, Callable[[], object]], size: int) -> dict[str, np.ndarray]:
    """Time a value of each contender, one entry a round; the rounds interleave the contenders."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if round_number:  # the first round compiles
                times[name].append((time.perf_counter() - start) / size * 1e9)
    return {name: np.asarray(values) for name, values in times.items()}


def print_speed() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for size in SIZES:
        times = nanoseconds(contenders(size), size)
        print(f"{size} draws, symmetric_stable at alpha = {ALPHA}; ns/value: median, best")
        for name, values in times.items():
            print(f"  {name:28s} {np.median(values):8.2f} {np.min(values):8.2f}")
        print("  ratios in the same round: median, quarter to three quarters")
        for slow, fast in RATIOS:
            low, middle, high = np.quantile(times[slow] / times[fast], [0.25, 0.5, 0.75])
            print(f"  {slow} / {fast}: {middle:.1f}, {low:.1f} to {high:.1f}")


def count_tails(alpha: float, thresholds: np.ndarray) -> tuple[np.ndarray, int]:
    """(draws beyond each threshold, draws that are nan or infinite) of BLOCK * BLOCKS draws."""
    key = jax.random.fold_in(jax.random.key(28), round(10 * alpha))

    def one_block(block: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = jnp.abs(draws.symmetric_stable(key, alpha, (BLOCK,), block=block))
        above = jax.lax.map(lambda t: jnp.sum(size > t), jnp.asarray(thresholds, jnp.float32))
        return above, jnp.sum(~jnp.isfinite(size))

    above, bad = jax.jit(lambda: jax.lax.map(one_block, jnp.arange(BLOCKS)))()
    return np.asarray(above, np.int64).sum(0), int(bad.sum())


def print_tails() -> None:
    probabilities = np.asarray(PROBABILITIES[:5])
    trials, level = BLOCK * BLOCKS, FAMILY_WISE / (len(TWO_SIDED) * probabilities.size)
    print(f"{trials} draws; Clopper-Pearson at {level:.0e} each, {FAMILY_WISE:.0e} together")
    for alpha, quantiles in TWO_SIDED.items():
        counts, bad = count_tails(alpha, np.asarray(quantiles[:5]))
        print(f"alpha {alpha}: nan or infinite {bad}")
        for p, count in zip(probabilities, counts, strict=True):
            low, high = stats.binomtest(int(count), trials).proportion_ci(1 - level, "exact")
            verdict = "inside" if low <= p <= high else "OUTSIDE"
            print(f"  p {p:.0e}: observed / exact {count / trials / p:.5f}, {verdict} the interval")


if __name__ == "__main__":
    print_tails() if "--tails" in sys.argv else print_speed()
