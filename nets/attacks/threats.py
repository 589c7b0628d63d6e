"""Threat models of networks: which norm a ball has, by whichever name, and its radius.

A ball of the toolkit is an `L1Ball`, `L2Ball` or `LinfBall`, or the `LpBall` that is one of them;
what an attack must know of that is answered here alone.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from theory.domain import InvalidInput, require_known
from theory.problem import L1Ball, L2Ball, LinfBall, LpBall, Threat

NORMS: dict[str, Callable[[Any], Threat]] = {"linf": LinfBall, "l2": L2Ball, "l1": L1Ball}


def threat_of(norm: str, radius: float) -> Threat:
    """Returns the ball of a norm, "linf", "l2" or "l1".

    Raises:
        InvalidInput: for another norm or a radius that is negative or not finite.
    """
    require_known("norm", norm, NORMS)
    return NORMS[norm](radius)


def is_cube(threat: Threat) -> bool:
    """Returns whether the norm of the threat is linf, by whichever name."""
    return isinstance(threat, LinfBall) or (isinstance(threat, LpBall) and np.isinf(threat.p))


def is_l1(threat: Threat | None) -> bool:
    """Returns whether the norm of the threat is l1, by whichever name."""
    return isinstance(threat, L1Ball) or (isinstance(threat, LpBall) and threat.p == 1)


def named_norm(threat: Threat) -> Threat:
    """Returns the L1Ball, L2Ball or LinfBall that this ball is; InvalidInput for other norms."""
    if not isinstance(threat, LpBall):
        return threat
    if threat.p == 1:
        return L1Ball(threat.radius)
    if threat.p == 2:
        return L2Ball(threat.radius)
    if threat.p == math.inf:
        return LinfBall(threat.radius)
    raise InvalidInput(f"p = {threat.p}: the norm of this attack must be 1, 2 or infinity")
