"""A whole grid of class risks in seconds by projection: exploratory, not evidence.

Along the weight of a linear rule the noise of a Gaussian mixture is Gaussian again, and symmetric
alpha-stable noise with independent coordinates is stable again, so one random number stands for a
point of any dimension. The closed forms rest on the same lemma: agreement with such counts says
nothing about it. What is made here is marked so everywhere, and everything that judges, merges or
draws evidence refuses it.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sims import files, provenance
from sims.projection import cells
from sims.projection.cells import Cells
from sims.random import keys
from sims.simulate import attack
from sims.stats import interval
from sims.sweep import claim_code, plan
from sims.sweep import file as sweep_file
from sims.sweep.file import EXPLORATORY
from sims.sweep.single_precision import require_simulable
from theory.claims import evaluate
from theory.claims.claim import Claim, Problem
from theory.claims.evaluate import row_by_row
from theory.domain import InvalidInput
from theory.problem import GaussianMixture, Law, StableMixture

KINDS, LABELS = ("natural", "robust"), ("negative", "positive")
COUNTING = ("sims.projection.explore", "theory.claims.evaluate")
IDENTITY = ("standing", "claim", "seed", "trials", "level", "code", "jax")


@functools.singledispatch
def noise_along(mixture: Law, weight: jax.Array) -> jax.Array:
    """Returns the scale of weight . noise at unit class scale, ().

    Args:
        mixture: its law; alpha-stable noise keeps its stability index.
        weight: (d,).

    Raises:
        InvalidInput: for another law.
    """
    raise InvalidInput(f"mixture = {mixture!r}: must be a GaussianMixture or a StableMixture")


@noise_along.register
def _(mixture: GaussianMixture, weight: jax.Array) -> jax.Array:
    if mixture.covariance is None:
        return jnp.linalg.norm(weight)
    high = jax.lax.Precision.HIGHEST
    spread = jnp.matmul(mixture.covariance, weight, precision=high)
    scale: jax.Array = jnp.sqrt(jnp.matmul(weight, spread, precision=high))
    return scale


@noise_along.register
def _(mixture: StableMixture, weight: jax.Array) -> jax.Array:
    # In units of the largest entry, so that no power leaves the range of the dtype.
    largest = jnp.max(jnp.abs(weight))
    relative = jnp.abs(weight) / jnp.where(largest > 0, largest, 1)
    scale: jax.Array = largest * jnp.sum(relative**mixture.alpha) ** (1 / mixture.alpha)
    return scale


def project(problem: Problem) -> Cells:
    """Returns the cell of one problem: its scores, in units of their noise at unit class scale.

    The bias goes into the locations before they are rounded to float32.

    Args:
        problem: a GaussianMixture or a StableMixture with a linear rule and a ball, or no threat.

    Returns:
        the fields without the axis of cells: (2,) or ().
    """
    mixture, (weight, bias), threat = problem
    size = noise_along(mixture, weight)
    # Along a weight of zeros nothing varies, and the rule is constant.
    unit = jnp.where(size > 0, size, 1)
    locations = (
        jnp.matmul(mixture.means, weight, precision=jax.lax.Precision.HIGHEST) + bias
    ) / unit
    radius = jnp.zeros_like(bias)
    if threat is not None:
        radius = threat.radius * jnp.sum(weight * attack.steepest(threat, weight)) / unit
    scales = jnp.where(size > 0, mixture.scales, 0)
    alpha = mixture.alpha if isinstance(mixture, StableMixture) else None
    return Cells(locations, scales, jnp.zeros_like(bias), radius, alpha)


def require_linear(claim: Claim) -> None:
    """Raises InvalidInput unless what the claim simulates can be projected; computes nothing."""
    scalars = {axis.name: jax.ShapeDtypeStruct((), np.float32) for axis in claim.axes}
    problem = jax.eval_shape(lambda values: claim.problem(**values), scalars)
    law = problem.mixture if isinstance(problem, Problem) else problem
    if not isinstance(law, GaussianMixture | StableMixture):
        raise InvalidInput(
            f"claim = {claim.name!r}: must be of a linear rule for a GaussianMixture or a "
            f"StableMixture to be projected, is of a {type(law).__name__}"
        )


def explore(
    claim: Claim,
    grid: Mapping[str, Sequence[float]] | None = None,
    *,
    trials: int = 100_000,
    seed: int = 0,
    level: float = 1e-3,
    path: pathlib.Path | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """Returns natural and robust class risks of what a claim simulates, counted by projection.

    Args:
        claim: whose problems are two-class linear ones with Gaussian or stable noise.
        grid: values for some axes; the others keep their default grid.
        trials: draws at each grid point, shared by its classes and kinds of risk.
        seed: in [0, 2^32); the draws are those of a point's place in the grid.
        level: chance that any interval misses its risk, were the projection right.
        path: result file to write; one of the same settings is written anew.
        devices, progress: as for `sims.projection.cells.count`.

    Returns:
        `errors` int64, `estimate`, `low`, `high` (*axes, kind, label), all marked as exploratory.

    Raises:
        InvalidInput: for bad arguments, a claim of another kind, or a file of other settings,
            which is left as it is: before any draw.
    """
    wanted = plan.make_plan(claim, grid, trials=trials, seed=seed)
    interval.require_level(level)
    if trials > cells.MOST:
        raise InvalidInput(f"trials = {trials}: draws at each point, at most {cells.MOST}")
    require_linear(claim)
    require_simulable(claim, wanted.points)
    empty = _empty(wanted, level)
    if path is not None:
        files.require_writable(path.parent)
        if path.exists():
            sweep_file.require_same(path, files.read(path), empty, IDENTITY, tuple(wanted.grid))
    problems = evaluate.problems(claim, wanted.points)
    with jax.enable_x64(True):
        line = row_by_row(project, problems)
    key = keys.key(seed)
    counted = cells.count(key, line, trials, devices=devices, progress=progress)
    dataset = _filled(empty, np.stack(counted, axis=1))
    if path is not None:
        files.save(dataset, path)
    return dataset


def lines(dataset: xr.Dataset) -> Iterator[str]:
    """Yields the risks of one grid point a line, each line saying that it is not evidence."""
    axes = dataset["errors"].dims[:-2]
    shape = tuple(dataset.sizes[axis] for axis in axes)
    values = [dataset[name].values for name in ("estimate", "low", "high")]
    for index in np.ndindex(*shape):
        point = " ".join(
            f"{axis}={dataset[axis].values[i]:g}" for axis, i in zip(axes, index, strict=True)
        )
        risks = ", ".join(
            f"{kind} {label} {values[0][index][k, c]:.6g} "
            f"[{values[1][index][k, c]:.6g}, {values[2][index][k, c]:.6g}]"
            for k, kind in enumerate(KINDS)
            for c, label in enumerate(LABELS)
        )
        yield marked(f"{dataset.claim} {point}: {risks}")


def marked(text: str) -> str:
    """Returns a line of output with the mark of what is not evidence."""
    return f"{text} ({EXPLORATORY})"


def file_name(claim: str) -> str:
    """Returns the name of an exploratory result file."""
    return f"{claim}.exploratory-not-evidence.nc"


def _empty(wanted: plan.SweepPlan, level: float) -> xr.Dataset:
    """Returns the dataset of an exploration without its counts."""
    axes = wanted.claim.axes
    coordinates = {a.name: (a.name, wanted.grid[a.name], {"long_name": a.meaning}) for a in axes}
    # The counts are those of the projection, not of the simulator that a sweep's identity names.
    settings = wanted.identity() | {"code": claim_code.digest(wanted.claim, COUNTING)}
    identity = {name: value for name, value in settings.items() if name in IDENTITY}
    return xr.Dataset(
        coords={**coordinates, "kind": list(KINDS), "label": list(LABELS)},
        attrs={"standing": EXPLORATORY, **identity, "trials": wanted.trials, "level": level}
        | {"statement": wanted.claim.statement, "versions": provenance.versions()},
    )


def _filled(empty: xr.Dataset, errors: np.ndarray) -> xr.Dataset:
    """Returns the dataset with counts (n, kind, label) in it, and their intervals."""
    dims = tuple(empty.sizes)
    errors = errors.reshape(tuple(empty.sizes.values()))
    trials = empty.attrs["trials"]
    bounds = interval.clopper_pearson(errors, trials, empty.attrs["level"] / errors.size)
    columns = {"errors": errors, "estimate": errors / trials, **bounds._asdict()}
    mark = {"standing": EXPLORATORY}
    return empty.assign({name: (dims, values, mark) for name, values in columns.items()})
