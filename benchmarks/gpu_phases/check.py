"""The numbers of the accelerator against those of the CPU, in one process.

A side takes a function and its arguments and returns NumPy arrays, computed on its device. All
labels under attack are what the network says, and the radii rise from sample to sample from almost
nothing, so that the flags of every attack are mixed.
"""

import functools
import os
import typing
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nets.attacks.apgd import apgd
from nets.attacks.attack import Target
from nets.attacks.gradient import pgd
from nets.attacks.losses import cross_entropy
from nets.models import registry as models
from nets.models.conv import conv
from theory.problem import LinfBall

Side = Callable[..., Any]
RADIUS = 0.3  # of the last sample
# Images of a convolution, channels in and out, size of the kernel, stride.
CONVOLUTIONS = (
    (8, 32, 16, 32, 3, 1),
    (8, 32, 16, 32, 3, 2),
    (8, 31, 8, 8, 5, 2),
    (8, 16, 16, 8, 1, 2),
)
# Float32 rounds in another order on each device: sums of up to 5,000 products err by about 1e-6 of
# their size, 20 layers by some times that.
BOUNDS = {"conv": 1e-5, "logits": 1e-4}
# A unit near zero that is on here and off there changes a gradient wholly, so that the error of a
# gradient goes with the root of the rounding: bf16 rounds 2^16 times as coarsely as float32, and of
# the root, 256, a sixteenth is left to the order of sums. bf16 itself must err from float32 at most
# so many times as it does on the CPU.
FINER, TIMES = 1 / 16, 3.0
DISAGREE, LOSS = 0.02, 1e-4


class PhaseCheck(NamedTuple):
    """One comparison.

    Args:
        name: of what was compared.
        difference: found.
        bound: that it must not exceed; None for what is only reported.
    """

    name: str
    difference: float
    bound: float | None

    @property
    def held(self) -> bool:
        """Whether the difference is finite and within its bound."""
        within = self.bound is None or self.difference <= self.bound
        return bool(np.isfinite(self.difference) and within)


def side(device: jax.Device) -> Side:
    """Returns the side of a device."""

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        return jax.device_get(jax.jit(function)(*jax.device_put(arguments, device)))

    return run


def correctness(
    device: Side,
    cpu: Side,
    images: np.ndarray,
    options: Mapping[str, Any],
    small: Mapping[str, Any],
    counts: tuple[int, int, int, int],
) -> list[PhaseCheck]:
    """Returns every comparison of the two sides.

    Both compile side by side, as much at once as there are cores.

    Args:
        device, cpu: the sides.
        images: uint8 (n, h, w, c).
        options: of the PreActResNet-18.
        small: of the small network of Auto-PGD.
        counts: images for logits and gradients, for PGD-10, for Auto-PGD, and its steps.
    """
    few, several, many, steps = counts
    x = np.asarray(images[: max(counts[:3])], np.float32) / np.float32(255)
    exact, short = (
        models.build("preact-resnet-18", 10, **{**options, "kernels": "he-in", "dtype": dtype})
        for dtype in ("float32", "bfloat16")
    )
    plain = models.build("small-cnn", 10, **small)
    deep, shallow = (_random(module, x.shape[1:]) for module in (exact, plain))
    pairs = _pairs(several), _pairs(many)
    tasks = [
        (device, _ours, _kernels()),
        (cpu, _theirs, _kernels()),
        *(
            (s, functools.partial(_slopes, m), deep, x[:few])
            for m in (exact, short)
            for s in (device, cpu)
        ),
        *((s, functools.partial(_pgd, exact), deep, *pairs[0], x[:several]) for s in (device, cpu)),
        *(
            (s, functools.partial(_apgd, plain, steps), shallow, *pairs[1], x[:many])
            for s in (device, cpu)
        ),
    ]
    with ThreadPoolExecutor(min(len(tasks), os.cpu_count() or 1)) as pool:
        results = list(pool.map(_precisely, tasks))
    return [
        *_convolutions(*results[:2]),
        *_outputs(*results[2:6]),
        *_flags("PGD-10", *results[6:8]),
        *_flags("Auto-PGD", *results[8:]),
    ]


def _precisely(task: tuple[Any, ...]) -> Any:
    """Returns what a side finds, where float32 is not rounded to fewer bits."""
    run, *arguments = task
    with jax.default_matmul_precision("highest"):
        return run(*arguments)


def _random(module: Any, shape: tuple[int, ...]) -> Any:
    """Returns random variables, those of batch normalisation too."""
    key, draw = jax.random.key(0), np.random.default_rng(0)
    start = models.initialise(key, module, typing.cast(tuple[int, int, int], shape))

    def changed(path: tuple[Any, ...], value: Any) -> np.ndarray:
        array, name = np.asarray(value), path[-1].key
        if name in ("var", "scale"):
            return draw.uniform(0.5, 1.5, array.shape).astype(np.float32)
        if name in ("mean", "bias"):
            return draw.normal(0, 0.1, array.shape).astype(np.float32)
        return array

    return jax.tree_util.tree_map_with_path(changed, dict(start))


