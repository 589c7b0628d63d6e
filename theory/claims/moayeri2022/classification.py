"""Claims of Moayeri, Banihashem and Feizi (NeurIPS 2022) on spurious features, for classification.

Only the paper's abstract could be read, so its theory is re-derived; `Source.result` says which
result of the theory document proves the sentence. What is simulated is one group of the linear
Waterbirds model: images whose spurious attribute agrees, or conflicts, with their label.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from theory.claims.claim import CLASS_RISKS, RISK, Axis, Claim, Failure, Problem, Source
from theory.claims.settings.two_classes import EVEN, L1, L2, LINF, Norm, radius_axis
from theory.domain import POSITIVE, UNIT_INTERVAL, Interval
from theory.problem import GaussianMixture, LinearClassifier
from theory.rules import risk as linear
from theory.spurious.risk import SpuriousAttribute, attribute_risk, group_accuracies, spurious_angle

KEY = "moayeri2022explicit"
CORE_PIXELS, SPURIOUS_PIXELS = 4, 9
CORE = 1.6
# As far as the attack leaves a margin: an l_inf radius moves each of the 13 pixels.
RADII = {"l1": (0.0, 0.5, 1.0, 2.0), "l2": (0.0, 0.3, 0.6, 1.0), "linf": (0.0, 0.1, 0.2, 0.3)}
AGREEMENT = Axis(
    "agreement", "agreement r of label and spurious attribute", (0.6, 0.95), UNIT_INTERVAL
)
AMPLITUDE = Axis("spurious", "amplitude of the spurious template", (0.8, 1.6, 3.2), POSITIVE)
ANGLE = Axis(
    "angle",
    "angle of the rule from the core to the spurious template, degrees",
    (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 65.0, 90.0),
    Interval(0.0, 90.0),
)
EVERY_ANGLE = {"l1": (0.0, 0.6, 1.2), "l2": (0.0, 0.6, 1.2), "linf": (0.0, 0.4, 0.8)}
# Where every angle is tried, on fewer pixels: amplitudes, noise and agreement.
TRIED, TRIED_PIXELS = (CORE, 1.6, 1.0, 0.8), (1, 4)
# The sign of the spurious template in the mean of the positive class.
GROUPS = {"aligned": 1, "conflicting": -1}


def _model(agreement: jax.Array, spurious: jax.Array) -> SpuriousAttribute:
    core = jnp.asarray(CORE, spurious.dtype)
    return SpuriousAttribute(
        core, spurious, jnp.ones_like(core), agreement, CORE_PIXELS, SPURIOUS_PIXELS
    )


def _templates(core: int, spurious: int, dtype: jnp.dtype) -> jax.Array:
    """Returns flat templates of norm one, (2, core + spurious)."""
    templates = np.zeros((2, core + spurious))
    templates[0, :core] = core**-0.5
    templates[1, core:] = spurious**-0.5
    return jnp.asarray(templates, dtype)


def _group(
    norm: Norm,
    side: int,
    attacked: bool,
    radius: jax.Array,
    agreement: jax.Array,
    spurious: jax.Array,
) -> Problem:
    """Returns one group, pixel by pixel, and the rule that is trained on both at the radius."""
    # A group holds images of both labels, one the mirror image of the other: two classes at +-mean.
    core, other = _templates(CORE_PIXELS, SPURIOUS_PIXELS, spurious.dtype)
    angle = spurious_angle(_model(agreement, spurious), norm.ball(radius))
    mean = CORE * core + side * spurious * other
    weight = jnp.cos(angle) * core + jnp.sin(angle) * other
    return Problem(
        GaussianMixture(jnp.stack([-mean, mean]), jnp.ones(2, mean.dtype), EVEN),
        LinearClassifier(weight, jnp.zeros((), mean.dtype)),
        norm.ball(radius) if attacked else None,
    )


def trained_risk(norm: Norm, group: str, attacked: bool) -> Claim:
    """Returns the claim that a group's risk under the trained rule has its closed form."""
    side, kind = GROUPS[group], "robust" if attacked else "natural"

    def predict(
        radius: jax.Array, agreement: jax.Array, spurious: jax.Array
    ) -> tuple[jax.Array, ...]:
        model, ball = _model(agreement, spurious), norm.ball(radius)
        angle = spurious_angle(model, ball)
        error = 1 - getattr(group_accuracies(model, angle, ball if attacked else None), group)
        return error, error

    return Claim(
        name=f"spurious-{group}-{kind}-risk-{norm.name}",
        statement=f"Adversarial training against {norm.name} gives the group of {group} "
        f"attribute the {kind} risk Q((m cos psi {'+' if side > 0 else '-'} n sin psi"
        f"{' - radius ||w||_q' if attacked else ''}) / s), psi the optimal angle.",
        source=Source(KEY, "C9"),
        axes=(radius_axis(*RADII[norm.name]), AGREEMENT, AMPLITUDE),
        problem=functools.partial(_group, norm, side, attacked),
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=("core template on 4 pixels, spurious on 9", "no intercept"),
    )


