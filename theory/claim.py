"""A claim: one falsifiable sentence of one paper, with all that is needed to test it.

A theorem is added in one file of `theory/claims`: a `problem`, a `predict` and one `register(Claim(
...))`. Listing, domain checks, sweep, verdict, figure, statistical test and BibTeX come with it.
"""

import dataclasses
import functools
import importlib
import importlib.resources
import pkgutil
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory import linear
from theory.domain import Interval, InvalidInput, require_known
from theory.problem import Law, LinearClassifier, Threat

__all__ = [
    "CLASS_RISKS",
    "DISPARITY",
    "RISK",
    "Axis",
    "Claim",
    "Estimand",
    "Failure",
    "Problem",
    "Source",
    "bibtex",
    "closed_risks",
    "component_weights",
    "find",
    "register",
    "registered",
    "row_by_row",
]

Relation = Literal["==", "<=", ">="]


class Problem(NamedTuple):
    """What is simulated: a law, a linear rule and a threat model (None: natural risk)."""

    mixture: Law
    classifier: LinearClassifier
    threat: Threat | None = None


class Source(NamedTuple):
    """Where a claim comes from: a key of references.bib and the result's name or number."""

    key: str
    result: str


class Axis(NamedTuple):
    """One parameter of a claim.

    Args:
        name: the keyword under which `problem` and `predict` take it.
        meaning: what it is, with its unit or what it is measured in.
        default: the grid of an unqualified sweep.
        domain: where the claim is made.
    """

    name: str
    meaning: str
    default: tuple[float, ...]
    domain: Interval

    def grid(self, values: Any) -> np.ndarray:
        """Returns `values` as this axis's grid: float64, rounded to 12 digits, in the given order.

        The rounding makes a point the same point in every grid that holds it.

        Raises:
            InvalidInput: for no value, a value outside the domain, or a value given twice.
        """
        grid = np.array([float(f"{value:.12g}") for value in values], float)
        outside = grid[~self.domain.contains(grid)]
        if outside.size:
            raise InvalidInput(
                f"{self.name} = {outside[0]:g}: {self.meaning} must lie in {self.domain}"
            )
        if not grid.size:
            raise InvalidInput(f"{self.name} = (): its grid needs at least one value")
        if len(set(grid.tolist())) < len(grid):
            raise InvalidInput(f"{self.name} = {grid.tolist()}: its grid holds a value twice")
        return grid


class Estimand(NamedTuple):
    """What a claim speaks of: linear combinations of the two class risks.

    Args:
        name: a short name for listings and axis labels.
        components: the names of the quantities.
        weights: prior -> (components, labels), the weights of the [negative, positive] class risks.
        range: between what the quantities lie, for axis labels.
        labels: the names of what is simulated side by side.
    """

    name: str
    components: tuple[str, ...]
    weights: Callable[[float], np.ndarray]
    range: str = "[0, 1]"
    labels: tuple[str, ...] = ("negative", "positive")


CLASS_RISKS = Estimand("class-wise risk", ("negative", "positive"), lambda _: np.eye(2))
RISK = Estimand("risk", ("risk",), lambda prior: np.array([[1 - prior, prior]]))
DISPARITY = Estimand(
    "accuracy disparity", ("disparity",), lambda _: np.array([[-1.0, 1.0]]), "[-1, 1]"
)


