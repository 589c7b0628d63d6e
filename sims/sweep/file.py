"""Result files: totals on a grid as an xarray Dataset in one portable netCDF file.

Files are replaced atomically, so a killed run leaves the last complete chunk; a file that belongs
to another sweep is refused and never overwritten.
"""

import pathlib
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sims.files import read, require_variables, schema, unverified_note
from sims.provenance import versions
from sims.simulate import by_problem
from sims.sweep.plan import Shard, SweepPlan
from theory.claims import evaluate
from theory.domain import InvalidInput

# What every result file has, and what a verdict adds to it.
COMMON = ("trials", "nonfinite", "theory", "fails", "weights")
_TOTAL = schema.Row((..., "label"), "f", low=0, nan=True, optional=True)
_JUDGED = schema.Row((..., "component"), "f", nan=True, optional=True)
TABLE = schema.Table(
    "a sweep",
    variables={
        "trials": schema.Row((..., "label"), schema.INTEGER, low=0),
        "nonfinite": schema.Row((..., "label"), schema.INTEGER, low=0),
        "theory": schema.Row((..., "component"), "f", nan=True),
        "fails": schema.Row((..., "component"), schema.INTEGER, low=0, high=1),
        "weights": schema.Row((..., "component", "label"), "f", nan=True),
        "errors": schema.Row(
            (..., "label"), schema.INTEGER, low=0, at_most="trials", optional=True
        ),
        **dict.fromkeys(("losses", "residuals", "responses"), _TOTAL),
        **dict.fromkeys(("estimate", "low", "high", "detectable"), _JUDGED),
    },
    coordinates=dict.fromkeys(("label", "component"), schema.Row(kinds=schema.TEXT, unique=True)),
    attributes={
        "claim": schema.Attribute(),
        "seed": schema.Attribute(schema.INTEGER),
        "shard": schema.Attribute(optional=True),
        "chunk": schema.Attribute(schema.INTEGER, low=1, optional=True),
        "trials_per_class": schema.Attribute(schema.INTEGER, low=0, optional=True),
        "until_width": schema.Attribute(schema.NUMBER, low=0, optional=True),
        "level": schema.Attribute(schema.NUMBER, low=0, high=1, optional=True),
    },
)
# The attribute `standing` of what `sims.projection.explore` makes; nothing that judges or draws
# takes it.
EXPLORATORY = "exploratory: the projection assumes the lemma under test; not evidence"


def empty(plan: SweepPlan) -> xr.Dataset:
    """Returns the dataset of a sweep that has not begun: zero totals and the closed form."""
    claim, shape, estimand = plan.claim, plan.shape, plan.claim.estimand
    axes, points = tuple(plan.grid), plan.points

    def zeros(total: by_problem.Total) -> tuple[Any, ...]:
        values: np.ndarray = np.zeros((*shape, len(estimand.labels)), total.dtype)
        return (*axes, "label"), values, {"long_name": total.meaning}

    def per_component(values: np.ndarray) -> np.ndarray:
        return values.reshape(*shape, *values.shape[1:])

    dataset = xr.Dataset(
        {
            **{name: zeros(total) for name, total in by_problem.totals(estimand).items()},
            "weights": (
                (*axes, "component", "label"),
                per_component(evaluate.weights(claim, points)),
            ),
            "theory": ((*axes, "component"), per_component(evaluate.closed_form(claim, points))),
            "fails": (
                (*axes, "component"),
                per_component(evaluate.failing(claim, points)).astype(np.int8),
            ),
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
    # What is claimed to be larger lies above a lower bound.
    what = {"==": "closed form", ">=": "lower bound", "<=": "upper bound"}[claim.relation]
    dataset["theory"].attrs["long_name"] = f"{what} of the {estimand.name}"
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
            exploratory; or if a sweep does not hold what TABLE says.
    """
    loaded = read(path)
    require_admissible(str(path), loaded)
    require_variables(path, loaded, needed)
    # Also where any kind is taken, as for figures.
    if "theory" in loaded:
        schema.require(path, loaded, TABLE)
    unverified_note(path, loaded)
    return loaded


def require_admissible(name: str, dataset: xr.Dataset) -> None:
    """Raises InvalidInput if the dataset of that name is exploratory."""
    if dataset.attrs.get("standing") == EXPLORATORY:
        raise InvalidInput(f"results = {name}: {EXPLORATORY}; must be counts of `python -m sims`")


def resume(path: pathlib.Path, plan: SweepPlan) -> xr.Dataset:
    """Returns the dataset to go on with: that of `path` where there is one, else an empty one.

    Raises:
        InvalidInput: if the file is unreadable or belongs to another sweep; it is left as it is.
    """
    fresh = empty(plan)
    if not path.exists():
        return fresh
    saved = load(path)
    require_same(path, saved, fresh)
    # The totals alone: what follows from them and from the claim is computed anew.
    for name in totals(fresh):
        fresh[name] = saved[name]
    return fresh


# What two results share if they are of one sweep; a message names the first difference.
IDENTITY = ("claim", "seed", "trials_per_class", "until_width", "chunk", "shard", "code", "jax")


def require_same(
    path: pathlib.Path,
    saved: xr.Dataset,
    wanted: xr.Dataset,
    identity: Sequence[str] = IDENTITY,
    axes: Sequence[Hashable] | None = None,
) -> None:
    """Raises InvalidInput, naming the first difference, unless both are of one sweep.

    Args:
        path: where `saved` was read, for the message.
        saved, wanted: the two.
        identity: the attributes that must agree.
        axes: the coordinates that must agree; those of `theory` if None.
    """
    for name in identity:
        theirs, ours = saved.attrs.get(name), wanted.attrs[name]
        if theirs != ours:
            raise InvalidInput(
                f"results = {path}: belongs to another sweep ({name} = {theirs}, this one has "
                f"{ours}); choose another output or move the file away"
            )
    for axis in wanted["theory"].dims[:-1] if axes is None else axes:
        if axis not in saved.coords or not np.array_equal(saved[axis], wanted[axis]):
            raise InvalidInput(
                f"results = {path}: belongs to another sweep (its grid of {axis} differs); choose "
                "another output or move the file away"
            )


def merge(paths: Sequence[pathlib.Path]) -> xr.Dataset:
    """Returns the sweep whose shards are in `paths`, without a verdict.

    Raises:
        InvalidInput: if a file is unreadable, of another sweep, given twice or missing.
    """
    parts = [load(path) for path in paths]
    shards = [Shard.parse(str(part.attrs.get("shard"))) for part in parts]
    first = parts[0].drop_encoding()
    names = totals(first)
    # What a shard was judged by does not hold for the whole.
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
