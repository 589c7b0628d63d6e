"""The registry of claims: every module of `theory.claims` that has a tuple CLAIMS, in order."""

import functools
import importlib
import importlib.resources
import pkgutil
import re
import reprlib
from collections.abc import Iterable

from theory.claims.claim import Claim
from theory.domain import InvalidInput, require_known

__all__ = ["bibtex", "collect", "find", "registered", "require_sound"]


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
        InvalidInput: if two share a name, or one is not sound, as `require_sound` says.
    """
    by_name: dict[str, Claim] = {}
    for claim in claims:
        _require_claim(claim)
        if claim.name in by_name:
            raise InvalidInput(f"claim = {claim.name!r}: the name is taken")
        require_sound(claim)
        by_name[claim.name] = claim
    return by_name


def require_sound(claim: Claim) -> None:
    """Checks what a claim says of itself: nothing is computed and nothing is drawn.

    Raises:
        InvalidInput: for a source that is not in references.bib, two axes of one name, a default
            grid outside its domain, or a relation of another kind.
    """
    _require_claim(claim)
    require_known(f"source of claim {claim.name}", claim.source.key, _entries())
    names = [axis.name for axis in claim.axes]
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"claim = {claim.name!r}: axes {names} must be at least one, each once")
    if claim.relation not in ("==", "<=", ">="):
        raise InvalidInput(
            f"claim = {claim.name!r}: relation {claim.relation!r} must be ==, <=, >="
        )
    for axis in claim.axes:
        try:
            axis.grid(axis.default)
        except InvalidInput as error:
            raise InvalidInput(f"claim = {claim.name!r}: by default {error}") from error


def _require_claim(claim: Claim) -> None:
    if not isinstance(claim, Claim):
        raise InvalidInput(f"claim = {reprlib.repr(claim)}: must be a Claim, such as find(name)")


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
    require_known("reference", key, _entries())
    return _entries()[key]


@functools.cache
def _entries() -> dict[str, str]:
    """Returns the entries of references.bib by key."""
    text = importlib.resources.files("theory").joinpath("references.bib").read_text("utf-8")
    # An entry ends with a brace at the start of a line; braces within are indented.
    return dict(re.findall(r"(?ms)^(?=@\w+\{([^,\s]+),)(.*?^\})", text))
