"""Floating-point operations of a network and of a step, and how many of them a second is worth.

Twice the multiply-adds count, those with padding included, and nothing that is not a convolution or
a product of matrices. A forward pass of one image is one unit, as is each of its two gradients. A
step of PGD-AT with K attack steps takes 2 K + 3 units an image, one of TRADES 2 K + 7.
"""

import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from nets.configs.settings import Config
from nets.experiment.prepare import Experiment
from nets.training import epoch as training_epoch

NOMINAL = 790e12  # bf16 products of random 8192 x 8192 matrices on an H200, a second
EXTRA_UNITS = {"pgd": 3, "trades": 7}


def forward_flop(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns the operations of one call of a function of arrays or of their shapes."""
    return _flop(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flop(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = equation.params["dimension_numbers"].rhs_spec[0]
        return 2 * math.prod(out.shape) * math.prod(kernel) // kernel[outputs]
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        summed = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * math.prod(out.shape) * summed
    if name in ("while", "cond", "scan"):
        raise ValueError(f"{name}: how often it runs is not known")
    inner = (getattr(value, "jaxpr", value) for value in equation.params.values())
    return sum(_flop(part) for part in inner if hasattr(part, "eqns"))


def image_flop(prepared: Experiment) -> int:
    """Returns the operations of a forward pass of one image."""
    shape = prepared.data.train.images.shape[1:]
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return forward_flop(prepared.network.apply, prepared.fresh.chosen, image)


def step_flop(prepared: Experiment) -> int:
    """Returns the operations of a training step."""
    inner = prepared.training.spec.inner
    units = 2 * (inner.steps if inner else 0) + EXTRA_UNITS[prepared.config.objective.name]
    return units * image_flop(prepared) * prepared.config.optimisation.batch


def matmul_rate(size: int, calls: int = 10, rounds: int = 5) -> float:
    """Returns the operations a second of bf16 products of random square matrices: the median."""
    one, two = jax.random.normal(jax.random.key(0), (2, size, size), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(one, two))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready([product(one, two) for _ in range(calls)])
        times.append(time.perf_counter() - began)
    return calls * 2 * size**3 / float(np.median(times))


class Stepper:
    """The trainer's own step of an experiment, called on batch after batch.

    Attributes:
        compilation: seconds of the first call.
    """

    def __init__(self, prepared: Experiment) -> None:
        training, config = prepared.training.images.train, prepared.config
        # A copy, so that the training can still begin from the first state.
        self.prepared, self.state = prepared, jax.tree.map(jnp.copy, prepared.fresh.state)
        self.data = jnp.asarray(training.images), jnp.asarray(training.labels)
        self.batches = self._endless(len(training.labels), config)
        began = time.perf_counter()
        self.run(1)
        self.compilation = time.perf_counter() - began

    def _endless(self, count: int, config: Config) -> Iterator[np.ndarray]:
        epoch = 0
        while True:
            epoch += 1
            yield from training_epoch.batches(
                config.optimisation.seed, epoch, count, config.optimisation.batch
            )

    def run(self, steps: int) -> float:
        """Returns the seconds of so many steps."""
        began = time.perf_counter()
        seed = self.prepared.config.optimisation.seed
        for number in range(steps):
            moment = map(np.uint32, (1, number, seed))
            self.state, _ = self.prepared.training.step(
                self.state, *self.data, next(self.batches), *moment
            )
        jax.block_until_ready(self.state)
        return time.perf_counter() - began


def utilisation(stepper: Stepper, steps: int, rounds: int, peak: float) -> dict[str, Any]:
    """Returns a row of the table: median seconds of a step, and the share of the peaks it reaches.

    Args:
        stepper: of the experiment.
        steps: in a block that is timed together.
        rounds: blocks.
        peak: operations a second, measured.
    """
    times = [stepper.run(steps) / steps for _ in range(rounds)]
    seconds, flop = float(np.median(times)), step_flop(stepper.prepared)
    return {
        "batch": stepper.prepared.config.optimisation.batch,
        "compilation_s": round(stepper.compilation, 3),
        "step_s": seconds,
        "step_s_least_most": [min(times), max(times)],
        "images_a_second": stepper.prepared.config.optimisation.batch / seconds,
        "step_flop": flop,
        "flop_a_second": flop / seconds,
        "mfu_measured": flop / seconds / peak,
        "mfu_nominal": flop / seconds / NOMINAL,
    }


def torch_ratio(stepper: Stepper, rounds: int, device: str) -> dict[str, Any]:
    """Returns how many times as long as the trainer's step PyTorch takes for its part of it.

    PyTorch runs eagerly, channels last, in bf16 by autocast: attack from a uniform start and SGD
    update, no crops, no average. Both take turns; medians of the ratios of single rounds.

    Args:
        stepper: of PreActResNet-18 at full width.
        rounds: of both.
        device: of PyTorch.

    Raises:
        ImportError: without torch.
    """
    import torch

    config = stepper.prepared.config
    peer = _peer(config.optimisation.batch)
    model = peer.PreActResNet18()
    weights = peer.torch_weights(jax.device_get(stepper.prepared.fresh.chosen), {})
    unlike = set(model.state_dict()) ^ set(weights)
    if not all(name.endswith("num_batches_tracked") for name in unlike):
        raise ValueError(f"the networks differ in {sorted(unlike)}")
    model.load_state_dict(weights, strict=False)
    model = model.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images = stepper.prepared.data.train
    pixels = torch.from_numpy(np.moveaxis(images.images[: config.optimisation.batch], 3, 1).copy())
    x = (pixels.float() / 255).to(device, memory_format=torch.channels_last)
    y = torch.from_numpy(np.asarray(images.labels[: config.optimisation.batch], np.int64)).to(
        device
    )
    inner = stepper.prepared.training.spec.inner
    steps = inner.steps if inner else 0

    def once() -> float:
        began = time.perf_counter()
        _torch_step(torch, model, optimiser, x, y, config.objective.radius, steps)
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()
    once()
    pairs = [(once(), stepper.run(1)) for _ in range(rounds)]
    ratios = [theirs / ours for theirs, ours in pairs]
    return {
        "batch": config.optimisation.batch,
        "version": torch.__version__,
        "step_s": float(np.median([theirs for theirs, _ in pairs])),
        "ours_step_s": float(np.median([ours for _, ours in pairs])),
        "ratio": float(np.median(ratios)),
        "rounds": rounds,
    }


def _torch_step(
    torch: Any, model: Any, optimiser: Any, x: Any, y: Any, radius: float, steps: int
) -> None:
    loss = torch.nn.functional.cross_entropy
    with torch.autocast(x.device.type, torch.bfloat16):
        model.eval().requires_grad_(False)
        z = (x + torch.empty_like(x).uniform_(-radius, radius)).clamp(0, 1)
        for _ in range(steps):
            z.requires_grad_()
            (slope,) = torch.autograd.grad(loss(model(z).float(), y, reduction="sum"), z)
            z = z.detach() + radius / 4 * slope.sign()
            z = torch.minimum(torch.maximum(z, x - radius), x + radius).clamp(0, 1)
        model.train().requires_grad_(True)
        optimiser.zero_grad()
        found = loss(model(z).float(), y)
    found.backward()
    optimiser.step()


def _peer(batch: int) -> Any:
    """Returns the module benchmarks/nets.py, which has the network in PyTorch."""
    # It reads its arguments when imported.
    with mock.patch.object(sys, "argv", ["nets.py", "preact-resnet-18", str(batch)]):
        return importlib.import_module("benchmarks.nets")
