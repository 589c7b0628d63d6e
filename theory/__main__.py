"""python -m theory: what is claimed, by whom, where it holds and where it fails."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import tyro

from theory.claims import registry

if TYPE_CHECKING:
    from theory.claims.claim import Claim


def describe(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    ledger: bool = False,
    bibtex: bool = False,
) -> None:
    """List the claims: source, where each holds and where it fails.

    Args:
        names: claims to describe in full; a few lines each for all of them if none is named
        ledger: a line for each claim, by source: does its published form hold everywhere?
        bibtex: print the BibTeX entries of their sources instead
    """
    from theory.domain import InvalidInput

    try:
        claims = [registry.find(name) for name in names] or list(registry.registered().values())
        if bibtex:
            keys = dict.fromkeys(claim.source.key for claim in claims)
            print("\n\n".join(registry.bibtex(key) for key in keys))
        elif ledger:
            print("\n".join(_ledger(claims)))
        elif names:
            print("\n\n".join(map(_in_full, claims)))
        else:
            print("\n".join(map(_in_short, claims)))
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _where(claim: Claim) -> str:
    return ", ".join(f"{axis.name} in {axis.domain}" for axis in claim.axes)


def _ledger(claims: list[Claim]) -> list[str]:
    """Returns a line for each claim, under its source; what fails is said below it."""
    width = max(len(claim.name) for claim in claims)
    lines = []
    for key in dict.fromkeys(claim.source.key for claim in claims):
        lines.append(key)
        for claim in (c for c in claims if c.source.key == key):
            holds = "FAILS" if claim.fails else "holds"
            lines.append(f"  {holds}  {claim.name:{width}}  {claim.source.result}")
            if claim.fails:
                lines.append(f"         where: {claim.fails.where}")
    return lines


def _in_short(claim: Claim) -> str:
    lines = [claim.name, f"{claim.source.key}, {claim.source.result}", f"holds for {_where(claim)}"]
    if claim.fails:
        lines.append(f"published form fails: {claim.fails.where}")
    return "\n    ".join(lines)


def _in_full(claim: Claim) -> str:
    lines = [
        claim.name,
        claim.statement,
        f"source: {claim.source.key}, {claim.source.result}",
        f"tested: simulated {claim.estimand.name} {claim.relation} closed form",
        *(f"axis {a.name}: {a.meaning}, in {a.domain}" for a in claim.axes),
        *(f"assumes: {assumption}" for assumption in claim.assumptions),
        f"published form fails: {claim.fails.where if claim.fails else 'nowhere known'}",
    ]
    return "\n    ".join(lines)


if __name__ == "__main__":
    # A reader that leaves early, such as head, ends the command quietly.
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    tyro.cli(describe, prog="python -m theory", config=(tyro.conf.FlagCreatePairsOff,))
