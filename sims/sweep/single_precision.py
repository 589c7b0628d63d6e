"""What the simulators can hold: they draw, perturb and add in float32.

Parameters are float64 until a sweep, a check of rare risks or an exploration rounds them. A number
too large becomes infinite, or its square does, in norms and scores; one too small becomes zero. The
counts would then be of another problem than the one that is asked about.
"""

from typing import Any

import jax
import numpy as np

from theory.claims import evaluate
from theory.claims.claim import Claim
from theory.domain import InvalidInput

# Norms and scores add up squares: those of a hundred such numbers are 1e38, below 3.4e38. Draws of
# heavy tails may go beyond on their own, at an index below 0.3; they are counted as not finite.
MOST = 1e18
LARGEST = float(np.finfo(np.float32).max)
LEAST = float(np.finfo(np.float32).smallest_normal)
RANGE = f"0 or of a size in [{LEAST:.2g}, {MOST:g}], the range that float32 simulates"
# Zero would be another law, or no attack. Other fields may hold entries that do not matter.
_NOT_ZERO = ("scales", "radius", "noise", "alpha", "concentration")


def require_simulable(claim: Claim, points: dict[str, np.ndarray]) -> None:
    """Checks that float32 holds the axes of a claim at n points, and what is simulated there.

    Args:
        claim: what is to be simulated.
        points: the values of each axis, (n,).

    Raises:
        InvalidInput: naming the axis or field, its value and the range, before any draw.
    """
    for axis in claim.axes:
        require_single(f"{axis.name}", points[axis.name], f"{axis.meaning} must be", small=True)
    require_fields(claim.name, evaluate.problems(claim, points))


def require_fields(name: str, problems: Any) -> None:
    """Checks the fields of problems, (n, ...), as `require_simulable` does, for a claim's name."""
    for path, values in jax.tree_util.tree_flatten_with_path(problems)[0]:
        field = "".join(map(str, path)).rpartition(".")[2]
        what = f"claim {name}: {field}"
        strict = field in _NOT_ZERO
        # Where squares of other fields overflow, draws are not finite, which forbids a verdict.
        require_single(
            what, np.asarray(values), "must be", small=strict, most=MOST if strict else LARGEST
        )


def require_single(
    name: str, values: np.ndarray, must: str, *, small: bool, most: float = MOST
) -> None:
    """Checks that float32 holds values and, up to the default of `most`, the sum of their squares.

    Args:
        name: of the values.
        values: (n,) or any shape.
        must: the words of the message before the range.
        small: whether one that float32 would take for 0 is refused too.
        most: the largest size.

    Raises:
        InvalidInput: naming the first value outside the range.
    """
    sizes = np.abs(values)
    bad = sizes > most
    if small:
        bad |= (sizes > 0) & (sizes < LEAST)
    if bad.any():
        raise InvalidInput(f"{name} = {values[bad].flat[0]:g}: {must} {RANGE}")
