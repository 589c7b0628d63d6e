"""Result files: totals on a grid as an xarray Dataset in one portable netCDF file.

Files are replaced atomically, so a killed run leaves the last complete chunk; a file that belongs
to another sweep is refused and never overwritten.
"""

import contextlib
import os
import pathlib
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sims import tally
from sims.plan import Plan, Shard, versions
from theory.problem import InvalidInput

# What every result file has, and what a verdict adds to it.
COMMON = ("trials", "nonfinite", "theory", "fails", "weights")
# The attribute `standing` of what `sims.projected` makes; nothing that judges or draws takes it.
EXPLORATORY = "exploratory: the projection assumes the lemma under test; not evidence"


def empty(plan: Plan) -> xr.Dataset:
    """Returns the dataset of a sweep that has not begun: zero totals and the closed form."""
    claim, shape, estimand = plan.claim, plan.shape, plan.claim.estimand
    axes, points = tuple(plan.grid), plan.points

    def zeros(total: tally.Total) -> tuple:
        values: np.ndarray = np.zeros((*shape, len(estimand.labels)), total.dtype)
        return (*axes, "label"), values, {"long_name": total.meaning}

    def per_component(values: np.ndarray) -> np.ndarray:
        return values.reshape(*shape, *values.shape[1:])

    dataset = xr.Dataset(
        {
            **{name: zeros(total) for name, total in tally.totals(estimand).items()},
            "weights": ((*axes, "component", "label"), per_component(claim.weights(points))),
            "theory": ((*axes, "component"), per_component(claim.theory(points))),
            "fails": ((*axes, "component"), per_component(claim.failing(points)).astype(np.int8)),
        },
        coords={
            **{a.name: (a.name, plan.grid[a.name], {"long_name": a.meaning}) for a in claim.axes},
            "label": list(estimand.labels),
            "component": list(estimand.components),
        },
        attrs=plan.identity()
        | {
            "statement": claim.statement,
            "source": claim.source.key,
            "result": claim.source.result,
            "relation": claim.relation,
            "estimand": estimand.name,
            "fails_where": claim.fails.where if claim.fails else "",
            "versions": versions(),
        },
    )
    dataset["theory"].attrs["long_name"] = f"closed form of the {estimand.name}"
    dataset["weights"].attrs["long_name"] = "what the risk of a label counts for in a component"
    dataset["fails"].attrs["long_name"] = "whether the published form is known to be false here"
    return dataset


def totals(dataset: xr.Dataset) -> list[str]:
    """Returns the names of the totals of a dataset: what simulation adds to, label by label."""
    names = dataset.data_vars
    return [str(k) for k in names if "label" in dataset[k].dims and k != "weights"]


def load(path: pathlib.Path, needed: Sequence[str] = COMMON) -> xr.Dataset:
    """Returns the dataset in a result file.

    Args:
        path: the file.
        needed: the variables without which it is of another kind.

    Raises:
        InvalidInput: if it cannot be read as one: missing, truncated, not a result file, or
            exploratory.
    """
    loaded = read(path)
    require_evidence(str(path), loaded)
    require_variables(path, loaded, needed)
    return loaded


def require_variables(path: pathlib.Path, dataset: xr.Dataset, needed: Sequence[str]) -> None:
    """Raises InvalidInput, naming the first that is missing, unless all variables are there."""
    if missing := [name for name in needed if name not in dataset]:
        raise InvalidInput(f"results = {path}: not a result file, it has no {missing[0]!r}")


def require_evidence(name: str, dataset: xr.Dataset) -> None:
    """Raises InvalidInput if the dataset of that name is exploratory."""
    if dataset.attrs.get("standing") == EXPLORATORY:
        raise InvalidInput(f"results = {name}: {EXPLORATORY}; must be counts of `python -m sims`")


