"""Where a parameter may lie, and the one error that says so.

NumPy alone: a lock, a file reader or a command's parser raises these errors without loading JAX.
"""

import difflib
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class InvalidInput(ValueError):
    """Bad input: one line that names the argument, its value and what is allowed."""


class Interval(NamedTuple):
    """A real interval; each end may be open.

    >>> Interval.parse("(0, 2]")
    Interval(low=0.0, high=2.0, open_low=True, open_high=False)
    >>> str(Interval.parse("(0, 2]"))
    '(0, 2]'
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Returns the interval written in the usual way, such as `(0, 2]` or `[0, inf)`.

        Raises:
            InvalidInput: if `text` is not an interval, or is an empty one.
        """
        match = re.fullmatch(r"\s*([\[(])\s*([^,\s]+)\s*,\s*([^,\s]+)\s*([\])])\s*", text)
        if match is None:
            raise InvalidInput(f"interval = {text!r}: must look like '(0, 2]' or '[0, inf)'")
        left, low, high, right = match.groups()
        interval = cls(float(low), float(high), left == "(", right == ")")
        if not interval.low < interval.high:
            raise InvalidInput(f"interval = {text!r}: the lower end must be below the upper end")
        return interval

    def contains(self, values: np.ndarray | float) -> np.ndarray:
        """Returns, element by element, whether `values`, (...), lie inside; nan never does."""
        # Comparisons, not their negations: with nan every one of them is False.
        values = np.asarray(values)
        above = values > self.low if self.open_low else values >= self.low
        below = values < self.high if self.open_high else values <= self.high
        return above & below

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


REAL = Interval(-math.inf, math.inf, True, True)
POSITIVE = Interval.parse("(0, inf)")
NON_NEGATIVE = Interval.parse("[0, inf)")
UNIT_INTERVAL = Interval.parse("[0, 1]")
PROBABILITY = Interval.parse("(0, 1)")
# Below 0.1 there are no tables of the law: closed forms would be nan.
STABILITY_INDEX = Interval.parse("[0.1, 2]")
NORM_ORDER = Interval.parse("[1, inf]")


def require_inside(name: str, values: np.ndarray | float, domain: Interval, meaning: str) -> None:
    """Checks that every element of `values` is inside `domain`.

    Args:
        name: of the argument.
        values: numbers, (...).
        domain: where they must lie.
        meaning: what each of them is, for the message.

    Raises:
        InvalidInput: with the argument's name, the first offending value, the domain and meaning.
    """
    values = np.asarray(values)
    outside = values[~domain.contains(values)]
    if outside.size:
        raise InvalidInput(f"{name} = {outside.flat[0]:g}: {meaning} must lie in {domain}")


def require_known(kind: str, name: str, known: Iterable[str], listing: str = "") -> None:
    """Checks that `name` is one of `known`.

    Args:
        kind: what is named.
        name: the name.
        known: those there are.
        listing: for more than a dozen, the command that lists all.

    Raises:
        InvalidInput: naming the nearest known names; when none is near, all of a dozen or the five
            nearest of more.
    """
    names = sorted(known)
    if name not in names:
        # A part of a name is likelier to be a short form than a misspelling: it comes first.
        within = [known for known in names if name and name in known]
        near = (within or difflib.get_close_matches(name, names, cutoff=0.5))[:3]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
        if not near and len(names) > 12:
            # Nothing is near, and all of them would not fit in a line: any five that look alike.
            some = difflib.get_close_matches(name, names, n=5, cutoff=0)
            hint = f"nearest of {len(names)}: {', '.join(some)}"
            hint += f"; {listing} lists all" if listing else ""
        raise InvalidInput(f"{kind} = {name!r}: unknown; {hint}")
