"""Threat models of networks: which norm a ball has, by whichever name, and its radius.

A ball of the toolkit is an `L1Ball`, `L2Ball` or `LinfBall`, or the `LpBall` that is one of them;
what an attack must know of that is answered here alone. Code that differs between the three norms
asks `named_norm` first and then dispatches on the type of what it returns.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

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


def whole_box(threat: Threat, bounds: tuple[float, float], size: int) -> float:
    """Returns the radius from which the ball around any point of the box holds all of the box.

    Args:
        threat: only its norm matters.
        bounds: (low, high) of every entry; the radius is infinite where either is.
        size: entries d of a sample.

    >>> whole_box(LinfBall(0.1), (0.0, 1.0), 784), whole_box(L2Ball(0.1), (0.0, 1.0), 784)
    (1.0, 28.0)
    """
    # From corner to corner: a width in each of d coordinates, so width d^(1/p); 1 / inf is 0.
    return float((bounds[1] - bounds[0]) * size ** (1 / norm_order(threat)))


def require_radius(threat: Threat, bounds: tuple[float, float], size: int) -> None:
    """Checks that a ball is no larger than the whole box: whose is wider was meant in other units.

    Args:
        threat: a ball, radius () or (n,); one that is traced is not checked.
        bounds: (low, high) of every entry of an input.
        size: entries d of a sample.

    Raises:
        InvalidInput: for a radius that is nan, negative, infinite or beyond the box: with linf
            high - low, with l2 sqrt(d) times that, with l1 d times.
    """
    if isinstance(threat.radius, jax.core.Tracer):
        return
    radius = np.asarray(threat.radius)
    largest = float(np.max(radius, initial=0.0))
    # In this form a nan is refused too, which compares as false.
    if not (radius >= 0).all() or not largest < math.inf:
        bad = radius[~((radius >= 0) & (radius < math.inf))].flat[0]
        raise InvalidInput(f"radius = {bad:g}: must lie in [0, inf)")
    limit = whole_box(threat, bounds, size)
    # In the dtype of the radius: the box itself, rounded to it, is no radius beyond the box.
    if largest <= np.asarray(limit).astype(radius.dtype, copy=False):
        return
    hint = ""
    if bounds[1] - bounds[0] == 1 and largest / 255 <= limit:
        hint = f"; perhaps {largest:g}/255 is meant, {largest / 255:.6g}"
    raise InvalidInput(
        f"radius = {largest:g}: must be at most {limit:g}, at which a ball holds the whole box of "
        f"{size} entries in bounds = {tuple(bounds)!r}{hint}"
    )


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