def read(path: pathlib.Path) -> xr.Dataset:
    """Returns what is in a netCDF file, of whatever kind.

    Raises:
        InvalidInput: if it cannot be read.
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf") as dataset:
            return dataset.load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "not a readable file"
        raise InvalidInput(f"results = {path}: {reason} (truncated or of another kind?)") from error


def resume(path: pathlib.Path, plan: Plan) -> xr.Dataset:
    """Returns the dataset to go on with: that of `path` where there is one, else an empty one.

    Raises:
        InvalidInput: if the file is unreadable or belongs to another sweep; it is left as it is.
    """
    fresh = empty(plan)
    if not path.exists():
        return fresh
    found = load(path)
    require_same(path, found, fresh)
    for name in totals(fresh):
        fresh[name] = found[name]
    return fresh


IDENTITY = ("claim", "seed", "trials_per_class", "until_width", "chunk", "shard", "code", "jax")


def require_same(
    path: pathlib.Path,
    found: xr.Dataset,
    wanted: xr.Dataset,
    identity: Sequence[str] = IDENTITY,
    axes: Sequence[Hashable] | None = None,
) -> None:
    """Raises InvalidInput, naming the first difference, unless both are of one sweep.

    Args:
        path: where `found` was read, for the message.
        found, wanted: the two.
        identity: the attributes that must agree.
        axes: the coordinates that must agree; those of `theory` if None.
    """
    for name in identity:
        theirs, ours = found.attrs.get(name), wanted.attrs[name]
        if theirs != ours:
            raise InvalidInput(
                f"results = {path}: belongs to another sweep ({name} = {theirs}, this one has "
                f"{ours}); choose another output or move the file away"
            )
    for axis in wanted["theory"].dims[:-1] if axes is None else axes:
        if axis not in found.coords or not np.array_equal(found[axis], wanted[axis]):
            raise InvalidInput(
                f"results = {path}: belongs to another sweep (its grid of {axis} differs); choose "
                "another output or move the file away"
            )


def save(dataset: xr.Dataset, path: pathlib.Path) -> None:
    """Writes the dataset to a temporary file beside `path` and renames it into place.

    Raises:
        InvalidInput: if it cannot be written; what `path` held before is untouched.
    """
    # Made in memory, as HDF5 crashes the process on a full disk.
    replace_whole(path, lambda at: at.write_bytes(dataset.to_netcdf(engine="h5netcdf")))


def replace_whole(
    path: pathlib.Path, write: Callable[[pathlib.Path], Any], kind: str = "results"
) -> None:
    """Puts what `write` leaves at a temporary path in the place of `path`, all of it or nothing.

    Args:
        path: the file.
        write: takes the temporary path, beside it.
        kind: what a message calls the file.

    Raises:
        InvalidInput: if it cannot be written; what `path` held before is untouched.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        write(temporary)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InvalidInput(f"{kind} = {path}: cannot be written ({error.strerror})") from error


def require_writable(folder: pathlib.Path, size: int = 0) -> None:
    """Makes the folder and checks that a file of `size` bytes can be written to it.

    Raises:
        InvalidInput: if not.
    """
    # Threads of one process may ask at the same time.
    probe = folder / f".writable-{os.getpid()}-{threading.get_ident()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with probe.open("wb") as handle:
            handle.write(bytes(size))
            handle.flush()
            os.fsync(handle.fileno())
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise InvalidInput(
            f"output = {folder}: must be a folder that can be written to ({error.strerror})"
        ) from error


def merge(paths: Sequence[pathlib.Path]) -> xr.Dataset:
    """Returns the sweep whose shards are in `paths`, without a verdict.

    Raises:
        InvalidInput: if a file is unreadable, of another sweep, given twice or missing.
    """
    parts = [load(path) for path in paths]
    shards = [Shard.parse(str(part.attrs.get("shard"))) for part in parts]
    first = parts[0].drop_encoding()
    names = totals(first)
    whole = first[[*names, "weights", "theory", "fails"]].copy(deep=True)
    whole.attrs.pop("level", None)
    for path, part, shard in zip(paths, parts, shards, strict=True):
        require_same(path, part, whole.assign_attrs(shard=str(shard)))
        if shard.total != shards[0].total or shards.count(shard) > 1:
            raise InvalidInput(f"merge = {path}: shard {shard} does not fit beside {shards[0]}")
    if absent := set(range(1, shards[0].total + 1)) - {shard.number for shard in shards}:
        raise InvalidInput(f"merge: shard {min(absent)}/{shards[0].total} is missing")
    for name in names:
        # Each point is in one shard and zero in the others, so that sums of floats are exact too.
        whole[name].values = np.sum([part[name].values for part in parts], axis=0)
    return whole.assign_attrs(shard=str(Shard()))
