"""One small file of each kind that the project writes, and how it is read.

Made without simulating or training anything: what a reader must not believe does not depend on
where the numbers are from.
"""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from nets.configs import recipes
from nets.evaluation import file as evaluation_file
from nets.models import registry
from nets.runs import folder as runs
from nets.study import file as study_file
from nets.study import plan
from nets.training import checkpoint
from nets.training.progress import TrainingProgress
from sims import files
from sims.sweep import file as sweep_file
from sims.training import file as grid_file
from sims.training.grid import AXES

ROOT = pathlib.Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"
SETTINGS = {"a": 1}


class FileSample(NamedTuple):
    """A file that is to be damaged.

    Args:
        path: the file, or all of the files of which one is damaged.
        read: returns its content, comparable by ==; raises InvalidInput.
    """

    paths: tuple[pathlib.Path, ...]
    read: Callable[[], Any]


def sweep() -> xr.Dataset:
    """Returns what a sweep of 21 radii leaves, with counts of its own."""
    shape, drawn = (21, 2), np.random.default_rng(0)
    counts = (("radius", "label"), drawn.integers(0, 1000, shape))
    return xr.Dataset(
        {
            "errors": counts,
            "nonfinite": (counts[0], np.zeros(shape, np.int64)),
            "trials": (counts[0], np.full(shape, 1000)),
            "weights": (("radius", "component", "label"), np.tile(np.eye(2), (21, 1, 1))),
            "theory": (("radius", "component"), drawn.random(shape)),
            "fails": (("radius", "component"), np.zeros(shape, np.int8)),
        },
        coords={
            "radius": np.linspace(0, 2, 21),
            "label": ["negative", "positive"],
            "component": ["negative", "positive"],
        },
        attrs={"claim": "a-claim", "seed": 0, "shard": "1/1", "chunk": 4096},
    )


def grid() -> xr.Dataset:
    """Returns what a training grid of 2 seeds, rates and threats leaves."""
    shape, drawn = (1, 2, 2, 2, 1, 1), np.random.default_rng(0)
    errors = ((*AXES, "label"), drawn.integers(0, 1000, (*shape, 2)))
    return xr.Dataset(
        {
            "weight": ((*AXES, "feature"), drawn.random((*shape, 100)).astype(np.float32)),
            "validation_loss": (AXES, drawn.random(shape).astype(np.float32)),
            "epochs": (AXES, np.full(shape, 3, np.int32)),
            "errors": errors,
            "robust_errors": errors,
            "trials": ("label", [1000, 1000]),
        },
        coords={
            "imbalance_ratio": [1.0],
            "seed": [3, 4],
            "rate": [0.01, 0.1],
            "threat": ["natural", "l2=1"],
            "mixup": [1],
            "minority_weight": [1],
            "norm": ("threat", ["l2", "l2"]),
            "radius": ("threat", [0.0, 1.0]),
            "label": ["negative", "positive"],
        },
        attrs={"kind": "train-grid", "law": "gaussian", "epochs": 3},
    )


def run(folder: pathlib.Path) -> runs.Run:
    """Returns the run of a linear network on images of 4 x 4, saved in a folder with its log."""
    network = registry.build("logistic", 3)
    head = {"kernel": np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3)}
    variables = {"params": {"head": head | {"bias": np.zeros(3, np.float32)}}}
    settings = {
        "model": "logistic",
        "options": {},
        "image_shape": [4, 4, 1],
        "class_names": ["a", "b", "c"],
        "data": "digits",
        "fingerprint": "0" * 64,
        "classes": [],
        "training": {"model": "logistic", "epochs": 2, "rate": 0.1},
        "epoch": 2,
    }
    made = runs.Run(settings, network, variables)
    runs.write_log(folder, [{"epoch": epoch, "loss": 0.5 / epoch} for epoch in (1, 2)])
    runs.save(folder, made)
    return made


def progress(epochs: int) -> TrainingProgress:
    """Returns a progress of so many epochs, whose state is two small arrays."""
    state: Any = {"w": np.arange(300, dtype=np.float32) + epochs, "step": np.full(3, epochs)}
    records = tuple({"epoch": epoch} for epoch in range(1, epochs + 1))
    return TrainingProgress(state, {"w": state["w"]}, records)


def make(kind: str, folder: pathlib.Path) -> FileSample:
    """Returns the file of a kind of KINDS, made in an empty folder."""
    return _KINDS[kind](folder)


def _dataset(
    folder: pathlib.Path, dataset: xr.Dataset, load: Callable[[pathlib.Path], xr.Dataset]
) -> FileSample:
    path = folder / "results.nc"
    files.save(dataset, path)
    return FileSample((path,), lambda: _content(load(path)))


def _content(dataset: xr.Dataset) -> Any:
    assert dataset.encoding["verified"]
    return dataset.drop_encoding().to_dict()


def _sweep(folder: pathlib.Path) -> FileSample:
    return _dataset(folder, sweep(), sweep_file.load)


def _grid(folder: pathlib.Path) -> FileSample:
    return _dataset(folder, grid(), grid_file.load)


def _evaluation(folder: pathlib.Path) -> FileSample:
    kept = files.read(RESULTS / "mnist-pgd" / "evaluation.nc")
    return _dataset(folder, kept, evaluation_file.load)


def _study(folder: pathlib.Path) -> FileSample:
    kept = files.read(RESULTS / "fashion-fairness" / "study.nc")
    return _dataset(folder, kept, study_file.load)


def _run(folder: pathlib.Path) -> Any:
    read = runs.load(folder)
    assert read.verified
    return read.settings, runs.checksum(read.variables)


def _record(folder: pathlib.Path) -> FileSample:
    run(folder)
    return FileSample((folder / runs.SETTINGS,), lambda: _run(folder))


def _parameters(folder: pathlib.Path) -> FileSample:
    run(folder)
    return FileSample((folder / runs.PARAMETERS,), lambda: _run(folder))


def _log(folder: pathlib.Path) -> FileSample:
    run(folder)
    return FileSample((folder / runs.LOG,), lambda: runs.read_log(folder))


def _checkpoint(folder: pathlib.Path) -> FileSample:
    fresh = progress(0)
    checkpoint.save(folder, SETTINGS, progress(2))
    inside = sorted(path for path in (folder / checkpoint.FOLDER).rglob("*") if path.is_file())

    def read() -> Any:
        restored = checkpoint.restore(folder, SETTINGS, fresh)
        leaves = jax.tree.leaves((restored.state, restored.chosen))
        return restored.records, [np.asarray(leaf).tobytes() for leaf in leaves]

    return FileSample(tuple(path for path in inside if path.stat().st_size > 1), read)


def _config(folder: pathlib.Path) -> FileSample:
    path = folder / "config.toml"
    shutil.copyfile(recipes.path_of("mnist-5k-pgd"), path)
    return FileSample((path,), lambda: recipes.read([str(path)]))


def _plan(folder: pathlib.Path) -> FileSample:
    path = folder / "study.toml"
    shutil.copyfile(plan.STUDIES / "fashion-fairness.toml", path)
    return FileSample((path,), lambda: plan.read([str(path)]))


_KINDS: dict[str, Callable[[pathlib.Path], FileSample]] = {
    "sweep": _sweep,
    "training grid": _grid,
    "evaluation": _evaluation,
    "study": _study,
    "run record": _record,
    "parameters": _parameters,
    "log": _log,
    "checkpoint": _checkpoint,
    "config": _config,
    "study plan": _plan,
}
KINDS = tuple(_KINDS)
# Written by hand: a digit that changes is another value, and there is nothing to hold it against.
BY_HAND = ("config", "study plan")
