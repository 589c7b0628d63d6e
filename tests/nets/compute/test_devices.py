"""A batch on several devices: the same training as on one, but for the order of sums.

As a script, with more devices than one, this file measures what its tests judge.
"""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from nets.compute import devices
from nets.configs.settings import Config
from nets.data.load import DataSet, Images, load
from nets.data.subsets import hold_out
from nets.experiment.prepare import identity, prepare
from nets.fairness import methods
from nets.fairness.statistics import Statistics, no_samples
from nets.models import registry as models
from nets.models.network import Network
from nets.objectives.inner_attack import apply_of, near_inner
from nets.objectives.losses import trades
from nets.training import checkpoint, loop, monitor, schedules
from nets.training import epoch as training_epoch
from nets.training import step as training_step
from nets.training.between_epochs import update_fairness_state
from support import quick
from theory.domain import InvalidInput
from theory.problem import LinfBall

pytestmark = pytest.mark.slow

DEVICES, BATCH, COUNT, STEPS = 4, 40, 200, 5


class Tiny(Network):
    """Two convolutions, one of them with strides, and batch statistics."""

    def features(self, x, train):
        for place in (1, 2):
            x = self.conv(4, f"conv_{place}", strides=place)(x)
            x = jax.nn.relu(self.norm(train, f"norm_{place}")(x))
        return x.mean((1, 2))