def harm(norm: Norm, where: str | None) -> Claim:
    """Returns the claim that adversarial training costs the conflicting group natural accuracy."""

    def predict(
        radius: jax.Array, agreement: jax.Array, spurious: jax.Array
    ) -> tuple[jax.Array, ...]:
        # The group under the rule that is trained without an attack.
        return tuple(
            linear.class_risks(
                *_group(norm, -1, False, jnp.zeros_like(radius), agreement, spurious)
            )
        )

    return Claim(
        name=f"robustness-costs-conflicting-group-{norm.name}",
        statement=f"Adversarial training against {norm.name} raises the natural risk where the "
        "spurious attribute conflicts with the label.",
        source=Source(KEY, "C9, the paper's claims (i) and (iii)"),
        axes=(radius_axis(*RADII[norm.name]), AGREEMENT, AMPLITUDE),
        problem=functools.partial(_group, norm, -1, False),
        predict=predict,
        relation=">=",
        estimand=CLASS_RISKS,
        assumptions=("core template on 4 pixels, spurious on 9", "no intercept"),
        fails=None if where is None else Failure(where),
    )


def tried(dtype: jnp.dtype) -> SpuriousAttribute:
    """Returns the model in which every angle is tried."""
    core, spurious, noise, agreement = (jnp.asarray(value, dtype) for value in TRIED)
    return SpuriousAttribute(core, spurious, noise, agreement, *TRIED_PIXELS)


def best_angle(norm: Norm) -> Claim:
    """Returns the claim that no angle has less robust risk than the one in closed form.

    What is simulated has the aligned group for its positive class and, turned over, the conflicting
    one for its negative class: without intercept that is the risk over images of both.
    """

    def problem(angle: jax.Array, radius: jax.Array) -> Problem:
        model = tried(angle.dtype)
        core, other = _templates(*TRIED_PIXELS, angle.dtype)
        turned = jnp.deg2rad(angle)
        inside, around = model.core * core, model.spurious * other
        means = jnp.stack([around - inside, around + inside])
        weight = jnp.cos(turned) * core + jnp.sin(turned) * other
        return Problem(
            GaussianMixture(means, jnp.ones(2, angle.dtype), (1 + model.agreement) / 2),
            LinearClassifier(weight, jnp.zeros((), angle.dtype)),
            norm.ball(radius),
        )

    def predict(angle: jax.Array, radius: jax.Array) -> tuple[jax.Array]:
        model, ball = tried(angle.dtype), norm.ball(radius)
        return (attribute_risk(model, spurious_angle(model, ball), ball) + 0 * angle,)

    return Claim(
        name=f"spurious-best-angle-{norm.name}",
        statement=f"Under {norm.name} attacks no angle towards the spurious template has less "
        "robust risk than the best one in closed form, tan psi = (n / m) T against l_2.",
        source=Source(KEY, "C9"),
        axes=(ANGLE, radius_axis(*EVERY_ANGLE[norm.name])),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=RISK,
        assumptions=("core template on 1 pixel, spurious on 4, agreement 0.8", "no intercept"),
    )


CLAIMS = (
    *(
        claim
        for norm in (L1, L2, LINF)
        for claim in (
            best_angle(norm),
            trained_risk(norm, "aligned", True),
            trained_risk(norm, "conflicting", False),
        )
    ),
    harm(L2, None),
    harm(
        LINF,
        "where training turns the rule to the core: always once n r <= radius sqrt(k_S), and "
        "mostly where a spurious pixel is dimmer than a core one",
    ),
)
