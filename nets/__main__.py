"""python -m nets: train a network, evaluate it class by class under attack, compare two."""

from __future__ import annotations

import pathlib
import sys
import typing
from typing import TYPE_CHECKING, Any, Literal

import tyro

from sims.command import USAGE, progress_bar, run

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

    from nets.data import DataSet

Norm = Literal["linf", "l2", "l1"]
EVALUATION = "evaluation"


def train(
    words: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    out: pathlib.Path | None = None,
    directory: pathlib.Path | None = None,
    report: bool = True,
) -> int:
    """Train a network as a config says, evaluate it class by class, and leave both in a folder.

    Without words: a small network, robustly, on images that need no download, in some minutes.
    A training that was stopped goes on from its last epoch with the same command and ends in the
    same numbers. A folder of another training is refused, never overwritten.
    Exit status: 0 done; 2 bad input.

    Args:
        words: [CONFIG] [key=value ...]: a file of nets/configs by name, or a .toml of your own,
            then settings in place of the file's, such as epochs=3 or options.hidden=[64]
        out: folder of the run; runs/CONFIG if not given
        directory: where data sets are; the environment variable ROBUST_RISK_DATA if not given
        report: no evaluation after training; `evaluate` makes it later
    """
    from nets import config, experiment, runs
    from nets.data import load
    from theory.problem import InvalidInput

    name, wanted = config.read(words)
    out = out or pathlib.Path("runs") / name
    found = load(wanted.data, directory)
    prepared = experiment.prepare(wanted, found)
    if (out / runs.SETTINGS).exists():
        same = experiment.is_of(runs.load(out).settings.get("training"), prepared)
        # Only an evaluation that was stopped is left to do.
        if not same or not report or (out / f"{EVALUATION}.nc").exists():
            raise InvalidInput(f"out = {out}: holds a run already; choose another folder")
    else:
        runs.require_writable(out)
        with progress_bar() as add:
            print(experiment.run(prepared, out, add(name)))
    if not report:
        return 0
    return evaluate(
        out,
        norm=typing.cast(Norm, wanted.norm),
        radius=wanted.radius,
        protocol=wanted.protocol,
        samples=wanted.samples or None,
        directory=directory,
        seed=wanted.seed,
    )


def evaluate(
    folder: tyro.conf.Positional[pathlib.Path],
    /,
    *,
    norm: Norm | None = None,
    radius: float | None = None,
    protocol: str = "budget",
    samples: int | None = None,
    directory: pathlib.Path | None = None,
    level: float = 0.05,
    seed: int | None = None,
    block: int = 128,
    name: str = EVALUATION,
) -> int:
    """Evaluate a run class by class, without attack and under a list of attacks.

    Leaves RUN/NAME.nc, which `python -m figures --data` draws and `compare` reads; a file of other
    settings is refused, never overwritten. Exit status: 0 done; 2 bad input.

    Args:
        folder: of the run
        norm: of the ball; that of the training if not given
        radius: of the ball, pixels lie in [0, 1]; that of the training if not given
        protocol: which attacks: quick (PGD), budget (Auto-PGD) or standard (then Square)
        samples: the first so many test samples; all if not given
        directory: where data sets are; the environment variable ROBUST_RISK_DATA if not given
        level: chance that any class interval of the evaluation misses
        seed: of the attacks, in [0, 2^32); that of the training if not given
        block: samples computed together
        name: of the result file
    """
    from nets import chosen, evaluation, runs
    from nets.data import load
    from sims import results
    from theory.problem import InvalidInput

    loaded = runs.load(folder)
    # As in training: the same classes, numbered alike.
    found = chosen.of_classes(
        load(loaded.settings["data"], directory), loaded.settings.get("classes", ())
    )
    _require_same_data(folder, loaded.settings, found)
    if samples is not None and not 1 <= samples <= len(found.test.labels):
        raise InvalidInput(f"samples = {samples}: must lie in [1, {len(found.test.labels)}]")
    trained = {"norm": norm, "radius": radius, "seed": 0} | loaded.settings.get("training", {})
    norm, radius = norm or trained["norm"], trained["radius"] if radius is None else radius
    seed = trained["seed"] if seed is None else seed
    if norm is None or radius is None:
        raise InvalidInput(f"norm, radius: {folder} does not say what it was for; give both")
    if not 0 <= seed < 2**32:
        raise InvalidInput(f"seed = {seed}: must lie in [0, 2^32)")
    wanted = {
        "norm": norm,
        "radius": radius,
        "protocol": protocol,
        "seed": seed,
        "block": block,
        "split": f"first {samples or len(found.test.labels)} of the test set",
    }
    results.require_writable(folder)
    evaluation.require_free(folder / f"{name}.nc", wanted)
    dataset = _evaluated(loaded, found, wanted, samples, level)
    results.save(dataset, folder / f"{name}.nc")
    print(f"{evaluation.summary(dataset)}\n{folder / f'{name}.nc'}")
    return 0


