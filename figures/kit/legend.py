"""One legend for all panels of a figure, in which every label stands once."""

from collections.abc import Iterable
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Place = Literal["outside upper center", "outside lower center", "outside right center"]


def shared_legend(
    figure: Figure,
    panels: Iterable[Axes] | None = None,
    columns: int = 4,
    where: Place = "outside upper center",
) -> None:
    """Puts the labels of some panels, each once, into a legend beside them.

    Args:
        figure: which gets the legend.
        panels: whose labels are shown, in their order; those of the whole figure if None.
        columns: of the legend.
        where: a place of `matplotlib.figure.Figure.legend`, outside of the panels.
    """
    handles: dict[str, Artist] = {}
    for axes in figure.axes if panels is None else panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            # The first one stands for all: the panels draw a label alike.
            handles.setdefault(label, handle)
    figure.legend(list(handles.values()), list(handles), loc=where, ncols=columns)
