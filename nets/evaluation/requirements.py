"""What an evaluation requires of its images, its radius and its network, said before it runs.

An attack takes any function for a network. What is none, or one whose rows see each other, would
give accuracies that look like any others; these checks cost less than one block of samples.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nets.attacks.attack import Bounds, checked
from nets.attacks.threats import NORMS, require_radius
from nets.data.pixels import to_floats
from theory.domain import InvalidInput
from theory.problem import Threat

PIXELS = (0.0, 1.0)
LEVELS = (0.0, 255.0)
# What rounding may move a probability by; the checks for masking allow as much of the logits.
_ROUNDING = 1e-3


def require_inputs(
    images: np.ndarray, labels: np.ndarray, threat: Threat, bounds: tuple[float, float]
) -> None:
    """Raises InvalidInput unless images (n, ...) lie in the bounds and labels and radius fit.

    Args:
        images: uint8, which become [0, 1], or floats.
        labels: (n,), n >= 1.
        threat: an L1Ball, L2Ball or LinfBall, no larger than the box.
        bounds: (low, high).
    """
    if labels.ndim != 1 or len(images) != len(labels) or not len(labels):
        raise InvalidInput(
            f"labels.shape = {labels.shape}: must be (n,), n >= 1, one for each of "
            f"{len(images)} images"
        )
    if images.ndim < 2 or not images.size:
        raise InvalidInput(
            f"images.shape = {images.shape}: must be (n, ...), an entry each or more"
        )
    if type(threat) not in NORMS.values():
        raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball or LinfBall")
    if np.shape(threat.radius) not in ((), labels.shape):
        raise InvalidInput(f"radius.shape = {np.shape(threat.radius)}: must be () or (n,)")
    if images.dtype == np.uint8:
        require_pixels(bounds)
    require_radius(threat, bounds, math.prod(images.shape[1:]))
    if images.dtype == np.uint8:
        return
    if not jnp.issubdtype(images.dtype, jnp.floating) or not (
        images.min() >= bounds[0] and images.max() <= bounds[1] and np.isfinite(images).all()
    ):
        raise InvalidInput(f"images: must be uint8, or floats in {list(bounds)}")
    if bounds == LEVELS and 0 < images.max() <= 1:
        raise InvalidInput(
            f"bounds = {bounds!r}: no entry of the images is above {images.max():g}, so they seem "
            "to lie in [0, 1], as then the bounds must"
        )


def require_pixels(bounds: tuple[float, float]) -> None:
    """Raises InvalidInput unless the bounds are those of uint8 images once they are floats."""
    if bounds != PIXELS:
        raise InvalidInput(
            f"bounds = {bounds!r}: uint8 images become floats in [0, 1], so bounds must be (0, 1) "
            "and a radius of N levels is N/255"
        )


def require_network(
    apply: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    images: np.ndarray,
    classes: int | None = None,
) -> int:
    """Returns the number of classes K of what is a network; nothing is computed.

    Args:
        apply: (variables, x (b, ...)) -> logits (b, K), if it is one.
        variables: of it.
        images: (b, ...).
        classes: what K must be; any number from 2 on if None.

    Raises:
        InvalidInput: for what is no network, or one of another number of classes.
    """
    if not callable(apply):
        raise InvalidInput(f"apply = {apply!r}: must be a function (variables, x) -> logits")

    def logits_of(variables: Any, images: jax.Array) -> jax.Array:
        return checked(functools.partial(apply, variables))(to_floats(images))

    shape = jax.eval_shape(logits_of, variables, images).shape
    if classes not in (None, shape[1]):
        raise InvalidInput(
            f"logits.shape = {shape}: must be ({len(images)}, {classes}), one for each of the "
            f"classes = {classes}"
        )
    return int(shape[1])


def require_finite(finite: np.ndarray) -> None:
    """Raises InvalidInput if no clean sample has finite logits; finite is bool, (n,)."""
    # Some are counted and reported; all of them are no network.
    if not finite.any():
        raise InvalidInput(
            "logits: no sample has finite ones, so every sample would count as an error; give a "
            "class that is masked a finite logit, such as -1e4 in place of -inf"
        )


def require_rows(
    probabilities_of: Callable[[list[Any]], np.ndarray],
    samples: Sequence[Any],
    bounds: Bounds,
    before: np.ndarray,
    block: int,
) -> None:
    """Raises InvalidInput if what is said of a sample depends on its batch, or changes by itself.

    One block is computed again: half of its images, each in another row, and between them images of
    the middle of the bounds, which would move any statistics of the batch.

    Args:
        probabilities_of: of keys, images, labels and radii of one block the probabilities, (b, K).
        samples: keys, images, labels and radii, (n, ...) each.
        bounds: (low, high) of the images; uint8 images become [0, 1].
        before: what was said of the samples in their own batches, (n, K).
        block: b.
    """
    kept = np.arange(min(len(before), max(block // 2, 1)))
    place, same = np.zeros(block, int), np.zeros(block, bool)
    # Sample i in row 2 i + 1; where a block is one sample, there is no other row, and no company.
    rows = (2 * kept + 1) % block
    place[rows], same[rows] = kept, True
    keys, images, labels, radius = (array[place] for array in samples)
    low, high = (end if math.isfinite(end) else 0.0 for end in bounds)
    images[~same] = 127 if images.dtype == np.uint8 else 0.5 * (low + high)
    first, second = before[kept], probabilities_of([keys, images, labels, radius])[same]
    known = np.isfinite(first) & np.isfinite(second)
    moved = np.abs(first - second)[known].max(initial=0.0)
    if moved > _ROUNDING or (np.isfinite(first) != np.isfinite(second)).any():
        raise InvalidInput(
            "apply: what it says of a sample depends on its batch, or changes from call to call (a "
            f"probability moved by {moved:.3g}): evaluate with the stored statistics of batch "
            "normalisation, and without randomness"
        )
