"""What one GPU does in ten minutes: correct, how fast, how robust, and how fair.

python benchmarks/gpu.py baseline --directory DATA --out OUT
python benchmarks/gpu.py fairness --directory DATA --out OUT

`baseline` compares the GPU with the CPU, measures the share of the peak that a step of PGD training
of PreActResNet-18 reaches, trains it for 30 epochs on CIFAR-10 and evaluates it class by class.
`fairness` trains TRADES and DAFA from one warm-up; the same command goes on until all is done.
Both leave one JSON file, replaced whole after each phase, and netCDF files for `python -m figures`.
With --small the same code runs in minutes on a CPU, on synthetic images if no folder is given.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
# Leave room for PyTorch, which shares the GPU; read by JAX when it starts.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")

from sims.cli.frame import USAGE, run


def baseline(
    *,
    directory: Path | None = None,
    out: Path = Path("runs/gpu"),
    work: Path = Path("runs/gpu-work"),
    seconds: float = 570.0,
    cache: Path | None = None,
    small: bool = False,
    seed: int = 0,
) -> int:
    """Check, time, train and evaluate PGD training of PreActResNet-18 on CIFAR-10.

    Exit status: 0 done; 1 a phase failed, such as the comparison with the CPU; 2 bad input.

    Args:
        directory: where data sets are; the environment variable ROBUST_RISK_DATA if not given
        out: folder of the results
        work: folder of runs and checkpoints
        seconds: that the command may take
        cache: folder of compiled programs, for the next command; WORK/compiled if not given
        small: everything at a size for a CPU
        seed: of all random numbers, in [0, 2^32)
    """
    from benchmarks.gpu_phases import baseline as gpu_baseline
    from benchmarks.gpu_phases.clock import Clock

    clock = Clock(seconds)
    sizes, data = _prepared(directory, cache or work / "compiled", small)
    return gpu_baseline.measure(gpu_baseline.start(sizes, data, out, work, clock, seed))


def fairness(
    *,
    directory: Path | None = None,
    out: Path = Path("runs/gpu"),
    work: Path = Path("runs/gpu-work"),
    seconds: float = 570.0,
    cache: Path | None = None,
    small: bool = False,
    seed: int = 0,
    warm_up: int = 0,
    forks: int = 0,
) -> int:
    """Train TRADES and DAFA from one warm-up, evaluate both, and compare them image by image.

    It stops at an epoch's end before the seconds are used up; the same command goes on.
    Exit status: 0 done, or stopped in time; 2 bad input.

    Args:
        directory: where data sets are; the environment variable ROBUST_RISK_DATA if not given
        out: folder of the results
        work: folder of runs and checkpoints, to go on from
        seconds: that the command may take
        cache: folder of compiled programs, for the next command; WORK/compiled if not given
        small: everything at a size for a CPU
        seed: of all random numbers, in [0, 2^32)
        warm_up: epochs before the fork; 0 for the study's own 40
        forks: epochs of each fork; 0 for the study's own 24
    """
    from benchmarks.gpu_phases import fairness as gpu_fairness
    from benchmarks.gpu_phases.clock import Clock

    clock = Clock(seconds)
    sizes, data = _prepared(directory, cache or work / "compiled", small)
    sizes = sizes._replace(warm_up=warm_up or sizes.warm_up, forks=forks or sizes.forks)
    return gpu_fairness.go_on(gpu_fairness.start(sizes, data, out, work, clock, seed))


def _prepared(directory: Path | None, cache: Path, small: bool):
    """Returns sizes and data, once JAX knows where to keep what it compiles."""
    import jax

    from benchmarks.gpu_phases import setup as gpu_setup

    jax.config.update("jax_compilation_cache_dir", str(cache.resolve()))
    sizes = gpu_setup.SMALL if small else gpu_setup.FULL
    return sizes, gpu_setup.data_of(sizes, directory, small)


COMMANDS: dict[str, Callable[..., int]] = {"baseline": baseline, "fairness": fairness}


def main() -> None:
    """Runs the command that the first word names."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        program = f"python benchmarks/gpu.py {word}"
        run(COMMANDS[word], program, sys.argv[2:], "the same command goes on")
    print(f"usage: python benchmarks/gpu.py {{{','.join(COMMANDS)}}} --help", file=sys.stderr)
    sys.exit(USAGE)


if __name__ == "__main__":
    main()
