"""Claims of Moayeri, Banihashem and Feizi (NeurIPS 2022) on spurious features, for classification.

Only the paper's abstract could be read, so its theory is re-derived; `Source.result` says which
result of the theory document proves the sentence. What is simulated is one group of the linear
Waterbirds model: images whose spurious attribute agrees, or conflicts, with their label.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from theory import linear
from theory.claim import CLASS_RISKS, Axis, Claim, Failure, Problem, Source, register
from theory.claims.settings import EVEN, L1, L2, LINF, Norm, radius_axis
from theory.domain import POSITIVE, UNIT_INTERVAL
from theory.problem import GaussianMixture, LinearClassifier
from theory.spurious import SpuriousAttribute, group_accuracies, spurious_angle

KEY = "moayeri2022explicit"
CORE_PIXELS, SPURIOUS_PIXELS = 4, 9
CORE = 1.6
RADII = {"l1": (0.0, 0.5, 1.0, 2.0), "l2": (0.0, 0.3, 0.6, 1.0), "linf": (0.0, 0.1, 0.2, 0.3)}
AGREEMENT = Axis(
    "agreement", "agreement r of label and spurious attribute", (0.6, 0.95), UNIT_INTERVAL
)
AMPLITUDE = Axis("spurious", "amplitude of the spurious template", (0.8, 1.6, 3.2), POSITIVE)
GROUPS = {"aligned": 1, "conflicting": -1}


def _model(agreement: jax.Array, spurious: jax.Array) -> SpuriousAttribute:
    core = jnp.asarray(CORE, spurious.dtype)
    return SpuriousAttribute(
        core, spurious, jnp.ones_like(core), agreement, CORE_PIXELS, SPURIOUS_PIXELS
    )


def _group(
    norm: Norm,
    side: int,
    attacked: bool,
    radius: jax.Array,
    agreement: jax.Array,
    spurious: jax.Array,
) -> Problem:
    """Returns one group, pixel by pixel, and the rule that is trained on both at the radius."""
    templates = np.zeros((2, CORE_PIXELS + SPURIOUS_PIXELS))
    templates[0, :CORE_PIXELS] = CORE_PIXELS**-0.5
    templates[1, CORE_PIXELS:] = SPURIOUS_PIXELS**-0.5
    core, other = jnp.asarray(templates, spurious.dtype)
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

    def predict(radius: jax.Array, agreement: jax.Array, spurious: jax.Array) -> tuple:
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

    def predict(radius: jax.Array, agreement: jax.Array, spurious: jax.Array) -> tuple:
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


for _norm in (L1, L2, LINF):
    register(trained_risk(_norm, "aligned", True))
    register(trained_risk(_norm, "conflicting", False))
register(harm(L2, None))
register(
    harm(
        LINF,
        "where training turns the rule to the core: always once n r <= radius sqrt(k_S), and "
        "mostly where a spurious pixel is dimmer than a core one",
    )
)
