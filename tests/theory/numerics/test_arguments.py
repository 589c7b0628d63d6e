"""Public functions refuse what is no argument of theirs: one table, walked by itself."""

import importlib
import inspect
import pkgutil
import re
import types
import typing

import jax
import numpy as np
import pytest

from theory.domain import InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.problem import L2Ball

# The folders whose functions people call with arrays and nouns of their own.
ROOMS = ("fairness", "multiclass", "regression", "spurious", "weights")
WRONG = (None, "far", {"a": 1}, ["a", "b"], [[1.0], [1.0, 2.0]], 2j, np.array(["a"]), object())


def _functions():
    for room in ROOMS:
        package = importlib.import_module(f"theory.{room}")
        for found in pkgutil.iter_modules(package.__path__, f"theory.{room}."):
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                public = inspect.isroutine(value) or hasattr(value, "__wrapped__")
                own = getattr(value, "__module__", None) == module.__name__
                if public and own and not inspect.isclass(value) and not name.startswith("_"):
                    yield pytest.param(value, id=f"{found.name}.{name}")


def _kinds(annotation):
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _good(kinds):
    """Returns a value that passes for an annotation; what it holds is never looked at."""
    if type(None) in kinds:
        return None
    nouns = [kind for kind in kinds if hasattr(kind, "_fields")]
    return nouns[0]._make([None] * len(nouns[0]._fields)) if nouns else np.float32(1)


def _looked_at(kinds):
    return any(hasattr(kind, "_fields") or kind in (jax.Array, int, float) for kind in kinds)


@pytest.mark.parametrize("function", list(_functions()))
def test_every_argument_is_refused_by_name_before_any_computation(function):
    hints = typing.get_type_hints(inspect.unwrap(function))
    kinds = {name: _kinds(hints[name]) for name in inspect.signature(function).parameters}
    looked_at = [name for name in kinds if _looked_at(kinds[name])]
    for name in looked_at:
        noun = jax.Array not in kinds[name] and hasattr(kinds[name][0], "_fields")
        wrong = [*WRONG, *([1.0, np.ones(2)] if noun else [L2Ball(1.0)])]
        for value in wrong:
            if value is None and type(None) in kinds[name]:
                continue
            good = {n: _good(k) for n, k in kinds.items() if n != name}
            with pytest.raises(InvalidInput) as refused:
                function(**good, **{name: value})
            line = str(refused.value)
            assert re.match(rf"{name}(\.dtype)? = .*: must be ", line), line
            assert "\n" not in line


def test_the_walk_finds_the_functions():
    assert len(list(_functions())) > 80


def test_good_arguments_pass_as_they_are_under_every_transform():
    @checked_arguments
    def twice(x: jax.Array, ball: L2Ball | None = None, power: float = 1.0) -> jax.Array:
        return x * 2 * power

    row = np.arange(3.0)
    assert jax.grad(twice)(1.5) == 2
    assert jax.jit(jax.vmap(twice))(row).tolist() == [0, 2, 4]
    assert twice([1, 2], None, power=2).tolist() == [4, 8]
    assert twice(row) is not row
    with pytest.raises(TypeError, match="positional"):
        twice(1.0, None, 1.0, 2.0)
    with pytest.raises(TypeError, match="unexpected"):
        twice(1.0, exponent=2.0)
