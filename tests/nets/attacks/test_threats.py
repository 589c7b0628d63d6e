"""Radii: what is beyond the whole box was meant in other units, and is refused in one line."""

import math

import numpy as np
import pytest

from nets.attacks.threats import require_radius, whole_box
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall, LpBall

UNIT, LEVELS, OPEN = (0.0, 1.0), (0.0, 255.0), (-math.inf, math.inf)
SIZE = 784


def unchecked(kind, radius):
    """A ball as `_replace` and JAX rebuild it: the constructor, which checks, is not called."""
    return kind(0.1)._replace(radius=np.asarray(radius))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("threat", "bounds", "limit"),
    [
        (LinfBall(0.1), UNIT, 1.0),
        (LinfBall(0.1), LEVELS, 255.0),
        (LinfBall(0.1), (-0.5, 0.1), 0.6),
        (L2Ball(0.1), UNIT, 28.0),
        (L1Ball(0.1), UNIT, 784.0),
        (LpBall(0.1, 3), UNIT, 784 ** (1 / 3)),
        (LpBall(0.1, math.inf), UNIT, 1.0),
    ],
)
def test_a_radius_may_be_the_whole_box_and_no_more(threat, bounds, limit, dtype):
    assert whole_box(threat, bounds, SIZE) == pytest.approx(limit)
    edge = np.asarray(whole_box(threat, bounds, SIZE)).astype(dtype)
    require_radius(threat._replace(radius=edge), bounds, SIZE)
    beyond = np.array([0.0, np.nextafter(edge, dtype(math.inf))], dtype)
    with pytest.raises(InvalidInput, match=r"radius = .*must be at most .*whole box of 784"):
        require_radius(threat._replace(radius=beyond), bounds, SIZE)


@pytest.mark.parametrize(
    ("kind", "radius", "bounds", "message"),
    [
        (
            LinfBall,
            8.0,
            UNIT,
            "radius = 8: must be at most 1, .* perhaps 8/255 is meant, 0.0313725",
        ),
        (L2Ball, 128.0, UNIT, "radius = 128: must be at most 28, .* perhaps 128/255 is meant"),
        (L1Ball, 2000.0, UNIT, "radius = 2000: must be at most 784, .* perhaps 2000/255"),
        (LinfBall, [0.1, 3.0], UNIT, "radius = 3: must be at most 1"),
        (LinfBall, 300.0, LEVELS, r"radius = 300: must be at most 255, .*\(0.0, 255.0\)$"),
        (LinfBall, 1e6, UNIT, r"radius = 1e\+06: must be at most 1, .*\(0.0, 1.0\)$"),
        (L2Ball, -0.5, UNIT, r"radius = -0.5: must lie in \[0, inf\)"),
        (L2Ball, [0.1, math.nan], OPEN, r"radius = nan: must lie in \[0, inf\)"),
        (L1Ball, math.inf, OPEN, r"radius = inf: must lie in \[0, inf\)"),
    ],
)
def test_a_radius_in_other_units_is_refused_with_what_was_meant(kind, radius, bounds, message):
    with pytest.raises(InvalidInput, match=message):
        require_radius(unchecked(kind, radius), bounds, SIZE)


def test_without_bounds_any_finite_radius_is_one():
    require_radius(L2Ball(1e30), OPEN, SIZE)
