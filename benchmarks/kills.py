"""kill -9 at random moments, by hand: what is left goes on to the bytes of an undisturbed run.

python benchmarks/kills.py [--kills 20] [--seed 16] [sweep|grid|train|study ...]

Of each kind of work: once undisturbed; then killed so many times, half of them at any moment from
the start of the process and half within a unit of work, each time by the same command on the same
folder; then the same command to its end. A work that ends before its kill begins again in a new
folder, and what it left is compared, too. The files must be those of the undisturbed run, byte for
byte, with nothing beside them (no lock, no half, no checkpoint), and no kill may cost more than the
unit in hand: chunks of a sweep, epochs of a training and of a study, the whole of a training grid,
which keeps nothing before its end.

Exit status: 0 all of that held; 1 something did not.
"""

import argparse
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

INPUTS = "INPUTS"  # stands for the folder of what a command reads
LOGISTIC = ("model=logistic", "options={}")
STUDY = """format = 1
config = "recipe.toml"
seeds = [0, 1]
reference = "plain"
[methods.plain]
[methods.mixed]
mix = 0.7
[evaluation]
protocol = "quick"
samples = 200
"""
RECIPE = """format = 1
model = "logistic"
data = "mnist-5k"
objective = "pgd"
attack_steps = 1
radius = 0.1
epochs = 3
batch = 100
"""


class Work(NamedTuple):
    """A kind of work.

    Args:
        command: package and arguments but for the folder.
        prepare: writes what the command reads into a folder.
    """

    command: tuple[str, ...]
    prepare: Callable[[pathlib.Path], None] = lambda folder: None


def _write_study(folder: pathlib.Path) -> None:
    (folder / "study.toml").write_text(STUDY, "utf-8")
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")


CLAIM = "cauchy-robust-risk-l2"
WORKS = {
    "sweep": Work(
        ("sims", CLAIM, "--trials", "2097152", "--grid", "radius=0:2:5", "scale_ratio=1,2")
    ),
    "grid": Work(
        (
            *("sims", "train-grid", "--law", "gaussian", "--ratios", "1", "--seeds", "3"),
            *("--rates", "0.01", "--epochs", "30", "--threats", "natural"),
        )
    ),
    "train": Work(
        (
            *("nets", "train", "mnist-5k-natural", *LOGISTIC, "epochs=6", "batch=25"),
            *("radius=0.05", "samples=200", "protocol=quick"),
        )
    ),
    "study": Work(("nets", "study", f"{INPUTS}/study.toml"), _write_study),
}


def inside(log: pathlib.Path, package: str, arguments: Sequence[str]) -> None:
    """Runs a command with a line in a log for each unit of work that begins; never returns."""
    import importlib

    # Before the modules that are watched: they are imported by the command in its own order.
    main = importlib.import_module(f"{package}.__main__")
    watched = {
        "sims": (("sims.sweep.run", "_count_chunk"), ("sims.training.run", "train")),
        "nets": (("nets.training.epoch", "run_epoch"),),
    }
    for module, name in watched[package]:
        owner = importlib.import_module(module)
        setattr(owner, name, _noted(getattr(owner, name), log))
    sys.argv = [package, *arguments]
    main.main()


def _noted(function: Callable[..., object], log: pathlib.Path) -> Callable[..., object]:
    def noted(*arguments: object, **keywords: object) -> object:
        with log.open("a") as handle:
            handle.write("begun\n")
        return function(*arguments, **keywords)

    return noted


class Trial:
    """One kind of work under kills: its folder, its log, and what has been seen."""

    def __init__(self, work: Work, base: pathlib.Path) -> None:
        self.work, self.base, self.rounds = work, base, 0
        self.inputs = base / "inputs"
        self.inputs.mkdir(parents=True)
        work.prepare(self.inputs)
        self.faults: list[str] = []
        self.kills_here = 0
        began = time.perf_counter()
        self._fresh()
        self._finished(self._start(), "undisturbed")
        self.units = self.begun()
        self.duration = time.perf_counter() - began
        self.whole = _contents(self.out)
        self._fresh()

    def begun(self) -> int:
        """Returns how many units have begun in this folder."""
        return self.log.read_text().count("begun")

    def kill(self, rng: random.Random, in_a_unit: bool) -> None:
        """Starts the command and kills it at a random moment; one that ends first is judged."""
        before, process = self.begun(), self._start()
        if in_a_unit:
            while process.poll() is None and self.begun() == before:
                time.sleep(0.005)
            wait = rng.uniform(0, 0.2 * self.duration)
        else:
            wait = rng.uniform(0, self.duration)
        try:
            process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            self.kills_here += 1
            return
        self.judge(process.returncode)
        self._fresh()
        self.kill(rng, in_a_unit)

    def end(self) -> None:
        """Runs the same command to its end, and judges what it leaves."""
        process = self._start()
        out, error = process.communicate()
        # A kill after the last file: there is nothing left to do, which `train` says.
        is_over = process.returncode == 2 and "holds a run already" in error
        if process.returncode and not is_over:
            self.faults.append(f"status {process.returncode}: {(out + error).strip()[-300:]}")
        self.judge(0)

    def judge(self, status: int) -> None:
        """Compares what lies in the folder with what an undisturbed run leaves."""
        if status not in (0, 2):
            self.faults.append(f"status {status}")
        found = _contents(self.out)
        for name in sorted(found.keys() | self.whole.keys()):
            if found.get(name) != self.whole.get(name):
                how = "is missing" if name not in found else "is not expected or differs"
                self.faults.append(f"{name} {how}")
        lost = self.begun() - self.units
        if lost > self.kills_here:
            self.faults.append(f"{lost} units of work lost by {self.kills_here} kills")

    def _fresh(self) -> None:
        self.rounds += 1
        self.out = self.base / f"round-{self.rounds}" / "out"
        self.out.parent.mkdir()
        self.log = self.out.parent / "log"
        self.log.touch()
        self.kills_here = 0

    def _start(self) -> "subprocess.Popen[str]":
        package, *arguments = (word.replace(INPUTS, str(self.inputs)) for word in self.work.command)
        words = [__file__, "--inside", self.log, package, *arguments, "--out", self.out]
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.base,
        )

    def _finished(self, process: "subprocess.Popen[str]", what: str) -> None:
        out, error = process.communicate()
        if process.returncode:
            sys.exit(f"{what}: status {process.returncode}: {out}{error}")


def _contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main() -> int:
    """Kills each kind of work and prints a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("works", nargs="*", choices=[[], *WORKS], default=[])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    print("work    kills  rounds  units  seconds undisturbed  faults", flush=True)
    bad = 0
    for name in options.works or WORKS:
        base = pathlib.Path(tempfile.mkdtemp(prefix=f"kills-{name}-"))
        # As an integer: a seed of a text would be hashed with the process's own salt.
        rng = random.Random(options.seed * 100 + list(WORKS).index(name))
        trial = Trial(WORKS[name], base)
        for kill in range(options.kills):
            trial.kill(rng, in_a_unit=kill % 2 == 1)
        trial.end()
        bad += bool(trial.faults)
        faults = "; ".join(trial.faults) or "none"
        print(
            f"{name:6} {options.kills:6} {trial.rounds - 1:7} {trial.units:6} "
            f"{trial.duration:20.1f}  {faults}",
            flush=True,
        )
        if not trial.faults:
            shutil.rmtree(base)
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    sys.exit(main())
