"""How every figure looks: colours, markers and lines that stay apart in grey and to any eye."""

import importlib.resources
from typing import NamedTuple

import matplotlib
import matplotlib.style

STYLE = importlib.resources.files("figures.kit").joinpath("robust_risk.mplstyle")


class Series(NamedTuple):
    """One quantity's look: colour, marker and line style all differ between series."""

    colour: str
    marker: str
    line: str


# Paul Tol's high-contrast colours: safe for colour-blind readers, and ordered by lightness.
SERIES = (Series("#004488", "o", "-"), Series("#DDAA33", "s", "--"), Series("#BB5566", "^", "-."))
# For a fourth series to a sixth, which share a colour with one of the first three.
MORE_MARKERS = ("D", "v", "P")
# Dotted is left to bounds and thresholds: no series has it.
BOUND = ":"


def series(index: int) -> Series:
    """Returns the look of a series by its number from 0; of more than six, looks come again.

    >>> series(0) == SERIES[0], series(3) in SERIES
    (True, False)
    """
    look = SERIES[index % 3]
    if index % 6 < 3:
        return look
    # The line of the next one, so that no two of the six have both colour and line in common.
    return look._replace(marker=MORE_MARKERS[index % 3], line=SERIES[(index + 1) % 3].line)


def use() -> None:
    """Switches matplotlib to files only and to this style, whatever a user's matplotlibrc says."""
    matplotlib.use("Agg")
    matplotlib.rcdefaults()
    matplotlib.style.use(str(STYLE))
