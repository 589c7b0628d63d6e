"""NamedTuples of arrays that check what people pass and are JAX pytrees."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from theory.domain import Interval, InvalidInput, require_inside

NounType = TypeVar("NounType", bound=type)


def _as_floating(fields: dict[str, Any], static: tuple[str, ...]) -> dict[str, Any]:
    """Returns the fields as arrays of one floating dtype: that of the arrays among them.

    A field that is a noun itself stays as it is.
    """
    nested = {k for k, v in fields.items() if hasattr(v, "_fields")}
    arrays = {k: v for k, v in fields.items() if k not in {*static, *nested} and v is not None}
    given = [v for v in jax.tree.leaves(fields) if hasattr(v, "dtype")]
    floating = [v for v in given if jnp.issubdtype(v.dtype, jnp.floating)]
    dtype = jnp.result_type(*floating) if floating else jnp.result_type(float)
    return fields | {name: _as_array(name, v, dtype) for name, v in arrays.items()}


def _as_array(name: str, value: Any, dtype: Any) -> jax.Array:
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
    """

    def decorate(cls: NounType) -> NounType:
        unchecked = cls.__new__
        fields = [name for name in cls._fields if name not in static]  # type: ignore[attr-defined]

        @functools.wraps(unchecked)
        def new(kind: Any, *args: Any, **kwargs: Any) -> Any:
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
    """Checks the values of a field, where it has values: a traced field passes."""
    if not isinstance(value, jax.core.Tracer):
        require_inside(name, np.asarray(value), domain, meaning)


def require_shape(name: str, value: jax.Array, good: bool, allowed: str) -> None:
    """Raises InvalidInput with the shape of a field and what is `allowed`, unless it is `good`."""
    if not good:
        raise InvalidInput(f"{name}.shape = {jnp.shape(value)}: must be {allowed}")
