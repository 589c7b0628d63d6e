"""The registry of claims: every module of `theory.claims` that has a tuple CLAIMS, in order."""

import functools
import importlib
import importlib.resources
import pkgutil
import re
from collections.abc import Iterable

from theory.claims.claim import Claim
from theory.domain import InvalidInput, require_known

__all__ = ["bibtex", "collect", "find", "registered"]


def registered() -> dict[str, Claim]:
    """Returns every claim by name: those of each module or package of `theory.claims` in turn.

    A copy, so that no caller changes what another one sees.

    Raises:
        InvalidInput: if two share a name, or a default grid leaves its domain.
    """
    return dict(_registered())


@functools.cache
def _registered() -> dict[str, Claim]:
    # Found, not listed: a new module of claims is known without a line anywhere else.
    package = importlib.import_module("theory.claims")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"theory.claims.{name}") for name in names]
    return collect(claim for module in modules for claim in getattr(module, "CLAIMS", ()))


def collect(claims: Iterable[Claim]) -> dict[str, Claim]:
    """Returns claims by name, once each is known to be sound.

    Raises:
        InvalidInput: if two share a name, or a default grid leaves its domain.
    """
    by_name: dict[str, Claim] = {}
    for claim in claims:
        if claim.name in by_name:
            raise InvalidInput(f"claim = {claim.name!r}: the name is taken")
        for axis in claim.axes:
            axis.grid(axis.default)
        by_name[claim.name] = claim
    return by_name


def find(name: str) -> Claim:
    """Returns the claim of that name.

    Raises:
        InvalidInput: for an unknown name, listing the nearest.
    """
    claims = registered()
    require_known("claim", name, claims, "python -m theory --ledger")
    return claims[name]


def bibtex(key: str) -> str:
    """Returns the entry of references.bib with that key.

    Raises:
        InvalidInput: for an unknown key, listing the nearest.
    """
    text = importlib.resources.files("theory").joinpath("references.bib").read_text("utf-8")
    # An entry ends with a brace at the start of a line; braces within are indented.
    entries: dict[str, str] = dict(re.findall(r"(?ms)^(?=@\w+\{([^,\s]+),)(.*?^\})", text))
    require_known("reference", key, entries)
    return entries[key]
