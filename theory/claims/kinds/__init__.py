"""The closed form of what each kind of problem simulates, whatever a claim says of it.

`multiclass` serves argmax rules between several classes and `regression` squared risks; two classes
need no more than `theory.rules.risk`. A new kind of problem registers its closed form here.
"""

import functools
from typing import Any

import jax

from theory.claims.claim import Problem
from theory.claims.kinds import multiclass, regression
from theory.domain import InvalidInput
from theory.rules import risk as linear

__all__ = ["closed_risks"]


@functools.singledispatch
def closed_risks(problem: Any) -> tuple[jax.Array, ...]:
    """Returns the closed form of the risk of each label of a problem, () each.

    Raises:
        InvalidInput: for a problem of a kind that claims do not speak of.
    """
    raise InvalidInput(f"problem = {problem!r}: not of a kind that claims speak of")


@closed_risks.register
def _(problem: Problem) -> tuple[jax.Array, ...]:
    """Returns the risks of the negative and the positive class, () each."""
    return linear.class_risks(*problem)


# Here and not beside the types: `theory.claims.claim` must load without any formula.
closed_risks.register(multiclass.class_errors)
closed_risks.register(multiclass.reached_targets)
closed_risks.register(regression.squared_risks_of_arms)
