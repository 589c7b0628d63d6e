"""What axes and titles say: symbols of norms, names of noise laws, meanings with their ranges."""

from collections.abc import Iterable, Mapping
from typing import Any

from theory.claims.claim import Claim

# In mathematical type, in the order in which papers show them.
NORMS = {"l1": "$\\ell_1$", "l2": "$\\ell_2$", "linf": "$\\ell_\\infty$"}
# In plain type, for titles that also name networks and data sets.
PLAIN_NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}
LAWS = {"gaussian": "Gaussian", "holtsmark": "stable, α = 1.5", "cauchy": "Cauchy, α = 1"}
# Of an evaluation of a network, as its file names them.
CONDITIONS = {"clean": "without attack", "robust": "under attack"}

IMBALANCE_RATIO = "imbalance ratio P(−)/P(+), [1, ∞)"
# Of the strip below a panel, which is too low for one line.
RESIDUAL = "sim. −\ntheory"


def axis_label(claim: Claim, index: int = 0) -> str:
    """Returns the label of an axis of a claim: its meaning and its range."""
    axis = claim.axes[index]
    # Not `str.capitalize`, which would make small letters of the symbols behind.
    meaning = axis.meaning[0].upper() + axis.meaning[1:]
    domain = str(axis.domain).replace("-inf", "−∞").replace("inf", "∞")
    return f"{meaning}, {domain}"


def radius_label(norm: str, what: str = "radius") -> str:
    """Returns the label of a radius, of a norm "l1", "l2" or "linf", in units of the inputs."""
    return f"{NORMS[norm]} {what}, units of the inputs"


def law_name(stability_index: float) -> str:
    """Returns how the symmetric stable law of an index in (0, 2) is called in titles."""
    return "Cauchy, α = 1" if stability_index == 1 else f"stable, α = {stability_index:g}"


def plain(names: Iterable[Any]) -> list[str]:
    """Returns names from a file as they are to be read: a dollar sign opens no formula."""
    return [str(name).replace("$", r"\$") for name in names]


def evaluation_title(attributes: Mapping[str, Any], attacks: str) -> str:
    """Returns the title of pictures of trained networks: model, data, ball and attacks.

    Args:
        attributes: of the result file: `model`, `data`, `norm` and `radius`.
        attacks: what ran.
    """
    # A file may name a norm that this table does not: then its own word is the best there is.
    norm = PLAIN_NORMS.get(attributes["norm"], attributes["norm"])
    norm, model, data, ran = plain((norm, attributes["model"], attributes["data"], attacks))
    radius = f"{norm} radius {attributes['radius']:.4g}"
    return f"{model} on {data}, {radius}: {ran}"
