"""What a figure is: a pure function from datasets to a matplotlib figure, with name and caption."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import xarray as xr
from matplotlib.figure import Figure

Draw = Callable[[Mapping[str, xr.Dataset]], Figure]


class Picture(NamedTuple):
    """A figure: its name, the claims whose datasets it draws, a caption, and how it is drawn."""

    name: str
    claims: tuple[str, ...]
    caption: str
    draw: Draw


# Filled by the decorator as modules of `figures.papers` are loaded, in the order of their code.
DRAWN: dict[str, Picture] = {}


def picture(name: str, claims: tuple[str, ...], caption: str) -> Callable[[Draw], Draw]:
    """Returns a decorator that registers a drawing function as the figure `name`.

    Args:
        name: of the figure and its files.
        claims: whose datasets it draws.
        caption: a paragraph; how it is broken into lines does not matter.
    """

    def add(draw: Draw) -> Draw:
        DRAWN[name] = Picture(name, claims, " ".join(caption.split()), draw)
        return draw

    return add
