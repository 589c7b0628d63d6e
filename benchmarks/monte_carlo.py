"""Monte Carlo risks of many cells: speed against NumPy, SciPy and PyTorch, compilations, memory.

python benchmarks/monte_carlo.py                speed, then executables and memory in own processes
python benchmarks/monte_carlo.py --memory 30    peak memory and executables at 2^30 draws a cell

64 cells, own noise for each, four risks a draw, one core, cpu time. The peers draw fresh noise for
each cell, in pieces that fit into the cache, and count four thresholds, which is less work than to
build the perturbed points, as `sims.projection.cells` does. NumPy is measured in float32 and in its
default.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from sims.projection.cells import Cells, count

MEASURES_MEMORY = "--memory" in sys.argv
HAS_TORCH = importlib.util.find_spec("torch") is not None
if HAS_TORCH and not MEASURES_MEMORY:
    import torch

CELLS, RADIUS, ALPHA = 64, np.float32(0.3), np.float32(1.5)
THRESHOLDS = np.array([1.0, 1 - RADIUS, -1.0, RADIUS - 1], np.float32)
PIECE, ROUNDS = 1 << 15, 15
TOTAL = (22, 30)  # logarithms of the draws, of all cells together, between which memory is flat
GOALS = {"gaussian": (250, 3), "stable": (120, 6)}  # million a second, or times the best peer
Run = Callable[[int], Any]


def our_cells(law: str) -> Cells:
    """Classes at -1 and 1 and the midpoint rule, attacked; a stability index for each cell."""
    locations, ones = np.tile(np.float32([-1, 1]), (CELLS, 1)), np.ones((CELLS, 2), np.float32)
    alpha = np.full(CELLS, ALPHA) if law == "stable" else None
    return Cells(locations, ones, np.zeros(CELLS), np.full(CELLS, RADIUS), alpha)


def counted(noise: np.ndarray) -> list[int]:
    """Four risks of one cell's noise."""
    beyond = [int(np.count_nonzero(noise >= t)) for t in THRESHOLDS[:2]]
    return beyond + [int(np.count_nonzero(noise <= t)) for t in THRESHOLDS[2:]]


def numpy_stable(rng: np.random.Generator, dtype: type = np.float32) -> np.ndarray:
    """Chambers, Mallows and Stuck (1976) as usually written; in float32 some draws are nan."""
    alpha = dtype(ALPHA)
    angle = (rng.random(PIECE, dtype) - dtype(0.5)) * dtype(np.pi)
    with np.errstate(all="ignore"):
        ratio = np.cos((1 - alpha) * angle) / rng.standard_exponential(PIECE, dtype)
        return np.sin(alpha * angle) / np.cos(angle) ** (1 / alpha) * ratio ** (1 / alpha - 1)


def torch_stable() -> Any:
    """The same with PyTorch."""
    alpha = float(ALPHA)
    angle = (torch.rand(PIECE) - 0.5) * np.pi
    ratio = torch.cos((1 - alpha) * angle) / torch.empty(PIECE).exponential_()
    return torch.sin(alpha * angle) / torch.cos(angle) ** (1 / alpha) * ratio ** (1 / alpha - 1)


def torch_counted(noise: Any) -> list[int]:
    """Four risks of one cell's noise."""
    beyond = [int(torch.count_nonzero(noise >= float(t))) for t in THRESHOLDS[:2]]
    return beyond + [int(torch.count_nonzero(noise <= float(t))) for t in THRESHOLDS[2:]]


