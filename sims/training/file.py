"""The result file of a grid of trained models: what it must say, and when it is refused."""

import pathlib

import numpy as np
import xarray as xr

from sims import files
from sims.files import schema
from sims.sweep import file as sweep_file
from sims.training.grid import AXES, IDENTITY, Grid, coordinates, identity, require_grid
from sims.training.loop import Progress
from sims.training.run import best_rates, train_grid

VARIABLES = ("weight", "validation_loss", "errors", "robust_errors", "trials")
_ERRORS = schema.Row((*AXES, "label"), schema.INTEGER, low=0, at_most="trials")
_AXIS = schema.Row(kinds=schema.NUMBER, unique=True)
TABLE = schema.Table(
    "a grid of trained models",
    variables={
        "weight": schema.Row((*AXES, "feature"), "f", nan=True),
        "bias": schema.Row(AXES, "f", nan=True, optional=True),
        "validation_loss": schema.Row(AXES, "f", nan=True),
        "best_epoch": schema.Row(AXES, schema.INTEGER, low=0, at_most="epochs", optional=True),
        "epochs": schema.Row(AXES, schema.INTEGER, low=0, at_most="@epochs"),
        "errors": _ERRORS,
        "robust_errors": _ERRORS,
        "imbalanced_errors": _ERRORS._replace(at_most="imbalanced_trials", optional=True),
        "trials": schema.Row(("label",), schema.INTEGER, low=1),
        "imbalanced_trials": schema.Row(
            ("imbalance_ratio", "label"), schema.INTEGER, low=1, optional=True
        ),
    },
    coordinates={
        **{axis: _AXIS for axis in AXES if axis != "threat"},
        "threat": schema.Row(("threat",), schema.TEXT, unique=True),
        "norm": schema.Row(("threat",), schema.TEXT),
        "radius": schema.Row(("threat",), schema.NUMBER, low=0),
        "label": schema.Row(("label",), schema.TEXT, unique=True),
    },
    attributes={
        "kind": schema.Attribute(choices=("train-grid",)),
        "law": schema.Attribute(),
        "epochs": schema.Attribute(schema.INTEGER, low=1),
    },
)


def load(path: pathlib.Path) -> xr.Dataset:
    """Returns the dataset in the result file of a grid.

    Raises:
        InvalidInput: if it cannot be read as one, or does not hold what TABLE says.
    """
    loaded = sweep_file.load(path, VARIABLES)
    schema.require(path, loaded, TABLE)
    return loaded


def run_grid(grid: Grid, path: pathlib.Path, progress: Progress | None = None) -> xr.Dataset:
    """Returns the trained grid, from `path` where the file of these settings is complete there.

    Args:
        grid: what to train.
        path: the result file, written when all models are trained.
        progress: called with the share of epochs done, in [0, 1].

    Raises:
        InvalidInput: for a bad grid, a folder that cannot hold the file, or a file of other
            settings, which is left as it is: all before any computation.
    """
    require_grid(grid)
    # Before hours of training, not after: the file is written at the end, in one piece.
    files.require_writable(path.parent, size_of(grid))
    if path.exists():
        trained = load(path)
        wanted = xr.Dataset(coords=coordinates(grid), attrs=identity(grid))
        sweep_file.require_same(path, trained, wanted, IDENTITY, tuple(wanted.coords))
        return trained
    trained = train_grid(grid, progress)
    files.save(trained, path)
    return trained


def size_of(grid: Grid) -> int:
    """Returns an upper bound on the size of the result file, in bytes."""
    return int(np.prod(grid.shape)) * 640 + 2**17


def summary(dataset: xr.Dataset) -> str:
    """Returns a table: natural accuracy disparity, mean over the seeds, at the best rates."""
    best = best_rates(dataset)
    disparity = (best["errors"] / best["trials"]).diff("label").isel(label=0).mean("seed")
    axes = ("mixup", "minority_weight", "threat")
    ratios = "".join(f"{f'R = {r:g}':>10}" for r in dataset["imbalance_ratio"].values)
    lines = [f"{'accuracy of the majority minus that of the minority':52}{ratios}"]
    for mixup, weight, threat in disparity.stack(row=axes)["row"].values:
        values = disparity.sel(mixup=mixup, minority_weight=weight, threat=threat).values
        extra = f", mixup {mixup:g}" * (mixup != 1) + f", minority weight {weight:g}" * (
            weight != 1
        )
        lines.append(f"  {threat + extra:50}" + "".join(f"{v:10.3f}" for v in values))
    return "\n".join(lines)


def describe(dataset: xr.Dataset) -> str:
    """Returns one line: how many models of what law, and how many epochs they ran."""
    epochs = dataset["epochs"]
    most = epochs.size * int(dataset.attrs["epochs"])
    return f"{dataset.law}: {epochs.size} models, {int(epochs.sum())} of {most} epochs"
