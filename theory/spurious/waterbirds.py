"""What training makes of a spurious attribute in the linear Waterbirds model, in one report.

Accuracies of the groups with and without the attack, where the weight lies, and what happens when
the background is exchanged, drowned in noise, or no longer goes with the label: the measurements
that are made of networks, here of a rule whose accuracies are known (theory document C9, D2, D3).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from theory.numerics.arguments import checked_arguments
from theory.problem import L1Ball, L2Ball, LinfBall, Threat
from theory.spurious.report import (
    GroupReport,
    Reliance,
    background_gap,
    effective_robustness,
    group_report,
    weight_reliance,
)
from theory.spurious.risk import (
    GroupAccuracies,
    SpuriousAttribute,
    attribute_risk,
    group_accuracies,
    noise_accuracies,
    relative_foreground_sensitivity,
    spurious_angle,
)

# Angles of the rules that say what accuracy after the shift a clean accuracy makes one expect.
_REFERENCES = 31


class WaterbirdsReport(NamedTuple):
    """How far a rule relies on the spurious attribute; scalars, (), unless said otherwise.

    Args:
        angle: of the rule from the core to the spurious template, radians.
        weights: the `Reliance` of its weights, pixel by pixel.
        clean, attacked: the `GroupReport` without and with the threat, all groups counted alike.
        accuracy, robust_accuracy: over images of the law, whose groups are not of one size.
        background: accuracy with backgrounds of the same class minus that with random ones.
        sensitivity: relative foreground sensitivity to added noise, in [-1, 1].
        effective: by how much the accuracy without any correlation exceeds that of unattacked
            rules of the same clean accuracy.
    """

    angle: Array
    weights: Reliance
    clean: GroupReport
    attacked: GroupReport
    accuracy: Array
    robust_accuracy: Array
    background: Array
    sensitivity: Array
    effective: Array


def _by_group(accuracies: GroupAccuracies) -> GroupReport:
    """Returns the report of four groups of one image each, right with these probabilities."""
    aligned, conflicting = accuracies
    correct = jnp.stack([aligned, conflicting, conflicting, aligned])
    return group_report(correct, jnp.asarray([-1, -1, 1, 1]), jnp.asarray([-1, 1, -1, 1]))


def _pixels(model: SpuriousAttribute, angle: Array) -> tuple[Array, Array]:
    """Returns the weight of each pixel of a rule, and whether it is a core one, (pixels,) each."""
    core = jnp.arange(model.core_pixels + model.spurious_pixels) < model.core_pixels
    inside = jnp.cos(angle) * model.core_pixels**-0.5
    outside = jnp.sin(angle) * model.spurious_pixels**-0.5
    return jnp.where(core, inside, outside), core


@checked_arguments
def ball(norm: str, radius: float) -> Threat:
    """Returns the ball of a radius in one of the norms "l1", "l2" and "linf"."""
    size = jnp.asarray(radius)
    balls: dict[str, Threat] = {"l1": L1Ball(size), "l2": L2Ball(size), "linf": LinfBall(size)}
    return balls[norm]


@checked_arguments
def waterbirds_report(
    model: SpuriousAttribute, threat: Threat, attack: Threat, extra: Array
) -> WaterbirdsReport:
    """Returns the report on the rule of least robust risk against `threat`.

    Args:
        model: the law that it is trained on, fields ().
        threat: an l_1, l_2 or l_inf ball that it is trained against; radius 0 is natural training.
        attack: the ball that its robust accuracy is measured against.
        extra: standard deviation >= 0 of the noise that is added to core or other pixels, ().

    Raises:
        InvalidInput: for another type or order of ball to train against.

    References:
        moayeri2022explicit; moayeri2022rival10; taori2020measuring; theory document C9, D2, D3.

    >>> from theory.problem import L2Ball
    >>> model = SpuriousAttribute(1.0, 1.0, 1.0, 1.0)  # the attribute is the label: no reason to
    >>> report = waterbirds_report(model, L2Ball(0.0), L2Ball(0.0), jnp.asarray(1.0))
    >>> round(float(report.angle), 4), round(float(report.weights.share), 4)  # prefer either
    (0.7854, 0.5)
    """
    angle = spurious_angle(model, threat)
    natural, uncorrelated = group_accuracies(model, angle), model._replace(agreement=0 * extra)
    # The ends are left out: a rule on one template alone may have the accuracy 0 or 1 by rounding.
    others = jnp.linspace(0, jnp.pi / 2, _REFERENCES + 2, dtype=angle.dtype)[1:-1]
    return WaterbirdsReport(
        angle=angle,
        weights=weight_reliance(*_pixels(model, angle)),
        clean=_by_group(natural),
        attacked=_by_group(group_accuracies(model, angle, attack)),
        accuracy=1 - attribute_risk(model, angle),
        robust_accuracy=1 - attribute_risk(model, angle, attack),
        # A random background agrees with the label every other time.
        background=background_gap(natural.aligned, (natural.aligned + natural.conflicting) / 2),
        sensitivity=relative_foreground_sensitivity(noise_accuracies(model, angle, extra)),
        effective=effective_robustness(
            1 - attribute_risk(model, angle),
            1 - attribute_risk(uncorrelated, angle),
            1 - attribute_risk(model, others),
            1 - attribute_risk(uncorrelated, others),
        ),
    )