def _evaluated(
    loaded: Any, found: DataSet, wanted: dict[str, Any], samples: int | None, level: float
) -> xr.Dataset:
    import jax

    from nets import evaluation, protocols
    from nets.evaluate import evaluate as outcomes_of
    from sims.interval import require_level

    require_level(level)
    threat = protocols.threat_of(wanted["norm"], wanted["radius"])
    classes = len(found.class_names)
    methods = protocols.methods(wanted["protocol"], classes, threat)
    images, labels = found.test.images[:samples], found.test.labels[:samples]
    counts = evaluation.class_counts(labels, labels == labels, classes)
    evaluation.require_every_class(counts, found.class_names)
    with progress_bar() as add:
        outcomes = outcomes_of(
            jax.random.key(wanted["seed"]),
            loaded.module.apply,
            loaded.variables,
            images,
            labels,
            threat,
            methods,
            classes=classes,
            block=wanted["block"],
            progress=add,
        )
    attributes = wanted | {
        "model": loaded.settings["model"],
        "data": found.name,
        "fingerprint": found.fingerprint,
    }
    return evaluation.make(outcomes, labels, found.class_names, level, attributes)


def compare(
    first: tyro.conf.Positional[pathlib.Path],
    second: tyro.conf.Positional[pathlib.Path],
    /,
    *,
    level: float = 0.05,
    name: str = EVALUATION,
) -> int:
    """Compare two evaluated runs on the same samples: paired, exact, corrected over classes.

    Exit status: 0 done; 2 bad input.

    Args:
        first: folder of the run to compare with
        second: folder of the run compared
        level: chance that any interval misses, and of the family of tests
        name: of the result files of both
    """
    from nets import evaluation

    one, two = (evaluation.load(folder / f"{name}.nc") for folder in (first, second))
    print(evaluation.comparison(one, two, level))
    return 0


def _require_same_data(folder: pathlib.Path, settings: dict[str, Any], found: DataSet) -> None:
    from theory.problem import InvalidInput

    if settings["fingerprint"] != found.fingerprint:
        raise InvalidInput(
            f"data = {found.name}: fingerprint {found.fingerprint[:12]}, but {folder} was trained "
            f"on {settings['fingerprint'][:12]}"
        )


COMMANDS: dict[str, Callable[..., int]] = {
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
}


def main() -> None:
    """Runs the command that the first word names."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        again = "starts anew" if word != "train" else "goes on from the last epoch"
        run(COMMANDS[word], f"python -m nets {word}", sys.argv[2:], f"the same command {again}")
    names = ", ".join(COMMANDS)
    usage = f"usage: python -m nets {{{names}}} --help"
    if word not in ("", "-h", "--help"):
        print(f"error: command = {word!r}: {usage}", file=sys.stderr)
        sys.exit(USAGE)
    print(usage)


if __name__ == "__main__":
    main()
