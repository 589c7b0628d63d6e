"""python -m theory: what is claimed, by whom, where it holds and where it fails.

Behind the word `waterbirds`: what adversarial training makes of a spurious attribute.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from theory.command_line.frame import run

if TYPE_CHECKING:
    from collections.abc import Callable

    import jax

    from theory.claims.claim import Claim
    from theory.spurious.waterbirds import WaterbirdsReport


UNDEFINED = "undef."


def describe(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    ledger: bool = False,
    bibtex: bool = False,
) -> int:
    """List the claims: source, where each holds and where it fails.

    `python -m theory waterbirds` reports on training with a spurious attribute instead.

    Args:
        names: claims to describe in full; a few lines each for all of them if none is named
        ledger: a line for each claim, by source: does its published form hold everywhere?
        bibtex: print the BibTeX entries of their sources instead
    """
    from theory.claims import registry

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
    return 0


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


def waterbirds(
    *,
    norm: Literal["l1", "l2", "linf"] = "l2",
    radius: float = 0.5,
    core: float = 1.6,
    spurious: float = 1.6,
    noise: float = 1.0,
    agreement: float = 0.95,
    core_pixels: Annotated[int, tyro.conf.arg(name="core-pixels")] = 4,
    spurious_pixels: Annotated[int, tyro.conf.arg(name="spurious-pixels")] = 9,
    extra: float = 1.0,
) -> int:
    """Report how far natural and adversarial training rely on a spurious attribute.

    In the linear Waterbirds model, in closed form: images of a core and a spurious template, flat
    on their pixels, in Gaussian noise.

    Args:
        norm: of the ball that adversarial training and the attack use
        radius: of that ball
        core: amplitude of the core template, what the label says
        spurious: amplitude of the spurious template
        noise: standard deviation of every pixel
        agreement: r: the attribute is the label with probability (1 + r) / 2
        core_pixels: over how many pixels the core template is spread
        spurious_pixels: over how many the spurious one is
        extra: standard deviation of the noise that the sensitivity is measured with
    """
    import jax
    import jax.numpy as jnp

    from theory.domain import Interval, require_inside
    from theory.spurious.risk import SpuriousAttribute
    from theory.spurious.waterbirds import ball, waterbirds_report

    for name, count in (("core-pixels", core_pixels), ("spurious-pixels", spurious_pixels)):
        # The report looks at the weight of every pixel.
        require_inside(name, count, Interval(1, 1e7), "the number of pixels of a template")
    with jax.enable_x64(True):
        model = SpuriousAttribute(
            jnp.asarray(core),
            jnp.asarray(spurious),
            jnp.asarray(noise),
            jnp.asarray(agreement),
            core_pixels,
            spurious_pixels,
        )
        attack = ball(norm, radius)
        reports = [
            waterbirds_report(model, trained, attack, jnp.asarray(extra))
            for trained in (ball(norm, 0.0), attack)
        ]
        lines = _side_by_side(f"{norm} of radius {radius:g}", reports)
    print("\n".join(lines))
    return 0


def _side_by_side(threat: str, reports: list[WaterbirdsReport]) -> list[str]:
    """Returns a line for each measurement of the naturally and the adversarially trained rule."""
    import jax.numpy as jnp

    rows: dict[str, Callable[[WaterbirdsReport], jax.Array]] = {
        "angle to the spurious template, degrees": lambda r: jnp.rad2deg(r.angle),
        "share of the weights on its pixels (l1)": lambda r: r.weights.share,
        "ratio to those on the core (l2)": lambda r: r.weights.ratio,
        "accuracy": lambda r: r.accuracy,
        "  attribute agrees with the label": lambda r: r.clean.aligned,
        "  attribute conflicts": lambda r: r.clean.conflicting,
        "  worst group": lambda r: r.clean.worst,
        "  gap": lambda r: r.clean.gap_balanced,
        "accuracy under attack": lambda r: r.robust_accuracy,
        "  attribute agrees": lambda r: r.attacked.aligned,
        "  conflicts": lambda r: r.attacked.conflicting,
        "  worst group under attack": lambda r: r.attacked.worst,
        "  gap under attack": lambda r: r.attacked.gap_balanced,
        "background gap, same class minus random": lambda r: r.background,
        "relative foreground sensitivity": lambda r: r.sensitivity,
        "effective robustness without correlation": lambda r: r.effective,
    }
    width = max(map(len, rows))
    lines = [f"{'linear Waterbirds, ' + threat:{width}}  natural  adversarial training"]
    for name, value in rows.items():
        natural, adversarial = (float(value(report)) for report in reports)
        lines.append(f"{name:{width}}  {_number(natural)}  {_number(adversarial)}")
    if any(UNDEFINED in line for line in lines):
        lines.append(f"{UNDEFINED}: not defined, as rules that are always right or wrong are alike")
    return lines


def _number(value: float) -> str:
    """Returns a number in seven columns; one that is not defined says so."""
    return f"{UNDEFINED:>7}" if value != value else f"{value:7.4f}"


def main() -> None:
    """Runs the command that the first word names, otherwise the list of claims."""
    # Both only print: when their reader leaves there is nothing to go on with.
    if sys.argv[1:2] == ["waterbirds"]:
        run(waterbirds, "python -m theory waterbirds", sys.argv[2:], goes_on="")
    run(describe, "python -m theory", goes_on="")


if __name__ == "__main__":
    main()
