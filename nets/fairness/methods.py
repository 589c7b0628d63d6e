"""Fairness methods by name."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from nets.fairness.balance import class_balanced, effective_number, ldam, logit_adjusted
from nets.fairness.cfa import cfa
from nets.fairness.dafa import dafa
from nets.fairness.faal import faal
from nets.fairness.frl import frl
from nets.fairness.method import FairnessMethod
from nets.fairness.wat import wat
from sims.files.records import typed
from theory.domain import require_known


def none() -> FairnessMethod:
    """Returns the method that treats all classes alike."""
    return FairnessMethod("none", nothing, every_class=False)


def nothing(counts: jax.Array, dtype: Any = jnp.float32) -> tuple[()]:
    """Returns the empty state, whatever the counts, (K,)."""
    del counts, dtype
    return ()


METHODS: dict[str, Callable[..., FairnessMethod]] = {
    "none": none,
    "dafa": dafa,
    "frl": frl,
    "cfa": cfa,
    "wat": wat,
    "faal": faal,
    "class-balanced": class_balanced,
    "effective-number": effective_number,
    "logit-adjusted": logit_adjusted,
    "ldam": ldam,
}


def build(name: str, /, **options: Any) -> FairnessMethod:
    """Returns the fairness method of that name, with the options of its function.

    Raises:
        InvalidInput: for an unknown name or option, with the nearest known ones, for a value of
            another type, and as the method's own function says.

    >>> build("dafa", warm_up=3).due(3)
    True
    """
    typed(name, str, "fairness", "method")
    require_known("method", name, METHODS)
    types = get_type_hints(METHODS[name])
    for option, value in options.items():
        require_known(f"option of {name}", option, inspect.signature(METHODS[name]).parameters)
        # A choice out of a few is a text here; the method's own function names the nearest.
        kind = str if get_origin(types[option]) is Literal else types[option]
        typed(value.item() if isinstance(value, np.generic) else value, kind, name, option)
    return METHODS[name](**options)
