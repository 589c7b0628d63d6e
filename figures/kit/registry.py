"""The registry of figures: those that papers draw, and a default one for every other claim."""

import importlib
import pkgutil

from figures.kit import default
from figures.kit.picture import DRAWN, Picture
from theory.claims.registry import registered
from theory.domain import require_known


def pictures() -> dict[str, Picture]:
    """Returns every figure by name: those of the papers, then a default one for other claims."""
    package = importlib.import_module("figures.papers")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    # Papers, whose names end in a year, before what goes beyond them.
    for name in sorted(names, key=lambda name: (not name[-4:].isdigit(), name)):
        importlib.import_module(f"figures.papers.{name}")
    drawn = {claim for picture in DRAWN.values() for claim in picture.claims}
    rest = [name for name in registered() if name not in drawn]
    return dict(DRAWN) | {name: default.picture_of(name) for name in rest}


def choose(names: tuple[str, ...]) -> list[Picture]:
    """Returns the figures of those names, a claim's name standing for the figure that draws it.

    Raises:
        InvalidInput: for a name that is neither, listing the nearest.
    """
    known = pictures()
    # Where several pictures draw a claim, the first one stands for it.
    by_claim = {claim: p for p in reversed(known.values()) for claim in p.claims}
    for name in names:
        names_known = known.keys() | by_claim.keys()
        require_known("figure", name, names_known, "python -m theory --ledger")
    chosen = [known.get(name) or by_claim[name] for name in names]
    return list(dict.fromkeys(chosen)) or list(known.values())