def _slopes(module: Any, variables: Any, x: jax.Array) -> Any:
    """Returns logits, and the gradients for the pixels of the cross entropy of class 0."""

    def loss(points: jax.Array) -> Any:
        logits = module.apply(variables, points)
        return jnp.sum(cross_entropy(logits, jnp.zeros(len(x), jnp.int32))), logits

    slope, logits = jax.grad(loss, has_aux=True)(x)
    return logits, slope


def _outputs(ours: Any, theirs: Any, quick: Any, coarse: Any) -> list[PhaseCheck]:
    """Compares logits and gradients of device and CPU, in float32 and in bf16."""
    found = []
    for name, one, wanted, two, other in zip(
        ("logits", "gradients"), ours, theirs, quick, coarse, strict=True
    ):
        gap, error = relative(one, wanted), relative(other, wanted)
        bound = BOUNDS["logits"] if name == "logits" else FINER * error
        found.append(PhaseCheck(f"{name} float32", gap, bound))
        found.append(PhaseCheck(f"{name} bf16 from float32", relative(two, wanted), TIMES * error))
    return found


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the Euclidean length of the difference over that of what is wanted."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _pairs(count: int) -> tuple[Any, np.ndarray]:
    """Returns keys, and radii that rise from almost nothing."""
    keys = jax.random.split(jax.random.key(2), count)
    return keys, (RADIUS * np.logspace(-5, 0, count)).astype(np.float32)


def _pgd(module: Any, variables: Any, keys: Any, radius: Any, x: jax.Array) -> Any:
    return _attacked(functools.partial(pgd, steps=10), module, variables, keys, radius, x)


def _apgd(module: Any, steps: int, variables: Any, keys: Any, radius: Any, x: jax.Array) -> Any:
    return _attacked(functools.partial(apgd, steps=steps), module, variables, keys, radius, x)


def _attacked(
    attack: Any, module: Any, variables: Any, keys: Any, radius: Any, x: jax.Array
) -> Any:
    """Returns what the network says, whether the attack changes that, and its loss."""

    def logits(points: jax.Array) -> jax.Array:
        return module.apply(variables, points)

    predicted = jnp.argmax(logits(x), -1).astype(jnp.int32)
    result = attack(keys, logits, Target(x, predicted, LinfBall(radius)))
    return predicted, result.success, result.loss


def _flags(name: str, ours: Any, theirs: Any) -> list[PhaseCheck]:
    """Compares what an attack finds: one sample may stand at its threshold, or 2 % of them."""
    (predicted, broken, loss), (wanted, flags, reference) = ours, theirs
    size = np.maximum(1, np.abs(reference))
    differ = (predicted != wanted) | (broken != flags)
    return [
        PhaseCheck(f"{name} flags that differ", float(np.mean(differ)), _few(len(flags))),
        PhaseCheck(f"{name} flags all alike", float(flags.all() or not flags.any()), 0.0),
        PhaseCheck(f"{name} median loss", float(np.median(np.abs(loss - reference) / size)), LOSS),
    ]


def _few(count: int) -> float:
    return max(DISAGREE, 1 / count)


def _kernels() -> list[list[np.ndarray]]:
    """Returns images and a kernel for each convolution."""
    draw, found = np.random.default_rng(0), []
    for n, size, channels, out, width, _ in CONVOLUTIONS:
        shapes = (n, size, size, channels), (width, width, channels, out)
        found.append([draw.standard_normal(shape, np.float32) for shape in shapes])
    return found


def _convolutions(ours: Any, theirs: Any) -> list[PhaseCheck]:
    """Compares `nets.models.conv.conv` and its gradients with XLA's own on the CPU."""
    parts = ("forward", "input gradient", "kernel gradient")
    gaps = [
        [relative(*pair) for pair in zip(*both, strict=True)]
        for both in zip(ours, theirs, strict=True)
    ]
    return [
        PhaseCheck(f"conv {part}", max(row[k] for row in gaps), BOUNDS["conv"])
        for k, part in enumerate(parts)
    ]


def _ours(arguments: Any) -> Any:
    return _with_gradients(arguments, lambda x, kernel, stride, pad: conv(x, kernel, stride, pad))


def _theirs(arguments: Any) -> Any:
    def plain(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> jax.Array:
        layout = ("NHWC", "HWIO", "NHWC")
        pads = [(pad, pad)] * 2
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=layout
        )

    return _with_gradients(arguments, plain)


def _with_gradients(arguments: Any, convolve: Callable[..., jax.Array]) -> Any:
    found = []
    for (x, kernel), (*_, width, stride) in zip(arguments, CONVOLUTIONS, strict=True):
        both = functools.partial(convolve, stride=stride, pad=width // 2)
        y, back = jax.vjp(both, x, kernel)
        # A fixed function of the result stands for the gradient that comes from above.
        found.append((y, *back(jnp.cos(y))))
    return found
