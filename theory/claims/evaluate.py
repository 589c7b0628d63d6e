"""What a claim says at points of its grid: closed form, problems, and where it is known to fail.

No formula is imported here: those of a claim are its own functions, and the closed form of what is
simulated, which `simulated` needs, is loaded when it is first asked for.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory.claims.claim import (
    Claim,
    Estimand,
    MulticlassProblem,
    Problem,
    RegressionProblem,
    TargetedProblem,
)
from theory.domain import InvalidInput

__all__ = [
    "closed_form",
    "component_weights",
    "failing",
    "problems",
    "row_by_row",
    "simulated",
    "weights",
]

# A function is compiled once, for blocks of this many points, whatever their number.
BLOCK = 1024
# By how much a closed form may lie beyond a bound and still be meant to be on it.
ROUNDING = 1e-12

# The values of each axis at n points, (n,).
AxisValues = dict[str, np.ndarray]


def closed_form(claim: Claim, points: AxisValues) -> np.ndarray:
    """Returns the closed form of a claim at n points in float64, (n, components).

    Args:
        claim: which.
        points: the values of each axis, (n,).
    """
    values: np.ndarray = _evaluate(claim, points).theory
    return values


def failing(claim: Claim, points: AxisValues) -> np.ndarray:
    """Returns where the published form is false at n points, booleans (n, components)."""
    if claim.fails is None:
        shape = (len(next(iter(points.values()))), len(claim.estimand.components))
        return np.zeros(shape, bool)
    if claim.fails.region is not None:
        given: np.ndarray = _evaluate(claim, points).failing.astype(bool)
        return given
    beyond = simulated(claim, points) - closed_form(claim, points)
    fails: np.ndarray = (beyond if claim.relation == "<=" else -beyond) > ROUNDING
    return fails


def simulated(claim: Claim, points: AxisValues) -> np.ndarray:
    """Returns the closed form of what is simulated, whatever the claim says of it.

    Args:
        claim: which.
        points: the values of each axis, (n,).

    Returns:
        float64, (n, components).
    """
    # Not at the top: simulators load this module and must not know a formula.
    from theory.claims.kinds import closed_risks

    at = problems(claim, points)
    with jax.enable_x64(True):
        risks = np.stack(row_by_row(closed_risks, at), axis=1)
    combined: np.ndarray = np.einsum("nkc,nc->nk", component_weights(at, claim.estimand), risks)
    return combined


def problems(claim: Claim, points: AxisValues) -> Any:
    """Returns the problems of a claim at n points: NumPy fields in float64, (n, ...)."""
    return _evaluate(claim, points).problems


def weights(claim: Claim, points: AxisValues) -> np.ndarray:
    """Returns what each risk counts for in each component, (n, components, labels)."""
    return component_weights(problems(claim, points), claim.estimand)


class _Evaluated(NamedTuple):
    """All that a claim says of some points: arrays (n, ...), read-only because they are shared."""

    theory: Any
    problems: Any
    failing: Any


def _evaluate(claim: Claim, points: AxisValues) -> _Evaluated:
    """Returns what a claim says at n points in float64.

    Closed form and problem share most of their work, so they are compiled as one function, once;
    each point is computed on its own: what is said of it does not depend on the points around it.
    """
    # In float32 only if all are so given.
    dtype = np.result_type(*points.values(), np.float32)
    columns = {name: np.asarray(values, dtype) for name, values in points.items()}
    # Theory, problems and region are asked for one by one: bytes can be keys of a cache.
    return _evaluate_cached(claim, dtype, tuple((n, v.tobytes()) for n, v in columns.items()))


@functools.lru_cache(maxsize=256)
def _evaluate_cached(
    claim: Claim, dtype: np.dtype, columns: tuple[tuple[str, bytes], ...]
) -> _Evaluated:
    with jax.enable_x64(True):
        rows: _Evaluated = row_by_row(
            _evaluator(claim), {n: np.frombuffer(v, dtype) for n, v in columns}
        )
    evaluated = rows._replace(
        theory=np.stack(rows.theory, axis=1),
        failing=np.stack(rows.failing, axis=1) if rows.failing else None,
    )
    for array in jax.tree.leaves(evaluated):
        array.flags.writeable = False
    return evaluated


@functools.lru_cache(maxsize=256)
def _evaluator(claim: Claim) -> Callable[[dict[str, jax.Array]], _Evaluated]:
    """Returns the one function that is compiled for a claim: cached, as compilations go by it."""
    region = claim.fails.region if claim.fails else None

    def evaluate(parameters: dict[str, jax.Array]) -> _Evaluated:
        fails = () if region is None else region(**parameters)
        theory = claim.predict(**parameters)
        for what, values in (("predict", theory), *((("fails.region", fails),) if region else ())):
            _require_components(claim, what, values)
        return _Evaluated(theory, claim.problem(**parameters), fails)

    return evaluate


def _require_components(claim: Claim, what: str, values: Any) -> None:
    """Raises InvalidInput unless a claim's function gives a number for each component."""
    # At the first evaluation, which is before any draw; by shapes alone, as it is traced.
    names = claim.estimand.components
    shapes = [jnp.shape(value) for value in values] if isinstance(values, tuple | list) else None
    if shapes != [()] * len(names):
        got = "no tuple" if shapes is None else f"shapes {shapes}"
        raise InvalidInput(
            f"claim = {claim.name!r}: {what} gives {got}; must be a tuple of a number, (), for "
            f"each component: {', '.join(names)}"
        )


