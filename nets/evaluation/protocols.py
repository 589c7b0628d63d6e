"""Lists of attacks by name, from a first look to the strongest, and threats by the norm's name."""

from collections.abc import Callable

from nets.evaluation.ensemble import method, standard
from nets.evaluation.outcomes import AttackRun
from theory.domain import require_known
from theory.problem import Threat

PROTOCOLS: dict[str, Callable[[int, Threat], tuple[str, ...]]] = {
    "quick": lambda classes, threat: ("pgd", "pgd-margin"),
    "budget": lambda classes, threat: standard(classes, threat)[:-1],
    "standard": standard,
}
STEPS = {"quick": 20}


def methods(protocol: str, classes: int, threat: Threat) -> dict[str, AttackRun]:
    """Returns the attacks of a protocol by name, in the order in which they run.

    Args:
        protocol: "quick" (two PGD attacks of 20 steps), "budget" (Auto-PGD with 100 steps on
            cross-entropy and targeted: they find nearly all that the standard ensemble does) or
            "standard" (the same, then Square).
        classes: K of the network.
        threat: only its norm matters.

    Raises:
        InvalidInput: for an unknown protocol.
    """
    require_known("protocol", protocol, PROTOCOLS)
    steps = STEPS.get(protocol, 100)
    names = PROTOCOLS[protocol](classes, threat)
    return {name: method(name, classes, threat, steps=steps) for name in names}
