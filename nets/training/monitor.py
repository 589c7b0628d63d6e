"""What is measured between epochs: clean and attacked accuracy of fixed images, class by class.

One small attack, projected gradient steps of a quarter of the radius, with fixed random numbers for
each image; it is for watching and selecting, not for results, which `nets.evaluation.outcomes`
gives.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from nets.attacks.ball import random_start
from nets.attacks.gradient import ascend
from nets.attacks.losses import cross_entropy, misclassified
from nets.compute.blocks import over_blocks
from nets.compute.compiler import jit
from nets.data.load import Images
from nets.data.pixels import to_floats
from nets.fairness.statistics import Statistics
from nets.objectives.inner_attack import Apply, InnerAttack, Variables, evaluating
from nets.objectives.losses import Objective
from theory.problem import Threat

BLOCK = 128
BOUNDS = (0.0, 1.0)
# Steps of the attack on held-out images; those on the probe are in `nets.training.collapse`.
HELD_OUT_STEPS = 10


class ClassCorrect(NamedTuple):
    """How many images of each class there are, and how many are correct, int64 (K,) each.

    Args:
        samples: of the class.
        clean: correct without attack.
        robust: correct without attack and under it.
    """

    samples: npt.NDArray[np.int64]
    clean: npt.NDArray[np.int64]
    robust: npt.NDArray[np.int64]


class Monitor(NamedTuple):
    """Functions compiled once: see `make_monitor`.

    Args:
        judge: from what images share, pixels (B, height, width, channels), labels (B,) and
            their numbers (B,) whether they are correct without and under attack, bool, (B,) each.
        losses: likewise the training objective of each image, (B,).
        classes: K.
        seed: of the random numbers of the attack; what is compiled does not depend on it.
        devices: where to compute, see `nets.compute.blocks.over_blocks`.
    """

    judge: Callable[..., Any]
    losses: Callable[..., Any]
    classes: int
    seed: int = 0
    devices: tuple[jax.Device, ...] | None = None


def make_monitor(
    apply: Apply,
    objective: Objective,
    inner: InnerAttack | None,
    threat: Threat,
    classes: int,
    seed: int,
) -> Monitor:
    """Returns what measures a network; nothing is compiled before it is used.

    Args:
        apply: the network; always called in evaluation mode.
        objective, inner: what training lowers, for `held_out_statistics`.
        threat: of the attack.
        classes: K.
        seed: of the random numbers of the attack.
    """

    def judge(shared: Any, pixels: jax.Array, y: jax.Array, index: jax.Array) -> Any:
        variables, steps, seed = shared
        x = to_floats(pixels)

        def logits(points: jax.Array) -> jax.Array:
            return apply(variables, points, False)[0]

        def harm(points: jax.Array) -> jax.Array:
            return cross_entropy(logits(points), y)

        # A key for each image, by its number among all of them: what is said of it depends neither
        # on the block in which it is computed nor on the epoch, so that epochs compare.
        begin = random_start(threat, _keys(seed, index), x, BOUNDS)
        points = ascend(harm, begin, x, threat, BOUNDS, steps=steps)
        clean = ~misclassified(logits(x), y)
        # Correct under attack is correct without it, too: the attack may move an image into its
        # class.
        return clean, clean & ~misclassified(logits(points), y)

    def losses(shared: Any, pixels: jax.Array, y: jax.Array, index: jax.Array) -> Any:
        variables, seed = shared
        keys = _keys(seed, index)
        _, outcome = objective(keys, evaluating(apply), variables, to_floats(pixels), y, inner)
        return outcome.losses

    return Monitor(jit(judge), jit(losses), classes, seed)


def _keys(seed: jax.Array, index: jax.Array) -> jax.Array:
    """Returns a key for each image, (B,), from its number, (B,)."""
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


def count_correct(
    monitor: Monitor, variables: Variables, images: Images, steps: int
) -> ClassCorrect:
    """Returns how many images of each class are correct, without and under attack.

    Args:
        monitor: from `make_monitor`.
        variables: of the network.
        images: any number.
        steps: of the attack.
    """
    # The steps are traced, so that one program serves the probe and the held-out images.
    shared = variables, jnp.asarray(steps, jnp.int32), np.uint32(monitor.seed)
    clean, robust = _over(monitor, monitor.judge, shared, images)
    count = functools.partial(np.bincount, minlength=monitor.classes)
    return ClassCorrect(
        *(count(labels) for labels in (images.labels, images.labels[clean], images.labels[robust]))
    )


def held_out_statistics(
    monitor: Monitor, variables: Variables, images: Images, counts: ClassCorrect, with_losses: bool
) -> Statistics:
    """Returns what a fairness method learns from held-out images; nan for a class without any.

    Args:
        monitor, variables, images: as in `count_correct`.
        counts: what `count_correct` returned for them.
        with_losses: whether the method needs the training objective of each class.
    """
    # 0 / 0 for a class without images: `nets.fairness.method` refuses the nan by the class's name.
    with np.errstate(invalid="ignore"):
        clean, robust = (1 - correct / counts.samples for correct in (counts.clean, counts.robust))
    means = _mean_losses(monitor, variables, images, counts) if with_losses else None
    return Statistics(
        clean_errors=jnp.asarray(clean, jnp.float32),
        robust_errors=jnp.asarray(robust, jnp.float32),
        held_out_losses=means,
    )


def _mean_losses(
    monitor: Monitor, variables: Variables, images: Images, counts: ClassCorrect
) -> jax.Array:
    """Returns the mean training objective of each class and, last, of all images, (K + 1,)."""
    shared = variables, np.uint32(monitor.seed)
    # Added up on the host, in float64 and in the order of the images.
    each = _over(monitor, monitor.losses, shared, images).astype(np.float64)
    totals = np.bincount(images.labels, each, minlength=monitor.classes)
    with np.errstate(invalid="ignore"):
        return jnp.asarray(np.append(totals / counts.samples, np.mean(each)), jnp.float32)


def _over(monitor: Monitor, function: Callable[..., Any], shared: Any, images: Images) -> Any:
    numbers = np.arange(len(images.labels), dtype=np.uint32)
    samples = (images.images, images.labels, numbers)
    return over_blocks(function, shared, samples, block=BLOCK, devices=monitor.devices)