def row_by_row(function: Callable[[Any], Any], columns: Any) -> Any:
    """Returns function(row) for each row of columns, pytrees of arrays (n, ...), as NumPy arrays.

    Compiled once for each function and kind of row, whatever n, in as little time as may be; a
    law of one stability index also takes less of it than one of many.
    """
    count = len(jax.tree.leaves(columns)[0])
    # Blocks have one shape, filled up with the last row: their number never asks for a compilation.
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
    """Returns the function of the first `count` rows of a block, and zeros for the others.

    A loop over rows, not a vmap: every branch is then taken for its own row alone, and batched
    factorisations are avoided. `count` is traced, so that a short block costs what it holds.
    """

    def value(row: int) -> Any:
        return function(jax.tree.map(lambda column: column[row], block))

    def fill(row: int, filled: Any) -> Any:
        return jax.tree.map(lambda old, new: old.at[row].set(new), filled, value(row))

    shapes = jax.eval_shape(value, 0)
    empty = jax.tree.map(lambda s: jnp.zeros((BLOCK, *s.shape), s.dtype), shapes)
    return jax.lax.fori_loop(0, count, fill, empty)


@functools.singledispatch
def component_weights(problems: Any, estimand: Estimand) -> np.ndarray:
    """Returns the weights of the risks of n problems in each component, (n, components, labels).

    Args:
        problems: their fields (n, ...).
        estimand: what is combined; its weights see the prior where there is one, else nan.

    Raises:
        InvalidInput: for problems of a kind that claims do not speak of.
    """
    raise InvalidInput(f"problem = {problems!r}: not of a kind that claims speak of")


@component_weights.register
def _(problems: Problem, estimand: Estimand) -> np.ndarray:
    return np.stack([estimand.weights(prior) for prior in problems.mixture.prior])


@component_weights.register(MulticlassProblem)
@component_weights.register(TargetedProblem)
def _(problems: MulticlassProblem | TargetedProblem, estimand: Estimand) -> np.ndarray:
    return _without_prior(estimand, len(problems.classes.means))


@component_weights.register
def _(problems: RegressionProblem, estimand: Estimand) -> np.ndarray:
    return _without_prior(estimand, len(problems.weight))


def _without_prior(estimand: Estimand, count: int) -> np.ndarray:
    # An estimand that needs a prior shows as nan and cannot pass for a number.
    weights = estimand.weights(np.nan)
    return np.broadcast_to(weights, (count, *weights.shape))