class Failure(NamedTuple):
    """Where the published form of a claim is false; there, the opposite is what is tested.

    Args:
        where: the region in words.
        region: keyword parameters -> one boolean per component of the estimand. None: where the
            closed form of what is simulated lies beyond the bound by more than rounding.
    """

    where: str
    region: Callable[..., tuple[jax.Array, ...]] | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """One falsifiable sentence.

    Args:
        name: lower-case words joined by hyphens.
        statement: the sentence.
        source: paper and result.
        axes: the parameters, the first one drawn along the abscissa.
        problem: keyword parameters -> what is simulated, a `Problem` or a `RegressionProblem`.
        predict: keyword parameters -> the closed form of each component, in their order.
        relation: how the simulated quantity relates to the closed form.
        estimand: what the quantities are.
        assumptions: under what the sentence is made.
        fails: where its published form is false, or None.
    """

    name: str
    statement: str
    source: Source
    axes: tuple[Axis, ...]
    problem: Callable[..., Any]
    predict: Callable[..., tuple[jax.Array, ...]]
    relation: Relation
    estimand: Estimand
    assumptions: tuple[str, ...] = ()
    fails: Failure | None = None

    def axis(self, name: str) -> Axis:
        """Returns the axis of that name.

        Raises:
            InvalidInput: for an unknown name, listing the nearest.
        """
        require_known(f"axis of {self.name}", name, [axis.name for axis in self.axes])
        return next(axis for axis in self.axes if axis.name == name)

    def theory(self, points: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the closed form at n points in float64, (n, components).

        Args:
            points: the values of each axis, (n,).
        """
        return _said(self, points).theory

    def failing(self, points: dict[str, np.ndarray]) -> np.ndarray:
        """Returns where the published form is false at n points, booleans (n, components)."""
        if self.fails is None:
            shape = (len(next(iter(points.values()))), len(self.estimand.components))
            return np.zeros(shape, bool)
        if self.fails.region is not None:
            return _said(self, points).failing.astype(bool)
        beyond = self.simulated(points) - self.theory(points)
        return (beyond if self.relation == "<=" else -beyond) > ROUNDING

    def simulated(self, points: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the closed form of what is simulated, whatever the claim says of it.

        Args:
            points: the values of each axis, (n,).

        Returns:
            float64, (n, components).
        """
        problems = self.problems(points)
        with jax.enable_x64(True):
            risks = np.stack(row_by_row(closed_risks, problems), axis=1)
        return np.einsum("nkc,nc->nk", component_weights(problems, self.estimand), risks)

    def problems(self, points: dict[str, np.ndarray]) -> Any:
        """Returns the problems at n points: NumPy fields in float64, (n, ...)."""
        return _said(self, points).problems

    def weights(self, points: dict[str, np.ndarray]) -> np.ndarray:
        """Returns what each risk counts for in each component, (n, components, labels)."""
        return component_weights(self.problems(points), self.estimand)


# A function is compiled once, for blocks of this many points, whatever their number.
BLOCK = 1024
ROUNDING = 1e-12


class _Said(NamedTuple):
    """All that a claim says of some points: arrays (n, ...), read-only because they are shared."""

    theory: Any
    problems: Any
    failing: Any


def _said(claim: Claim, points: dict[str, np.ndarray]) -> _Said:
    """Returns what a claim says at n points in float64.

    Closed form and problem share most of their work, so they are compiled as one function, once;
    each point is computed on its own: what is said of it does not depend on the points around it.
    """
    # In float32 only if all are so given.
    dtype = np.result_type(*points.values(), np.float32)
    columns = {name: np.asarray(values, dtype) for name, values in points.items()}
    return _remembered(claim, dtype, tuple((n, values.tobytes()) for n, values in columns.items()))


@functools.lru_cache(maxsize=256)
def _remembered(claim: Claim, dtype: np.dtype, columns: tuple[tuple[str, bytes], ...]) -> _Said:
    with jax.enable_x64(True):
        said = row_by_row(_sentence(claim), {n: np.frombuffer(v, dtype) for n, v in columns})
    said = said._replace(
        theory=np.stack(said.theory, axis=1),
        failing=np.stack(said.failing, axis=1) if said.failing else None,
    )
    for array in jax.tree.leaves(said):
        array.flags.writeable = False
    return said


@functools.lru_cache(maxsize=256)
def _sentence(claim: Claim) -> Callable[[dict[str, jax.Array]], _Said]:
    region = claim.fails.region if claim.fails else None

    def say(parameters: dict[str, jax.Array]) -> _Said:
        failing = () if region is None else region(**parameters)
        return _Said(claim.predict(**parameters), claim.problem(**parameters), failing)

    return say


def row_by_row(function: Callable[[Any], Any], columns: Any) -> Any:
    """Returns function(row) for each row of columns, pytrees of arrays (n, ...), as NumPy arrays.

    Compiled once for each function and kind of row, whatever n, in as little time as may be; a
    law of one stability index also takes less of it than one of many.
    """
    count = len(jax.tree.leaves(columns)[0])
    results = []
    for start in range(0, count, BLOCK):
        rows = np.minimum(np.arange(start, start + BLOCK), count - 1)
        block = jax.tree.map(lambda a, rows=rows: a[rows], columns)
        computed = _block_of_rows(function, block, min(BLOCK, count - start))
        results.append(jax.tree.map(np.asarray, computed))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


# Rows are few and functions long: what counts is the time to compile.
@functools.partial(
    jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)
def _block_of_rows(function: Callable[[Any], Any], block: Any, count: int) -> Any:
    """Returns the function of the first `count` rows of a block, and zeros for the others."""

    def value(row: int) -> Any:
        return function(jax.tree.map(lambda column: column[row], block))

    def fill(row: int, filled: Any) -> Any:
        return jax.tree.map(lambda old, new: old.at[row].set(new), filled, value(row))

    shapes = jax.eval_shape(value, 0)
    empty = jax.tree.map(lambda s: jnp.zeros((BLOCK, *s.shape), s.dtype), shapes)
    return jax.lax.fori_loop(0, count, fill, empty)


@functools.singledispatch
def closed_risks(problem: Any) -> tuple[jax.Array, ...]:
    """Returns the closed form of the risk of each label of a problem."""
    raise InvalidInput(f"problem = {problem!r}: not of a kind that claims speak of")


@closed_risks.register
def _(problem: Problem) -> tuple[jax.Array, ...]:
    return linear.class_risks(*problem)


@functools.singledispatch
def component_weights(problems: Any, estimand: Estimand) -> np.ndarray:
    """Returns the weights of the risks of n problems in each component, (n, components, labels)."""
    raise InvalidInput(f"problem = {problems!r}: not of a kind that claims speak of")


@component_weights.register
def _(problems: Problem, estimand: Estimand) -> np.ndarray:
    return np.stack([estimand.weights(prior) for prior in problems.mixture.prior])


_REGISTRY: dict[str, Claim] = {}


def register(claim: Claim) -> Claim:
    """Adds a claim to the registry and returns it.

    Raises:
        InvalidInput: if its name is taken, or a default grid leaves its domain.
    """
    if claim.name in _REGISTRY:
        raise InvalidInput(f"claim = {claim.name!r}: the name is taken")
    for axis in claim.axes:
        axis.grid(axis.default)
    _REGISTRY[claim.name] = claim
    return claim


def registered() -> dict[str, Claim]:
    """Returns every claim by name, loading all modules of `theory.claims` first."""
    package = importlib.import_module("theory.claims")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"theory.claims.{module.name}")
    return dict(_REGISTRY)


def find(name: str) -> Claim:
    """Returns the claim of that name.

    Raises:
        InvalidInput: for an unknown name, listing the nearest.
    """
    claims = registered()
    require_known("claim", name, claims, "python -m theory --ledger")
    return claims[name]


def bibtex(key: str) -> str:
    """Returns the entry of references.bib with that key.

    Raises:
        InvalidInput: for an unknown key, listing the nearest.
    """
    text = importlib.resources.files("theory").joinpath("references.bib").read_text("utf-8")
    entries = dict(re.findall(r"(?ms)^(?=@\w+\{([^,\s]+),)(.*?^\})", text))
    require_known("reference", key, entries)
    return entries[key]
