"""How large everything is, which data and settings, and what the machine is."""

import importlib.metadata
import math
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nets.configs import recipes
from nets.configs.settings import Config
from nets.data.load import DataSet, Images, fingerprint, load
from nets.data.sources import CIFAR_10

CONFIG = "cifar10-prn18-pgd-30"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")


class Sizes(NamedTuple):
    """What is measured on how much.

    Args:
        options: of PreActResNet-18, beside those of the config.
        small: options of the small network of the checks.
        checks: images for outputs, for PGD-10, for Auto-PGD, and the steps of that.
        matmul: rows of the square matrices whose product is the peak.
        batches: of the table of speeds, the most telling first.
        steps, rounds: in a block that is timed, and blocks.
        speed: seconds after which no further batch is begun.
        epochs: of the baseline.
        images: of the training set, the first; 0 for all.
        judged: test images under PGD-20 and, time allowing, Auto-PGD.
        part, block: images between two looks at the clock, and computed together.
        attack_steps: of an evaluation by PGD and by Auto-PGD.
        reserve: seconds kept for the evaluation when training is planned.
        compilation: seconds that a first step may take to compile.
        warm_up, forks: epochs of the fairness study.
        precision: of what is trained.
    """

    options: dict[str, Any]
    small: dict[str, Any]
    checks: tuple[int, int, int, int]
    matmul: int
    batches: tuple[int, ...]
    steps: int
    rounds: int
    speed: float
    epochs: int
    images: int
    judged: int
    part: int
    block: int
    attack_steps: tuple[int, int]
    reserve: float
    compilation: float
    warm_up: int
    forks: int
    precision: str = "bfloat16"


FULL = Sizes(
    options={},
    small={},
    checks=(16, 64, 256, 50),
    matmul=8192,
    batches=(512, 256, 1024),
    steps=10,
    rounds=5,
    speed=80.0,
    epochs=30,
    images=0,
    judged=10_000,
    part=2000,
    block=500,
    attack_steps=(20, 100),
    reserve=90.0,
    compilation=60.0,
    warm_up=40,
    forks=24,
)
SMALL = Sizes(
    options={"stem": 4, "widths": [4, 4, 8, 8]},
    small={"stages": [[8], [8]], "hidden": [32]},
    checks=(8, 16, 64, 20),
    matmul=256,
    batches=(16, 32),
    steps=2,
    rounds=3,
    speed=90.0,
    epochs=2,
    images=160,
    judged=100,
    part=50,
    block=25,
    attack_steps=(5, 5),
    reserve=20.0,
    compilation=5.0,
    warm_up=2,
    forks=2,
    precision="float32",
)


def settings(sizes: Sizes, seed: int) -> Config:
    """Returns the settings of the baseline."""
    _, found = recipes.read([CONFIG])
    options = {**found.network.options, **sizes.options}
    return found.replace(options=options, precision=sizes.precision, seed=seed)


def with_batch(wanted: Config, batch: int) -> Config:
    """Returns the settings with another batch; the rate grows as its root."""
    rate = wanted.optimisation.rate * math.sqrt(batch / wanted.optimisation.batch)
    return wanted.replace(batch=batch, rate=rate)


def data_of(sizes: Sizes, directory: Path | None, small: bool) -> DataSet:
    """Returns CIFAR-10, or its first images; without a folder, in a small run, synthetic ones.

    Raises:
        InvalidInput: as `nets.data.load.load`.
    """
    if small and directory is None:
        return synthetic(sizes.images, 2 * sizes.judged)
    found = load("cifar-10", directory)
    if not sizes.images:
        return found
    return _named(
        *(first(p, n) for p, n in zip(found[1:3], (sizes.images, 2 * sizes.judged), strict=True))
    )


def first(images: Images, count: int) -> Images:
    """Returns the first images."""
    return Images(images.images[:count], images.labels[:count])


def synthetic(training: int, test: int, size: int = 32) -> DataSet:
    """Returns images of noise around one pattern for each class, which a network learns at once."""
    draw = np.random.default_rng(0)
    patterns = draw.integers(60, 196, (10, size, size, 3))

    def part(count: int) -> Images:
        labels = (np.arange(count) % 10).astype(np.int32)
        noise = draw.integers(-50, 51, (count, size, size, 3))
        return Images((patterns[labels] + noise).astype(np.uint8), labels)

    return _named(part(training), part(test))


def _named(train: Images, test: Images) -> DataSet:
    return DataSet("cifar-10", train, test, CIFAR_10.class_names, fingerprint(train, test))


def machine() -> dict[str, Any]:
    """Returns what the numbers were measured on and with."""
    device = jax.devices()[0]
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "versions": versions,
    }
