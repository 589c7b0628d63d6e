"""Threat models of networks: which norm a ball has, by whichever name, and its radius.

A ball of the toolkit is an `L1Ball`, `L2Ball` or `LinfBall`, or the `LpBall` that is one of them;
what an attack must know of that is answered here alone. Code that differs between the three norms
asks `named_norm` first and then dispatches on the type of what it returns.
"""

import math
from collections.abc import Callable
from typing import Any

from theory.domain import InvalidInput, require_known
from theory.problem import L1Ball, L2Ball, LinfBall, LpBall, Threat

NORMS: dict[str, Callable[[Any], Threat]] = {"linf": LinfBall, "l2": L2Ball, "l1": L1Ball}
# By p, a Python number: a norm is never traced, so that branches on it are taken while tracing.
_BY_ORDER: dict[float, Callable[[Any], Threat]] = {1: L1Ball, 2: L2Ball, math.inf: LinfBall}
_ORDERS: dict[type, float] = {L1Ball: 1.0, L2Ball: 2.0, LinfBall: math.inf}


def threat_of(norm: str, radius: float) -> Threat:
    """Returns the ball of a norm, "linf", "l2" or "l1".

    Raises:
        InvalidInput: for another norm or a radius that is negative or not finite.
    """
    require_known("norm", norm, NORMS)
    return NORMS[norm](radius)


def is_ball(threat: object) -> bool:
    """Returns whether the threat is one of the balls that attacks on networks know."""
    return isinstance(threat, L1Ball | L2Ball | LinfBall | LpBall)


def norm_order(threat: Threat) -> float:
    """Returns the p of the norm of a ball, in [1, inf].

    >>> norm_order(LinfBall(0.1)), norm_order(LpBall(0.1, 3))
    (inf, 3)
    """
    return threat.p if isinstance(threat, LpBall) else _ORDERS[type(threat)]


def is_linf(threat: Threat) -> bool:
    """Returns whether the norm of the threat is linf, by whichever name."""
    return norm_order(threat) == math.inf


def is_l1(threat: Threat | None) -> bool:
    """Returns whether the norm of the threat is l1, by whichever name; not without a threat."""
    return threat is not None and norm_order(threat) == 1


def named_norm(threat: Threat) -> Threat:
    """Returns the L1Ball, L2Ball or LinfBall that this ball is; the radius stays as it is.

    Raises:
        InvalidInput: for a ball of another norm, or what is no ball.
    """
    if not is_ball(threat):
        raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball, LinfBall or LpBall")
    if not isinstance(threat, LpBall):
        return threat
    if threat.p not in _BY_ORDER:
        raise InvalidInput(f"p = {threat.p}: the norm of this attack must be 1, 2 or infinity")
    return _BY_ORDER[threat.p](threat.radius)
