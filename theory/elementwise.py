"""Elementwise functions of x and a parameter whose set-up per parameter value is expensive.

`elementwise` gives such a function derivatives of any order in either mode, evaluates many
parameters block by block, and turns a vmap over the parameter into just that.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

Function = Callable[[Array, Array], Array]

_BLOCK_CPU = 512  # parameters set up at once: their coefficients fit the cache of a core
_BLOCK = 1 << 16


def elementwise(
    f: Function, slope: Function | None = None, parameter_slope: Function | None = None
) -> Function:
    """Return f, differentiable and batched; arguments are 0-d or of equal rank.

    Args:
        f: Function of x and parameter, evaluated on broadcasting arrays.
        slope: Derivative in x, to replace the one by forward differentiation of f.
        parameter_slope: Derivative in the parameter, likewise.

    Derivatives are elementwise functions again, each computed only where it is asked for; reverse
    mode stores two arrays and not every step of f. f must be differentiable in forward mode, as
    often as derivatives are taken, unless both slopes are given.
    """
    function = jax.custom_jvp(_batched(f))

    def rule(primals: tuple[Array, Array], tangents: tuple) -> tuple[Array, Array]:
        value = function(*primals)
        change = jnp.zeros_like(value)
        for argument, tangent in enumerate(tangents):
            if not isinstance(tangent, SymbolicZero):
                given = (slope, parameter_slope)[argument]
                change += (given or elementwise(partial(f, argument)))(*primals) * tangent
        return value, change

    function.defjvp(rule, symbolic_zeros=True)
    return function


def partial(f: Function, argument: int) -> Function:
    """Return the derivative of an elementwise f in x (0) or the parameter (1)."""

    def derivative(x: Array, parameter: Array) -> Array:
        if argument == 0:
            return jax.jvp(lambda x: f(x, parameter), (x,), (jnp.ones_like(x),))[1]
        ones = jnp.ones_like(parameter)
        return jax.jvp(lambda parameter: f(x, parameter), (parameter,), (ones,))[1]

    return derivative


def _batched(f: Function) -> Function:
    """Return f by blocks, with a vmap over it treated as one more axis of its arguments."""

    @custom_vmap
    def batched(x: Array, parameter: Array) -> Array:
        return lax.platform_dependent(
            x, parameter, cpu=_by_blocks(f, _BLOCK_CPU), default=_by_blocks(f, _BLOCK)
        )

    @batched.def_vmap
    def rule(
        axis_size: int, in_batched: list[bool], x: Array, parameter: Array
    ) -> tuple[Array, bool]:
        del axis_size
        arguments = list(zip((x, parameter), in_batched, strict=True))
        rank = max(a.ndim - on_axis for a, on_axis in arguments)
        return batched(*(_lift(a, on_axis, rank) for a, on_axis in arguments)), True

    return batched


def _lift(a: Array, on_axis: bool, rank: int) -> Array:
    """Return a with the batch axis first, over `rank` more, or 0-d if it has neither."""
    if on_axis:
        return a.reshape(a.shape[:1] + (1,) * (rank + 1 - a.ndim) + a.shape[1:])
    return a[None] if a.ndim else a


def _by_blocks(f: Function, block: int) -> Function:
    """Return f evaluated on `block` elements at a time where there are more parameters."""

    def by_blocks(x: Array, parameter: Array) -> Array:
        if parameter.size <= block:
            return f(x, parameter)
        x, parameter = jnp.broadcast_arrays(x, parameter)
        count = -(-x.size // block)
        padding = (0, count * block - x.size)
        rows = [jnp.pad(a.ravel(), padding, "edge").reshape(count, -1) for a in (x, parameter)]
        values = lax.map(lambda row: f(*row), rows)
        return values.ravel()[: x.size].reshape(x.shape)

    return by_blocks
