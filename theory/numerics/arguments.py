"""Arguments of public functions, checked against their annotations before anything is computed.

What a person passes by mistake, such as None, a word or a ball where a mixture is asked, would else
come back from deep inside JAX in words about tracers.
"""

import functools
import inspect
import numbers
import reprlib
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from theory.domain import InvalidInput
from theory.numerics.noun import require_array, require_kind

__all__ = ["checked_arguments"]

FunctionType = TypeVar("FunctionType", bound=Callable[..., Any])


class _Allowed(NamedTuple):
    """What an annotation allows.

    Args:
        nouns: classes of NamedTuples.
        array: an array of real numbers, beside the nouns if there are any.
        convert: the function takes arrays alone, so that lists become arrays.
        number: a Python number.
        none: None.
    """

    nouns: tuple[type, ...]
    array: bool
    convert: bool
    number: bool
    none: bool


def _allowed(annotation: Any) -> _Allowed | None:
    """Returns what an annotation allows, or None where it is of no kind that is looked at."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if union else (annotation,)
    some = [kind for kind in kinds if kind is not type(None)]
    nouns = tuple(kind for kind in some if hasattr(kind, "_fields"))
    array, number = jax.Array in some, bool(some) and set(some) <= {int, float}
    if not (nouns or array or number):
        return None
    return _Allowed(nouns, array, array and np.ndarray not in some, number, type(None) in kinds)


def _checked(name: str, value: Any, allowed: _Allowed) -> Any:
    """Returns what the function is given in place of a value: the value itself if it can be."""
    if value is None and allowed.none:
        return value
    if isinstance(value, allowed.nouns):
        return value
    if allowed.nouns and not allowed.array:
        require_kind(name, value, *allowed.nouns)
    if hasattr(value, "dtype"):
        _require_real(name, value)
        return value
    if isinstance(value, numbers.Real):
        return value
    if allowed.number:
        raise InvalidInput(f"{name} = {reprlib.repr(value)}: must be a number")
    array = require_array(name, value)
    return array if allowed.convert else value


def _require_real(name: str, value: Any) -> None:
    """Raises InvalidInput unless an array, (...), is of real numbers, truth values or a key."""
    # Keys of JAX have a type of their own, and only an argument of that name takes them.
    kinds = (jnp.floating, jnp.integer, bool, *((jax.dtypes.prng_key,) if name == "key" else ()))
    if not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
        raise InvalidInput(f"{name}.dtype = {value.dtype}: must be an array of real numbers")


def checked_arguments(function: FunctionType) -> FunctionType:
    """Returns the function with its arguments checked against its annotations.

    Looked at are arrays, `ArrayLike`, Python numbers and NamedTuples, alone or in a union with
    None; all other annotations are the function's own business. Good values reach the function as
    they are, tracers too; lists become arrays, of the default float, where it takes arrays alone.

    Args:
        function: annotated; may be jitted.

    Returns:
        A function that raises InvalidInput with the name, the value and what is allowed.

    >>> @checked_arguments
    ... def double(x: jax.Array) -> jax.Array:
    ...     return 2 * x
    >>> double([1, 2]).tolist()
    [2.0, 4.0]
    >>> double("far")
    Traceback (most recent call last):
    theory.domain.InvalidInput: x = 'far': must be an array of real numbers
    """
    parameters = inspect.signature(function).parameters

    @functools.cache
    def known() -> dict[str, _Allowed]:
        # At the first call: an annotation may name what its module defines further down.
        hints = typing.get_type_hints(inspect.unwrap(function))
        found = {name: _allowed(hints.get(name)) for name in parameters}
        return {name: allowed for name, allowed in found.items() if allowed is not None}

    def checked(name: str, value: Any) -> Any:
        allowed = known().get(name)
        return value if allowed is None else _checked(name, value, allowed)

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        # Too many arguments are reported by the function itself, in Python's own words.
        first = [checked(name, value) for name, value in zip(parameters, args, strict=False)]
        rest = {name: checked(name, value) for name, value in named.items()}
        return function(*first, *args[len(first) :], **rest)

    return cast(FunctionType, call)
