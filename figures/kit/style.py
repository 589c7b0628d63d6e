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
BOUND = ":"


def use() -> None:
    """Switches matplotlib to files only and to this style."""
    matplotlib.use("Agg")
    matplotlib.style.use(str(STYLE))
