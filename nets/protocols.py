"""Lists of attacks by name, from a first look to the strongest, and threats by the norm's name."""

from collections.abc import Callable
from typing import Any

from nets.attacks.ensemble import method, standard
from nets.evaluate import Method
from theory.problem import L1Ball, L2Ball, LinfBall, Threat, require_known

NORMS: dict[str, Callable[[Any], Threat]] = {"linf": LinfBall, "l2": L2Ball, "l1": L1Ball}
PROTOCOLS: dict[str, Callable[[int, Threat], tuple[str, ...]]] = {
    "quick": lambda classes, threat: ("pgd", "pgd-margin"),
    "budget": lambda classes, threat: standard(classes, threat)[:-1],
    "standard": standard,
}
STEPS = {"quick": 20}


def threat_of(norm: str, radius: float) -> Threat:
    """Returns the ball of a norm, "linf", "l2" or "l1".

    Raises:
        InvalidInput: for another norm or a radius that is negative or not finite.
    """
    require_known("norm", norm, NORMS)
    return NORMS[norm](radius)


def methods(protocol: str, classes: int, threat: Threat) -> dict[str, Method]:
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
