"""NamedTuples of arrays that check what people pass and are JAX pytrees.

A noun is a class decorated with `checked_namedtuple`. JAX alone would treat it as a NamedTuple and
rebuild it through its constructor, with tracers, `None` or plain objects in place of arrays; a
constructor that checks would then refuse what no person wrote.
"""

import functools
import inspect
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from theory.domain import REAL, Interval, InvalidInput, require_inside

NounType = TypeVar("NounType", bound=type)
FunctionType = TypeVar("FunctionType", bound=Callable[..., Any])


def _as_floating(fields: dict[str, Any], static: tuple[str, ...]) -> dict[str, Any]:
    """Returns the fields as arrays of one floating dtype: that of the arrays among them.

    A field that is a noun itself stays as it is, but has its say on the dtype. Python numbers and
    lists have none; integers alone give the default float.
    """
    nested = {k for k, v in fields.items() if hasattr(v, "_fields")}
    arrays = {k: v for k, v in fields.items() if k not in {*static, *nested} and v is not None}
    given = [v for v in jax.tree.leaves(fields) if hasattr(v, "dtype")]
    floating = [v for v in given if jnp.issubdtype(v.dtype, jnp.floating)]
    dtype = jnp.result_type(*floating) if floating else jnp.result_type(float)
    return fields | {name: _as_array(name, v, dtype) for name, v in arrays.items()}


def _as_array(name: str, value: Any, dtype: Any) -> jax.Array:
    # JAX would drop the imaginary part without a word.
    given = getattr(value, "dtype", None)
    if given is not None and jnp.issubdtype(given, jnp.complexfloating):
        raise InvalidInput(f"{name}.dtype = {given}: must be an array of real numbers")
    try:
        return jnp.asarray(value if hasattr(value, "dtype") else np.asarray(value, dtype), dtype)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} = {value!r}: must be an array of real numbers") from error


def checked_namedtuple(
    check: Callable[[Any], None], static: tuple[str, ...] = ()
) -> Callable[[NounType], NounType]:
    """Returns a class decorator: the constructor converts and checks, pytree rebuilding does not.

    Registering the class explicitly takes precedence over JAX's treatment of NamedTuples, which
    would call the checking constructor with whatever stands in for an array during a transform.
    `_make` and `_replace` check nothing either: functions use them for results that may hold nan.

    Args:
        check: called with a new noun, its fields converted; raises InvalidInput, and must leave
            the values of tracers alone (`require_values` does).
        static: names of the fields that are Python values, not arrays: they are not converted, and
            belong to the structure of the pytree, so that each value compiles anew.

    Returns:
        A decorator of subclasses of NamedTuple, which it changes in place. Constructing one raises
        what `check` raises, and InvalidInput for a field that is not an array of real numbers.

    >>> import typing
    >>> def check(interval):
    ...     require_shape("ends", interval.ends, interval.ends.shape == (2,), "(2,)")
    >>> @checked_namedtuple(check, static=("name",))
    ... class Ends(typing.NamedTuple):
    ...     ends: jax.Array
    ...     name: str
    >>> Ends([0, 1], "unit").ends.tolist(), jax.tree.leaves(Ends([0, 1], "unit"))[0].shape
    ([0.0, 1.0], (2,))
    >>> Ends([0, 1, 2], "unit")
    Traceback (most recent call last):
    theory.domain.InvalidInput: ends.shape = (3,): must be (2,)
    """

    def decorate(cls: NounType) -> NounType:
        # mypy knows `cls` as a type and not as a NamedTuple: hence the three exceptions below.
        unchecked = cls.__new__
        fields = [name for name in cls._fields if name not in static]  # type: ignore[attr-defined]

        @functools.wraps(unchecked)
        def new(kind: Any, *args: Any, **kwargs: Any) -> Any:
            # The original constructor reports missing and unknown fields, in Python's own words.
            raw = unchecked(kind, *args, **kwargs)
            noun = raw._make(_as_floating(raw._asdict(), static).values())
            check(noun)
            return noun

        def flatten(noun: Any) -> tuple[list[Any], tuple[Any, ...]]:
            return [getattr(noun, f) for f in fields], tuple(getattr(noun, s) for s in static)

        def flatten_with_keys(noun: Any) -> tuple[list[Any], tuple[Any, ...]]:
            children, aux = flatten(noun)
            return list(zip(map(jax.tree_util.GetAttrKey, fields), children, strict=True)), aux

        def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
            values = dict(zip(fields, children, strict=True)) | dict(zip(static, aux, strict=True))
            return cls._make(values[f] for f in cls._fields)  # type: ignore[attr-defined]

        cls.__new__ = new  # type: ignore[assignment]
        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return decorate


def require_values(name: str, value: jax.Array, domain: Interval, meaning: str) -> None:
    """Checks the values of a field, where it has values: a traced field passes.

    Args:
        name: of the field.
        value: its array, (...).
        domain: where every element must lie.
        meaning: what an element is, for the message.

    Raises:
        InvalidInput: with the name, the first offending value, the domain and the meaning.
    """
    if not isinstance(value, jax.core.Tracer):
        require_inside(name, np.asarray(value), domain, meaning)


def require_shape(name: str, value: jax.Array, good: bool, allowed: str) -> None:
    """Raises InvalidInput with the shape of a field and what is `allowed`, unless it is `good`.

    Args:
        name: of the field.
        value: its array, (...); only the shape is read, so it may be traced.
        good: whether the shape is right.
        allowed: the right shape, in words.
    """
    if not good:
        raise InvalidInput(f"{name}.shape = {jnp.shape(value)}: must be {allowed}")