def contenders(law: str) -> dict[str, tuple[Run, int]]:
    """Runs that count `n` draws of each cell, and how many to ask of them."""
    rng, key, cells = np.random.default_rng(0), jax.random.key(0), our_cells(law)

    def pieces(draw: Callable[[], Any], risks: Callable[[Any], list[int]]) -> Run:
        return lambda n: [risks(draw()) for _ in range(CELLS * (n // PIECE))]

    samplers: dict[str, Callable[[], Any]] = {
        "numpy float32": lambda: rng.standard_normal(PIECE, np.float32),
        "numpy": lambda: rng.standard_normal(PIECE),
        "scipy": lambda: stats.norm.rvs(size=PIECE, random_state=rng),
    }
    if law == "stable":
        samplers = {
            "numpy float32": lambda: numpy_stable(rng),
            "numpy": lambda: numpy_stable(rng, np.float64),
            "scipy": lambda: stats.levy_stable.rvs(ALPHA, 0, size=PIECE, random_state=rng),
        }
    runs: dict[str, tuple[Run, int]] = {
        "sims.projection.cells": (lambda n: count(key, cells, n), 8 * PIECE)
    }
    runs |= {name: (pieces(draw, counted), PIECE) for name, draw in samplers.items()}
    if HAS_TORCH:
        draw = torch_stable if law == "stable" else lambda: torch.randn(PIECE)
        runs["torch"] = (pieces(draw, torch_counted), PIECE)
    return runs


def nanoseconds(runs: dict[str, tuple[Run, int]]) -> dict[str, np.ndarray]:
    """Cpu time of a draw of one cell, one entry a round; the rounds interleave the contenders."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(ROUNDS + 1):
        for name, (run, draws) in runs.items():
            start = time.process_time()
            run(draws)
            if round_number:  # the first round compiles
                times[name].append((time.process_time() - start) / (draws * CELLS) * 1e9)
    return {name: np.asarray(values) for name, values in times.items()}


def print_speed(law: str) -> None:
    """One law's absolute rates and ratios."""
    times = nanoseconds(contenders(law))
    print(
        f"{law}: ns a cell-sample, median (best), million a cpu-second; times sims.projection.cells"
    )
    for name, values in times.items():
        low, middle, high = np.quantile(values / times["sims.projection.cells"], [0.25, 0.5, 0.75])
        print(
            f"  {name:13s} {np.median(values):7.2f} ({values.min():7.2f}) "
            f"{1e3 / np.median(values):6.0f}   {middle:5.2f} ({low:.2f} to {high:.2f})"
        )
    rate, ratio = GOALS[law]
    best = np.min(
        [values for name, values in times.items() if name != "sims.projection.cells"], axis=0
    )
    print(
        f"  rate {1e3 / np.median(times['sims.projection.cells']):.0f} million (goal {rate}), "
        f"{np.median(best / times['sims.projection.cells']):.1f} times the best peer (goal {ratio})"
    )


def peak_memory() -> float:
    """Peak resident memory of this process in MiB; `ru_maxrss` would include its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def print_memory(law: str, draws: int) -> None:
    """Peak memory of this process and its executables, for `draws` draws of each cell."""
    compiled: list[str] = []

    def listen(event: str, _: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(details.get("fun_name")))

    key, cells = jax.random.key(0), our_cells(law)
    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.process_time()
    count(key, cells, draws)
    seconds = time.process_time() - start
    print(
        f"  {law}: 2^{np.log2(draws):g} draws a cell, peak memory {peak_memory():.1f} MiB, "
        f"{len(compiled)} compiled ({', '.join(compiled)}), {seconds:.1f} cpu-s",
        flush=True,
    )


def main() -> None:
    """Everything, or with --memory N the memory at 2^N draws a cell."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if MEASURES_MEMORY:
        law, power = sys.argv[-1], int(sys.argv[sys.argv.index("--memory") + 1])
        print_memory(law if law in GOALS else "gaussian", 2**power)
        return
    if not HAS_TORCH:
        print("PyTorch is not installed: not measured")
    else:
        torch.set_num_threads(1)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, pinned to one of them")
    for law in GOALS:
        print_speed(law)
    print(f"peak memory at 2^{TOTAL[0]} and 2^{TOTAL[1]} draws of all cells together")
    for law in GOALS:
        for power in TOTAL:
            each = str(power - int(np.log2(CELLS)))
            subprocess.run([sys.executable, __file__, "--memory", each, law], check=True)


if __name__ == "__main__":
    main()
