"""The checks for gradient masking of a network that is evaluated: on its first samples, in words.

An evaluation by attacks bounds robust accuracy from above. Where gradients are masked the bound is
far too high, and nothing in the accuracies says so; these checks do (`nets.attacks.masking`).
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.tree_util import Partial

from nets.attacks.attack import Target, keys_of
from nets.attacks.masking import MaskingMeasurements, MaskingReport, masking_report, measure
from nets.compute.compiler import by_program, jit, settled
from nets.data.pixels import to_floats
from nets.evaluation.per_class import require_labels
from nets.evaluation.requirements import PIXELS, require_inputs, require_network
from theory.domain import InvalidInput
from theory.problem import Threat

# Enough to see the limits of the checks, of which the smallest is 2 %.
SAMPLES = 100
# The randomness of the checks is that of no attack, whose salts are made of their names too.
SALT = np.uint32(zlib.crc32(b"masking"))


class MaskingFindings(NamedTuple):
    """What the checks found, and on what.

    Args:
        report: the checks, and which of them were raised.
        samples: that were looked at.
        correct: those of them that are classified correctly, of which most checks speak.
    """

    report: MaskingReport
    samples: int
    correct: int


def check_masking(
    key: jax.Array,
    apply: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    images: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
) -> MaskingFindings:
    """Returns what the checks for gradient masking say of a network, on its first samples.

    Args:
        key: a typed key, ().
        apply: (variables, x (b, ...)) -> logits (b, K), in evaluation mode; traced anew at every
            call, but for networks of this package.
        variables: of the network.
        images: uint8 (n, h, w, c), which become [0, 1], or floats in [0, 1]; n >= 2.
        labels: in [0, K), (n,).
        threat: an L1Ball, L2Ball or LinfBall with a radius above 0, ().

    Raises:
        InvalidInput: naming the argument; also for a radius of 0, at which no check can tell masked
            gradients from honest ones.

    References: athalye2018obfuscated, carlini2019evaluating.
    """
    images, labels = np.asarray(images[:SAMPLES]), np.asarray(labels[:SAMPLES])
    require_inputs(images, labels, threat, PIXELS)
    require_checkable(threat, len(labels))
    require_labels(labels, require_network(apply, variables, images))
    keys_of(key, len(labels))
    x, y = to_floats(jnp.asarray(images)), labels.astype(np.int32)
    # As in `nets.evaluation.outcomes`: what is not ours may be another network by now.
    compute: Callable[..., MaskingMeasurements] = functools.partial(_measured, apply)
    if not settled(apply) or isinstance(variables, Partial):
        compute = by_program(functools.partial(_measure, apply))
    measured = compute(variables, jax.random.fold_in(key, SALT), x, y, threat)
    return MaskingFindings(masking_report(measured), len(y), int(measured.correct))


def require_checkable(threat: Threat, count: int) -> None:
    """Raises InvalidInput unless there are samples enough to check, and one radius above 0.

    Args:
        threat: a ball.
        count: samples, n.
    """
    if count < 2 or np.ndim(threat.radius):
        raise InvalidInput(
            f"masking: needs 2 samples or more and one radius, has {count} and "
            f"{np.size(threat.radius)}"
        )
    if not (radius := float(threat.radius)) > 0:
        raise InvalidInput(f"masking: the radius must be above 0 for these checks, is {radius:g}")


def _measure(
    apply: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    key: jax.Array,
    x: jax.Array,
    y: jax.Array,
    threat: Threat,
) -> MaskingMeasurements:
    # As a Partial, so that the parameters are arguments of what is compiled and not constants.
    return measure(key, Partial(apply, variables), Target(x, y, threat))


_measured = jit(_measure, static_argnums=0)


def masking_variables(findings: MaskingFindings) -> xr.Dataset:
    """Returns what the file of an evaluation keeps of the checks.

    The limits and the advice are kept beside the numbers: a file then says the same for good,
    whatever later versions hold of it.

    Returns:
        `masking`, `masking_limit` and `masking_advice` (check); as attributes the numbers of
        samples and of those that are classified correctly.
    """
    checks = findings.report.checks
    return xr.Dataset(
        {
            "masking": ("check", [check.value for check in checks]),
            "masking_limit": ("check", [check.limit for check in checks]),
            "masking_advice": ("check", [check.advice for check in checks]),
        },
        coords={"check": [check.name for check in checks]},
        attrs={"masking_samples": findings.samples, "masking_correct": findings.correct},
    )


def masking_lines(dataset: xr.Dataset) -> list[str]:
    """Returns in plain words what the checks in an evaluation say; nothing where none were made."""
    # Files of earlier versions, and evaluations that did not ask for the checks.
    if "masking" not in dataset:
        return []
    on = f"{dataset.masking_samples} samples, {dataset.masking_correct} of them correct"
    # Not "above the limit": a number that is nan has failed too.
    raised = ~(dataset["masking"] <= dataset["masking_limit"]).values
    if not raised.any():
        return [f"gradient masking: no sign of it in {len(raised)} checks on {on}"]
    lines = [
        f"gradient masking: {raised.sum()} of {len(raised)} checks on {on}, say that the robust "
        "accuracy above may be too high"
    ]
    for name in dataset["check"].values[raised]:
        check = dataset.sel(check=name)
        value, limit = float(check["masking"]), float(check["masking_limit"])
        advice = str(check["masking_advice"].values)
        lines.append(f"  {advice} ({name} = {value:.3g}, limit {limit:g})")
    return lines
