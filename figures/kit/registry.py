"""The registry of figures: each is a pure function from datasets to a matplotlib figure."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import NamedTuple

import xarray as xr
from matplotlib.figure import Figure

from theory.claims.registry import registered

Draw = Callable[[Mapping[str, xr.Dataset]], Figure]


class Picture(NamedTuple):
    """A figure: its name, the claims whose datasets it draws, a caption, and how it is drawn."""

    name: str
    claims: tuple[str, ...]
    caption: str
    draw: Draw


_REGISTRY: dict[str, Picture] = {}


def picture(name: str, claims: tuple[str, ...], caption: str) -> Callable[[Draw], Draw]:
    """Returns a decorator that registers a drawing function as the figure `name`.

    Args:
        name: of the figure and its files.
        claims: whose datasets it draws.
        caption: a paragraph; how it is broken into lines does not matter.
    """

    def add(draw: Draw) -> Draw:
        _REGISTRY[name] = Picture(name, claims, " ".join(caption.split()), draw)
        return draw

    return add


def pictures() -> dict[str, Picture]:
    """Returns every figure by name: those of the papers, then a default one for other claims."""
    from figures.kit import default

    package = importlib.import_module("figures.papers")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    # Papers, whose names end in a year, before what goes beyond them.
    for name in sorted(names, key=lambda name: (not name[-4:].isdigit(), name)):
        importlib.import_module(f"figures.papers.{name}")
    drawn = {claim for picture in _REGISTRY.values() for claim in picture.claims}
    rest = [name for name in registered() if name not in drawn]
    return dict(_REGISTRY) | {name: default.picture_of(name) for name in rest}


def choose(names: tuple[str, ...]) -> list[Picture]:
    """Returns the figures of those names, a claim's name standing for the figure that draws it.

    Raises:
        InvalidInput: for a name that is neither, listing the nearest.
    """
    from theory.domain import require_known

    known = pictures()
    # Where several pictures draw a claim, the first one stands for it.
    by_claim = {claim: p for p in reversed(known.values()) for claim in p.claims}
    for name in names:
        names_known = known.keys() | by_claim.keys()
        require_known("figure", name, names_known, "python -m theory --ledger")
    chosen = [known.get(name) or by_claim[name] for name in names]
    return list(dict.fromkeys(chosen)) or list(known.values())
