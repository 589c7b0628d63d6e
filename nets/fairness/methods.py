"""Fairness methods by name."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nets.fairness.balance import class_balanced, effective_number, ldam, logit_adjusted
from nets.fairness.cfa import cfa
from nets.fairness.dafa import dafa
from nets.fairness.faal import faal
from nets.fairness.frl import frl
from nets.fairness.method import FairnessMethod
from nets.fairness.wat import wat
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
        InvalidInput: for an unknown name or option, with the nearest known ones, and as the
            method's own function says.

    >>> build("dafa", warm_up=3).due(3)
    True
    """
    require_known("method", name, METHODS)
    known = list(inspect.signature(METHODS[name]).parameters)
    for option in options:
        require_known(f"option of {name}", option, known)
    return METHODS[name](**options)
