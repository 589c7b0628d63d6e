"""Elementwise functions of x and a parameter whose set-up per parameter value is expensive.

`elementwise` gives such a function derivatives of any order in either mode, evaluates many
parameters block by block, and turns a vmap over the parameter into just that.
"""

from collections.abc import Callable
from typing import Any

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
    """Returns f, differentiable and batched; arguments are 0-d or of equal rank.

    Args:
        f: function of x and parameter, evaluated on broadcasting arrays, (...).
        slope: derivative in x, to replace the one by forward differentiation of f.
        parameter_slope: derivative in the parameter, likewise.

    Derivatives are elementwise functions again, each computed only where it is asked for; reverse
    mode stores two arrays and not every step of f. f must be differentiable in forward mode, as
    often as derivatives are taken, unless both slopes are given.
    """
    function = jax.custom_jvp(batched(f))

    def rule(
        primals: tuple[Array, Array], tangents: tuple[Array | SymbolicZero, ...]
    ) -> tuple[Array, Array]:
        value = function(*primals)
        change = jnp.zeros_like(value)
        for argument, tangent in enumerate(tangents):
            if not isinstance(tangent, SymbolicZero):
                # A derivative that nobody asked for is not even traced; one that is asked for is
                # made here, when it is, or derivatives of derivatives would never end.
                given = (slope, parameter_slope)[argument]
                change += (given or elementwise(partial(f, argument)))(*primals) * tangent
        return value, change

    function.defjvp(rule, symbolic_zeros=True)
    return function


def partial(f: Function, argument: int) -> Function:
    """Returns the derivative of an elementwise f in x (0) or the parameter (1)."""

    def derivative(x: Array, parameter: Array) -> Array:
        # Of an elementwise function a tangent of ones gives every element's own derivative.
        change: Array
        if argument == 0:
            _, change = jax.jvp(lambda x: f(x, parameter), (x,), (jnp.ones_like(x),))
        else:
            ones = jnp.ones_like(parameter)
            _, change = jax.jvp(lambda parameter: f(x, parameter), (parameter,), (ones,))
        return change

    return derivative


def batched(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns f by blocks, with a vmap over it treated as one more axis of its arguments.

    A plain vmap would batch f's every step: its set-up of one parameter would run once for each
    element, and a `cond` in it turn into a choice that computes both branches.

    Args:
        f: elementwise function of arrays, 0-d or of equal rank, the parameter the last of them;
            it returns one array or a tuple of them.
    """

    @custom_vmap
    def by_platform(*arguments: Array) -> Any:
        if arguments[-1].size <= _BLOCK_CPU:  # one block anywhere, so it is traced once
            return f(*arguments)
        return lax.platform_dependent(
            *arguments, cpu=_by_blocks(f, _BLOCK_CPU), default=_by_blocks(f, _BLOCK)
        )

    @by_platform.def_vmap
    def rule(axis_size: int, in_batched: list[bool], *arguments: Array) -> tuple[Any, Any]:
        del axis_size
        # 0-d where nothing is mapped: a parameter shared by the whole batch is set up once.
        rank = max(a.ndim - on_axis for a, on_axis in zip(arguments, in_batched, strict=True))
        lifted = (_lift(a, on, rank) for a, on in zip(arguments, in_batched, strict=True))
        values = by_platform(*lifted)
        return values, jax.tree.map(lambda _: True, values)

    return by_platform


def _lift(a: Array, on_axis: bool, rank: int) -> Array:
    """Returns a with the batch axis first, over `rank` more, or 0-d if it has neither."""
    if on_axis:
        return a.reshape(a.shape[:1] + (1,) * (rank + 1 - a.ndim) + a.shape[1:])
    return a[None] if a.ndim else a


def _by_blocks(f: Callable[..., Any], block: int) -> Callable[..., Any]:
    """Returns f evaluated on `block` elements at a time where there are more parameters."""

    def by_blocks(*arguments: Array) -> Any:
        if arguments[-1].size <= block:
            return f(*arguments)
        arguments = tuple(jnp.broadcast_arrays(*arguments))
        size, shape = arguments[-1].size, arguments[-1].shape
        # The last block is filled up with copies of the last element, which raise no nan.
        count = -(-size // block)
        padding = (0, count * block - size)
        rows = [jnp.pad(a.ravel(), padding, "edge").reshape(count, -1) for a in arguments]
        values = lax.map(lambda row: f(*row), rows)
        return jax.tree.map(lambda a: a.ravel()[:size].reshape(shape), values)

    return by_blocks
