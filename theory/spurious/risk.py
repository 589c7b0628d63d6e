"""Classification with a spurious attribute: a linear model of Waterbirds, in closed form.

x = y m t_C + a n t_S + s noise with orthonormal templates, labels y = +-1 and an attribute a that
agrees with y with probability (1 + r) / 2. A rule has the angle psi from the core template t_C
towards the spurious one t_S, and no intercept (theory document C9, D2; after Moayeri et al. 2022).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import log_ndtr, ndtr

from theory.domain import POSITIVE, UNIT_INTERVAL, InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.numerics.noun import checked_namedtuple, require_values
from theory.numerics.root import bracketed_root
from theory.problem import Threat
from theory.rules.direction import norm_order

# Brackets over the quarter turn: two roots closer than a quarter of a degree are not told apart.
_CELLS = 400


# What nu is on one smooth piece: its parts in cos psi, in sin psi, and the constant one.
_Piece = tuple[Any, Any, Any]


def _check_attribute(model: Any) -> None:
    require_values("core", model.core, POSITIVE, "the amplitude of the core template")
    require_values("spurious", model.spurious, POSITIVE, "that of the spurious template")
    require_values("noise", model.noise, POSITIVE, "the standard deviation of the noise")
    require_values("agreement", model.agreement, UNIT_INTERVAL, "r, of label and attribute")
    for name in ("core_pixels", "spurious_pixels"):
        count = getattr(model, name)
        if not (isinstance(count, int | np.integer) and count >= 1):
            raise InvalidInput(f"{name} = {count!r}: must be a whole number, at least 1")


@checked_namedtuple(_check_attribute, static=("core_pixels", "spurious_pixels"))
class SpuriousAttribute(NamedTuple):
    """The law of x = y m t_C + a n t_S + s noise; arrays (...), which broadcast.

    Args:
        core: m > 0, the distance of the class means from the centre along the core template.
        spurious: n > 0, the same along the spurious template.
        noise: s > 0, standard deviation of every coordinate.
        agreement: r in [0, 1]; the attribute is the label with probability (1 + r) / 2.
        core_pixels, spurious_pixels: over how many coordinates each template is spread evenly,
            static; a pixel's amplitude is m / sqrt(core_pixels).

    Raises:
        InvalidInput: naming the field, its value and what is allowed.
    """

    core: Array
    spurious: Array
    noise: Array
    agreement: Array
    core_pixels: int = 1
    spurious_pixels: int = 1


class GroupAccuracies(NamedTuple):
    """Accuracy where the attribute is that of the label, and where it is not, (...) each."""

    aligned: Array
    conflicting: Array


@checked_arguments
def attack_norm(model: SpuriousAttribute, angle: Array, threat: Threat) -> Array:
    """Returns nu, the dual norm of cos(psi) t_C + sin(psi) t_S, for any l_p and any angle, (...).

    Args:
        model: the law, whose numbers of pixels count here.
        angle: psi in radians, (...).
        threat: any l_p ball; only its norm matters.

    >>> from theory.problem import LinfBall
    >>> model = SpuriousAttribute(1.0, 1.0, 1.0, 1.0, core_pixels=4, spurious_pixels=9)
    >>> round(float(attack_norm(model, jnp.pi / 2, LinfBall(0.1))), 5)  # sqrt(9)
    3.0
    """
    order = norm_order(threat)
    power = 1 - 1 / order  # 1 / q
    # A flat template of l_2 norm one on k pixels has the l_q norm k^(1/q - 1/2).
    core = jnp.abs(jnp.cos(angle)) * model.core_pixels ** (power - 0.5)
    spurious = jnp.abs(jnp.sin(angle)) * model.spurious_pixels ** (power - 0.5)
    if power == 0:
        return jnp.maximum(core, spurious)
    # These without powers, whose derivatives are infinite where a template has no weight.
    if power == 1:
        both: Array = core + spurious
        return both
    if order == 2:
        return jnp.ones_like(core + spurious)
    norm: Array = (core ** (1 / power) + spurious ** (1 / power)) ** power
    return norm


def _margins(model: SpuriousAttribute, angle: Array, threat: Threat | None) -> GroupAccuracies:
    """Returns z_a and z_c, whose normal distribution function the accuracies are."""
    core, spurious = model.core * jnp.cos(angle), model.spurious * jnp.sin(angle)
    cost = 0.0 if threat is None else threat.radius * attack_norm(model, angle, threat)
    return GroupAccuracies(
        (core + spurious - cost) / model.noise, (core - spurious - cost) / model.noise
    )


@checked_arguments
def group_accuracies(
    model: SpuriousAttribute, angle: Array, threat: Threat | None = None
) -> GroupAccuracies:
    """Returns natural (no threat) or robust accuracy of each group of a rule of this angle, (...).

    Phi((m cos psi +- n sin psi - eps nu) / s), accurate relative to its size when small.

    Args:
        model: the law; its agreement does not matter.
        angle: psi in radians, (...).
        threat: an l_p ball, or None.

    References:
        moayeri2022explicit; theory document C9.

    >>> from theory.problem import L2Ball
    >>> model = SpuriousAttribute(2.0, 1.0, 1.0, 0.9)
    >>> float(group_accuracies(model, jnp.asarray(0.0), L2Ball(2.0)).conflicting)
    0.5
    """
    return GroupAccuracies(*(ndtr(z) for z in _margins(model, jnp.asarray(angle), threat)))


@checked_arguments
def attribute_risk(model: SpuriousAttribute, angle: Array, threat: Threat | None = None) -> Array:
    """Returns the natural or robust risk (1 + r) / 2 Q(z_a) + (1 - r) / 2 Q(z_c), (...).

    After a shift of the correlation pass the model with the new agreement.

    Args:
        model: the law of the images that are classified.
        angle: psi in radians, (...).
        threat: an l_p ball, or None.

    References:
        moayeri2022explicit; theory document C9.

    >>> model = SpuriousAttribute(1.0, 1.0, 1.0, 0.0)
    >>> round(float(attribute_risk(model, jnp.asarray(0.0))), 6)  # Phi(-1)
    0.158655
    """
    aligned, conflicting = _margins(model, jnp.asarray(angle), threat)
    r = model.agreement
    risk: Array = (1 + r) / 2 * ndtr(-aligned) + (1 - r) / 2 * ndtr(-conflicting)
    return risk


def _slope(model: SpuriousAttribute, angle: Array, threat: Threat, piece: _Piece) -> Array:
    """Returns the derivative of the risk in the angle, over a positive function of it.

    `piece` says what nu is: its parts in cos psi, in sin psi, and the constant one.
    """
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    k_core, k_spurious, constant = piece
    pull = model.core - threat.radius * k_core
    aligned, conflicting = (
        (
            pull * cosine
            + (sign * model.spurious - threat.radius * k_spurious) * sine
            - threat.radius * constant
        )
        / model.noise
        for sign in (1, -1)
    )
    # Densities of the two groups relative to the larger one: where both underflow, as for well
    # separated classes, the slope still has its sign, and that is all that a bracket asks for.
    log_a = jnp.log1p(model.agreement) - aligned**2 / 2
    r = model.agreement
    log_c = jnp.where(r < 1, jnp.log1p(-jnp.where(r < 1, r, 0)), -jnp.inf) - conflicting**2 / 2
    share = jax.nn.sigmoid(log_a - log_c)
    change = pull * sine + threat.radius * k_spurious * cosine
    slope: Array = change - (2 * share - 1) * model.spurious * cosine
    return slope


def _pieces(model: SpuriousAttribute, order: float) -> list[tuple[_Piece, Any, Any]]:
    """Returns where nu is one smooth function: its parts, see `_slope`, and the angles."""
    half = jnp.pi / 2
    core, spurious = model.core_pixels, model.spurious_pixels
    if order == 2:
        return [((0.0, 0.0, 1.0), 0.0, half)]
    if order == jnp.inf:
        return [((core**0.5, spurious**0.5, 0.0), 0.0, half)]
    # ||.||_inf of the rule is that of the brighter template: one below the kink, the other above.
    kink = float(np.arctan((spurious / core) ** 0.5))
    return [((core**-0.5, 0.0, 0.0), 0.0, kink), ((0.0, spurious**-0.5, 0.0), kink, half)]


@checked_arguments
def spurious_angle(model: SpuriousAttribute, threat: Threat) -> Array:
    """Returns the angle in [0, pi/2] of least robust risk among the rules without intercept, (...).

    Every sign change of the risk's slope on a fine grid is refined; of these, the ends and the
    kink of the l_1 norm, the least wins. Differentiable where that is a root. tan psi is
    (n / m) T against l_2, T = tanh(artanh r - (m cos psi - eps nu) n sin psi / s^2).

    Args:
        model: fields broadcast with the radius.
        threat: an l_1, l_2 or l_inf ball.

    Raises:
        InvalidInput: for another type or order of ball.

    References:
        moayeri2022explicit; theory document C9.

    >>> from theory.problem import L2Ball
    >>> model = SpuriousAttribute(1.0, 1.0, 1.0, 1.0)
    >>> round(float(jnp.tan(spurious_angle(model, L2Ball(0.5)))), 5)  # n / m
    1.0
    """
    order = norm_order(threat)
    if order not in (1.0, 2.0, float("inf")):
        raise InvalidInput(f"threat = {threat!r}: must be an l_1, l_2 or l_inf ball")
    fields = (*model[:4], threat.radius)
    shape = jnp.broadcast_shapes(*(jnp.shape(v) for v in fields))
    dtype = model.core.dtype
    flat = [jnp.broadcast_to(jnp.asarray(v, dtype), shape).reshape(-1) for v in fields]
    angle_of = functools.partial(
        _angle, model.core_pixels, model.spurious_pixels, type(threat), order
    )
    return jax.vmap(angle_of)(*flat).reshape(shape)


def _angle(
    core_pixels: int, spurious_pixels: int, ball: Any, order: float, *values: Array
) -> Array:
    *fields, radius = values

    def parts(*values: Array) -> tuple[SpuriousAttribute, Threat]:
        rows = SpuriousAttribute._make((*values[:4], core_pixels, spurious_pixels))
        other = (order,) if "p" in ball._fields else ()
        return rows, ball._make((values[4], *other))

    # The risk can have several minima (C9): all are found and the lowest is taken, angle zero and
    # the ends of the pieces among them.
    model, threat = parts(*fields, radius)
    candidates, pieces = [jnp.zeros(1, radius.dtype)], _pieces(model, order)
    for piece, low, high in pieces:
        ends = jnp.linspace(low, high, _CELLS // len(pieces) + 1, dtype=radius.dtype)

        def slope(x: Array, *values: Array, piece: Any = piece) -> Array:
            law, ball = parts(*values)
            return _slope(law, x, ball, piece)

        at = lax.stop_gradient(slope(ends, *values))
        # A minimum is where the slope turns from minus to plus; brackets without one are given up.
        roots = bracketed_root(slope, ends[:-1], ends[1:], *values)
        candidates += [jnp.where((at[:-1] < 0) & (at[1:] >= 0), roots, ends[-1])]
    angles = jnp.concatenate(candidates)
    log_risks = lax.stop_gradient(_log_risk(model, angles, threat))
    good = (radius >= 0) & (model.agreement >= 0) & (model.agreement <= 1)
    good = good & (model.core > 0) & (model.spurious > 0) & (model.noise > 0)
    return jnp.where(good, angles[jnp.argmin(log_risks)], jnp.nan)


def _log_risk(model: SpuriousAttribute, angle: Array, threat: Threat) -> Array:
    """Returns the logarithm of the risk, so that tiny risks can be compared."""
    aligned, conflicting = _margins(model, angle, threat)
    r = model.agreement
    rare = jnp.where(r < 1, jnp.log1p(-jnp.where(r < 1, r, 0)), -jnp.inf)
    return jnp.logaddexp(jnp.log1p(r) + log_ndtr(-aligned), rare + log_ndtr(-conflicting))


class NoiseAccuracies(NamedTuple):
    """Accuracy with extra noise on all core pixels, and with it on all the others, (...) each."""

    foreground: Array
    background: Array


@checked_arguments
def noise_accuracies(model: SpuriousAttribute, angle: Array, extra: Array) -> NoiseAccuracies:
    """Returns the accuracies of a rule with more noise on the core alone, and on the rest, (...).

    Args:
        model: the law; nothing is clipped.
        angle: of the rule, radians, (...).
        extra: standard deviation >= 0 of the noise that is added to each of those pixels, (...).

    References:
        moayeri2022rival10; theory document D2.

    >>> model = SpuriousAttribute(1.0, 1.0, 1.0, 0.0)
    >>> found = noise_accuracies(model, jnp.asarray(0.0), jnp.asarray(3.0**0.5))
    >>> [round(float(a), 6) for a in found]  # Phi(1 / 2) and Phi(1)
    [0.691462, 0.841345]
    """
    core, spurious = model.core * jnp.cos(angle), model.spurious * jnp.sin(angle)
    r = model.agreement

    def accuracy(exposed: Array) -> Array:
        spread = jnp.sqrt(model.noise**2 + (extra * exposed) ** 2)
        return (1 + r) / 2 * ndtr((core + spurious) / spread) + (1 - r) / 2 * ndtr(
            (core - spurious) / spread
        )

    return NoiseAccuracies(accuracy(jnp.cos(angle)), accuracy(jnp.sin(angle)))


@checked_arguments
def relative_foreground_sensitivity(accuracies: NoiseAccuracies) -> Array:
    """Returns RFS = (a_b - a_f) / (2 min(mean, 1 - mean)), in [-1, 1]; zero where both are 0 or 1.

    Positive when noise on the foreground, the core, does more harm than on the background.

    Args:
        accuracies: with noise on either part, in [0, 1], (...).

    References:
        moayeri2022rival10; theory document D2.

    >>> round(float(relative_foreground_sensitivity(NoiseAccuracies(0.5, 0.75))), 6)
    0.333333
    """
    foreground, background = (jnp.asarray(a) for a in accuracies)
    mean = (foreground + background) / 2
    # The largest difference that two accuracies of this mean can have.
    room = 2 * jnp.minimum(mean, 1 - mean)
    return jnp.where(room > 0, (background - foreground) / jnp.where(room > 0, room, 1), 0)