def require_positive_definite(name: str, matrix: jax.Array | None, dim: int) -> None:
    """Checks a matrix, (d, d), a batch of them, (..., d, d), or none: None.

    Args:
        name: of the field.
        matrix: symmetric positive definite, (..., d, d); of a traced one only the shape is checked.
        dim: d, as the means have it.

    Raises:
        InvalidInput: with the name and what is allowed.
    """
    if matrix is None:
        return
    good = matrix.shape[-2:] == (dim, dim)
    require_shape(name, matrix, good, f"(..., d, d) with d = {dim}, as means say")
    require_values(name, matrix, REAL, "every entry (finite)")
    if not isinstance(matrix, jax.core.Tracer):
        # In NumPy and double precision: a check must not trace, and must not add rounding.
        values = np.asarray(matrix, float)
        _require_symmetric(name, values, 8 * _epsilon(matrix) * np.abs(values).max(initial=0))
        smallest = np.linalg.eigvalsh(values).min(initial=np.inf)
        if not smallest > 0:
            raise InvalidInput(
                f"{name}: must be positive definite, its smallest eigenvalue is {smallest:.3g}"
            )


def require_semidefinite(name: str, matrix: jax.Array) -> None:
    """Checks that a matrix, (..., d, d), is symmetric positive semidefinite; a traced one passes.

    Raises:
        InvalidInput: with the name and what is allowed.
    """
    if isinstance(matrix, jax.core.Tracer):
        return
    values = np.asarray(matrix, float)
    # Singular is allowed, so an eigenvalue of zero may come out as minus d roundings.
    rounding = 8 * values.shape[-1] * _epsilon(matrix) * np.abs(values).max(initial=0)
    _require_symmetric(name, values, rounding)
    smallest = np.linalg.eigvalsh(values).min(initial=np.inf)
    if smallest < -rounding:
        raise InvalidInput(
            f"{name}: must be positive semidefinite, its smallest eigenvalue is {smallest:.3g}"
        )


def _require_symmetric(name: str, values: np.ndarray, rounding: float) -> None:
    asymmetry = np.abs(values - np.swapaxes(values, -1, -2)).max(initial=0)
    if asymmetry > rounding:
        raise InvalidInput(f"{name}: must be symmetric, is off by {asymmetry:.3g}")


def _epsilon(array: jax.Array) -> float:
    # Of the dtype that was given: it decides what counts as rounding, not the double it becomes.
    return float(jnp.finfo(array.dtype).eps)


def require_precision(name: str, value: jax.Array) -> None:
    """Raises InvalidInput for a field, (...), of half precision: no closed form holds there."""
    if jnp.finfo(value.dtype).bits < 32:
        raise InvalidInput(f"{name}.dtype = {value.dtype}: must be float32 or float64")


def require_kind(name: str, value: Any, *kinds: type) -> None:
    """Checks the type of an argument that is a noun.

    Args:
        name: of the argument.
        value: what was given.
        kinds: the types that are allowed.

    Raises:
        InvalidInput: with the name, the value and the names of the types.
    """
    if not isinstance(value, kinds):
        *others, last = names = [kind.__name__ for kind in kinds]
        allowed = f"{', '.join(others)} or {last}" if others else last
        # L1Ball is read as "el one ball".
        article = "an" if names[0][0] in "AEIOU" or names[0][1:2].isdigit() else "a"
        raise InvalidInput(
            f"{name} = {reprlib.repr(value)}: must be {article} {allowed}, "
            f"is a {type(value).__name__}"
        )


def require_array(name: str, value: Any) -> jax.Array:
    """Returns an argument as an array; lists and Python numbers become the default float.

    Args:
        name: of the argument.
        value: real numbers or truth values, (...); an array keeps its type.

    Raises:
        InvalidInput: with the name and the value, for anything else.
    """
    refused = f"{name} = {reprlib.repr(value)}: must be an array of real numbers"
    if hasattr(value, "dtype"):
        if not any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer, bool)):
            raise InvalidInput(f"{name}.dtype = {value.dtype}: must be an array of real numbers")
        return jnp.asarray(value)
    # A noun of one number would pass for a list of one.
    if value is None or isinstance(value, str | bytes | complex) or hasattr(value, "_fields"):
        raise InvalidInput(refused)
    try:
        return jnp.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(refused) from error


def of_arrays(*names: str) -> Callable[[FunctionType], FunctionType]:
    """Returns a decorator: these arguments of a function may be lists, and must be real numbers.

    Arrays, tracers and Python numbers reach the function as they are. An argument whose default is
    None may be None.

    Args:
        names: of arguments.

    >>> @of_arrays("x")
    ... def double(x):
    ...     return 2 * x
    >>> double([1, 2]).tolist()
    [2.0, 4.0]
    >>> double("far")
    Traceback (most recent call last):
    theory.domain.InvalidInput: x = 'far': must be an array of real numbers
    """

    def decorate(function: FunctionType) -> FunctionType:
        parameters = inspect.signature(function).parameters

        def checked(name: str, value: Any) -> Any:
            if name not in names or (value is None and parameters[name].default is None):
                return value
            if isinstance(value, int | float):
                return value
            array = require_array(name, value)
            # As it was given: what NumPy computes of its own arrays must not change.
            return value if hasattr(value, "dtype") else array

        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            # Too many arguments are reported by the function itself, in Python's own words.
            known = [checked(name, value) for name, value in zip(parameters, args, strict=False)]
            rest = {n: checked(n, v) if n in parameters else v for n, v in named.items()}
            return function(*known, *args[len(known) :], **rest)

        return cast(FunctionType, call)

    return decorate
