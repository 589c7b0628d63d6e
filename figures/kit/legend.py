"""One legend for all panels of a figure, in which every label stands once."""

from collections.abc import Iterable
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Inches of a handle with the space around it, and of a character of the style's font at size 8.
HANDLE, CHARACTER = 0.5, 0.062
Place = Literal["outside upper center", "outside lower center", "outside right center"]


def shared_legend(
    figure: Figure,
    panels: Iterable[Axes] | None = None,
    columns: int = 4,
    where: Place = "outside upper center",
) -> int:
    """Puts the labels of some panels, each once, into a legend beside them; returns its rows.

    Args:
        figure: which gets the legend.
        panels: whose labels are shown, in their order; those of the whole figure if None.
        columns: of the legend, or fewer where so many would be wider than the figure.
        where: a place of `matplotlib.figure.Figure.legend`, outside of the panels.
    """
    handles: dict[str, Artist] = {}
    for axes in figure.axes if panels is None else panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            # The first one stands for all: the panels draw a label alike.
            handles.setdefault(label, handle)
    longest = max(map(len, handles), default=0)
    # A column is a handle, some space and the longest label; more of them would leave the figure.
    fitting = max(1, int(figure.get_figwidth() / (HANDLE + CHARACTER * longest)))
    columns = min(columns, fitting)
    figure.legend(list(handles.values()), list(handles), loc=where, ncols=columns)
    return -(-len(handles) // max(columns, 1))