def digits():
    _, part = hold_out(load().train, COUNT // 10, 1)
    return Images(part.images[:, ::3, ::3], part.labels)


def spec_of(mesh, dtype):
    """Returns TRADES with DAFA on a network with batch statistics, mixup, crops and flips."""
    module = Tiny(10, dtype=dtype)
    variables = models.initialise(jax.random.key(3), module, (10, 10, 1))
    spec = training_step.StepSpec(
        apply_of(module),
        training_step.sgd(schedules.build("constant", 0.1, 2, STEPS)),
        trades,
        near_inner(LinfBall(0.1), steps=2),
        methods.build("dafa", warm_up=1),
        seed=5,
        pad=2,
        mix=0.7,
        mesh=mesh,
    )
    state = training_step.start(spec, variables, np.arange(COUNT) % 10, 10)
    return spec, state._replace(sums=no_samples(10, dtype))


def flat(state):
    """Returns the parameters and running statistics in one row of float64."""
    return np.concatenate([np.ravel(leaf).astype(float) for leaf in jax.tree.leaves(state[0])])


def arguments_of(spec, state):
    chosen, zero = np.zeros(BATCH, np.int32), np.uint32(0)
    return (*devices.replicate(spec.mesh, (state, *digits())), chosen, zero, zero, zero)


def trail(spec, state, step):
    """Returns the variables before the first step of two epochs and after each, and the state."""
    data = devices.replicate(spec.mesh, digits())
    found = [flat(state)]
    for epoch in (1, 2):
        state = devices.replicate(spec.mesh, state)
        for number, chosen in enumerate(training_epoch.batches(spec.seed, epoch, COUNT, BATCH)):
            numbers = map(np.uint32, (epoch, number, spec.seed))
            state, _ = step(state, *data, chosen, *numbers)
            found.append(flat(state))
        if epoch == 1:
            state = update_fairness_state(spec, state, Statistics())
    return np.stack(found), state


def apart(one, two):
    """Returns how far two trails end from each other, in lengths of the way of the first."""
    way = np.abs(np.diff(one, axis=0)).sum()
    return np.abs(one[-1] - two[-1]).sum() / way


def as_pmap_would(spec, mesh):
    """Returns a wrong step: each device on its own part, then the mean of what they come to."""
    alone = cast(Any, training_step.make_step(spec)).__wrapped__

    def step(*arguments):
        return jax.lax.pmean(alone(*arguments), devices.AXIS)

    whole, part = PartitionSpec(), PartitionSpec(devices.AXIS)
    parts = (whole, whole, whole, part, whole, whole, whole)
    return quick.jit(
        jax.shard_map(step, mesh=mesh, in_specs=parts, out_specs=whole, check_vma=False)
    )


def collectives(text):
    """Returns the kind, and the numbers in the largest array, of each collective of a program."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text)
    shapes = [[s.split(",") for s in re.findall(r"\[([\d,]+)\]", shape)] for shape, _ in found]
    largest = [max(math.prod(map(int, sizes)) for sizes in each) for each in shapes]
    return [(kind, size) for (_, kind), size in zip(found, largest, strict=True)]


def ways(mesh):
    """Returns what comes of the right step on one device and on all, and of a wrong one on all."""
    found = {}
    for dtype in (jnp.float32, jnp.float64):
        for where in (None, mesh):
            spec, state = spec_of(where, dtype)
            lowered = cast(Any, training_step.make_step(spec)).lower(*arguments_of(spec, state))
            step = lowered.compile()
            found[dtype, where], last = trail(spec, state, step)
    text, weights = step.as_text(), np.asarray(last.fairness.weights).tolist()
    spec, state = spec_of(None, jnp.float32)
    wrong, _ = trail(spec._replace(mesh=mesh), state, as_pmap_would(spec, mesh))
    one, exact = found[jnp.float32, None], found[jnp.float64, None]
    return {
        "float64": apart(exact, found[jnp.float64, mesh]),
        "float32": apart(one, found[jnp.float32, mesh]),
        "rounding": apart(exact, one),
        "wrong": apart(one, wrong),
        "weights": weights,
        "collectives": collectives(text),
        "images": re.findall(r"= f64\[(\d+),[\d,]+\]\S* convolution", text),
    }


CONFIG = Config.of(
    model="logistic",
    objective="trades",
    attack_steps=1,
    radius=0.1,
    fairness="frl",
    fairness_options={"variant": "both"},
    held_out=2,
    epochs=3,
    batch=BATCH,
)


def resumed(folder):
    """Returns how a training on all devices went on from its checkpoint of the second epoch."""
    part, found = digits(), load()
    data = DataSet("digits", part, part, found.class_names, found.fingerprint)
    prepared = prepare(CONFIG, data)
    settings = identity(prepared)

    def save(progress):
        if len(progress.records) == 2:
            checkpoint.save(folder, settings, progress)

    whole = loop.run(prepared.training, prepared.fresh, save)
    again = loop.run(prepared.training, checkpoint.restore(folder, settings, prepared.fresh))
    return {
        "devices": settings["devices"],
        "equal": bool((flat(whole.state) == flat(again.state)).all()),
        "records": whole.records == again.records,
        "compiled": cast(Any, prepared.training.step)._cache_size(),
    }


def measure():
    """Prints what the tests judge, measured on all devices and on one."""
    for module in (training_step, monitor):
        vars(module)["jit"] = quick.jit
    with tempfile.TemporaryDirectory() as folder:
        found = resumed(pathlib.Path(folder)) | ways(devices.mesh_of(devices.choose(0)))
    print(json.dumps(found))


@pytest.fixture(scope="module")
def found():
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"}
    command = [sys.executable, __file__]
    return json.loads(subprocess.run(command, env=environment, stdout=-1, check=True).stdout)


def agree(distance, rounding):
    """Two trainings in float32 agree if they are no further apart than each is from an exact one.

    That distance is measured, of one device: rounding moves pixels whose gradient is near zero by
    a whole step, so that a multiple of the epsilon would say little. Four leaves room for chance.
    """
    return distance < 4 * rounding


def test_four_devices_train_as_one_does(found):
    assert found["float64"] < 1e-10  # measured 7e-16
    assert agree(found["float32"], found["rounding"])  # measured 1e-3 and 4e-3
    assert found["rounding"] < 0.01
    assert np.ptp(found["weights"]) > 0.05  # DAFA has learned


def test_devices_on_their_own_are_told_apart(found):
    """Each with its own random numbers and batch statistics, and the mean of the gradients."""
    assert not agree(found["wrong"], found["rounding"])  # measured 0.21


def test_devices_exchange_sums_alone(found):
    """Not data, and not activations; mixup alone takes partners from the whole batch."""
    assert "10" in found["images"]
    assert str(BATCH) not in found["images"]
    gathered = [size for kind, size in found["collectives"] if kind == "all-gather"]
    assert gathered == [BATCH * 100]
    summed = [size for kind, size in found["collectives"] if kind != "all-gather"]
    assert {kind for kind, _ in found["collectives"]} == {"all-gather", "all-reduce"}
    assert max(summed) <= 4 * 4 * 9  # a kernel


def test_a_training_on_four_devices_goes_on_in_the_same_bits(found):
    assert found["devices"] == DEVICES
    assert found["equal"]
    assert found["records"]
    assert found["compiled"] == 1  # nor does what fairness learns elsewhere compile it anew


def test_one_device_needs_no_mesh():
    places = devices.choose(0)
    assert places == devices.choose(1) == tuple(jax.local_devices())
    assert devices.mesh_of(places) is None
    value = np.arange(3)
    assert devices.replicate(None, value) is value
    assert devices.spread(None, value) is value


@pytest.mark.parametrize("count", [-1, 2])
def test_devices_that_are_not_there_are_refused(count):
    with pytest.raises(InvalidInput, match=f"devices = {count}: must lie from 1 to the 1 there"):
        devices.choose(count)


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(InvalidInput, match=r"batch = 50: .* the 4 devices, such as 48 or 52"):
        devices.require_batch(50, 4)
    with pytest.raises(InvalidInput, match=r"batch = 3: .* such as 4;"):
        devices.require_batch(3, 4)
    devices.require_batch(52, 4)


if __name__ == "__main__":
    measure()
