"""Training in bfloat16: what is rounded, what is not, and what comes back from a run folder."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks.losses import cross_entropy
from nets.configs.settings import Config
from nets.data.pixels import to_floats
from nets.experiment.prepare import prepare
from nets.experiment.run import run_experiment
from nets.models import registry as models
from nets.runs import folder as run_folder
from nets.training import loop, monitor
from nets.training import step as training_step
from support import quick, small_training

pytestmark = pytest.mark.slow

CONFIG = Config.of(
    model="preact-resnet-18",
    options={"stem": 4, "widths": [4, 8], "blocks": 1, "mean": 0.13, "std": 0.31},
    precision="bfloat16",
    attack_steps=2,
    radius=0.03,
    epochs=12,
    batch=25,
    ema=0.9,
)


@pytest.fixture(scope="module")
def digits():
    return small_training.digits()


@pytest.fixture(scope="module")
def prepared(digits):
    with pytest.MonkeyPatch.context() as patch:
        for module in (training_step, monitor):
            patch.setattr(module, "jit", quick.jit)
        return prepare(CONFIG, digits)


@pytest.fixture(scope="module")
def progress(prepared):
    return loop.run(prepared.training, prepared.fresh)


def batch_of(prepared):
    images = prepared.training.images.train
    return to_floats(jnp.asarray(images.images[:25])), jnp.asarray(images.labels[:25])


def test_a_network_in_bfloat16_learns_and_all_that_is_kept_is_float32(progress):
    losses = [record["loss"] for record in progress.records]
    assert losses[-1] < 0.9 * losses[0]
    state = progress.state
    assert "batch_stats" in state.variables
    kept = (state.variables, state.optimiser, state.average, state.sums, progress.chosen)
    floats = {leaf.dtype for leaf in jax.tree.leaves(kept) if leaf.dtype.kind not in "iu"}
    assert floats == {jnp.dtype("float32")}
    for leaf in jax.tree.leaves(state.variables):  # and is not bfloat16 in disguise
        assert leaf.size < 4 or (leaf.astype(jnp.bfloat16).astype(jnp.float32) != leaf).any()


def test_convolutions_of_the_step_are_in_bfloat16_and_the_head_is_not(prepared, progress):
    plan, images = prepared.training, prepared.training.images.train
    chosen, first = np.arange(25, dtype=np.int32), map(np.uint32, (1, 0, 0))
    arguments = (progress.state, images.images, images.labels, chosen, *first)
    text = plan.step.lower(*arguments).as_text()
    convolutions = re.findall(r"stablehlo\.convolution\(.*: \(.*\) -> tensor<.*>", text)
    assert len(convolutions) > 20
    assert all(line.count("xbf16>") == 3 and "xf32>" not in line for line in convolutions)
    head = re.findall(r"stablehlo\.dot_general .*-> tensor<25x10x(\w+)>", text)
    assert head
    assert set(head) == {"f32"}


def test_pixels_and_their_gradients_stay_float32_in_ball_and_box(prepared, progress):
    x, y = batch_of(prepared)
    spec, variables = prepared.training.spec, progress.state.variables

    @quick.jit
    def attacked(x, y):
        key = jax.random.key(0)
        return spec.objective(key, spec.apply, variables, x, y, spec.inner)

    loss, outcome = attacked(x, y)
    points = outcome.points
    assert {a.dtype for a in (loss, points, outcome.adversarial)} == {jnp.dtype("float32")}
    assert float(jnp.abs(points - x).max()) <= CONFIG.objective.radius * (1 + 1e-6)
    assert float(points.min()) >= 0
    assert float(points.max()) <= 1
    moved = np.asarray(points[points != x])
    # Points between the 256 levels that bfloat16 has below one.
    assert (moved.astype(jnp.bfloat16).astype(np.float32) != moved).mean() > 0.5

    def slope(module):
        def total(x):
            return jnp.sum(cross_entropy(module.apply(variables, x), y))

        return quick.jit(jax.grad(total))(x)

    settings = (CONFIG.network.model, 10, CONFIG.network.options)
    narrow, wide = (slope(models.of_settings(*settings, p)) for p in ("bfloat16", "float32"))
    assert narrow.dtype == jnp.float32
    # Measured 0.12: rounding moves units across zero. No gradient would give 1, chance 1.4.
    error = jnp.linalg.norm(narrow - wide) / jnp.linalg.norm(wide)
    assert 0 < float(error) < 0.5


def test_a_run_is_loaded_in_the_precision_that_it_was_trained_in(prepared, progress, tmp_path):
    run_experiment(prepared, tmp_path)
    loaded = run_folder.load(tmp_path)
    assert loaded.module == prepared.network
    assert loaded.settings["training"]["precision"] == "bfloat16"
    x, _ = batch_of(prepared)
    ours = quick.jit(prepared.network.apply)(progress.state.average, x)
    np.testing.assert_array_equal(quick.jit(loaded.module.apply)(loaded.variables, x), ours)
    del loaded.settings["precision"]
    assert run_folder.module_of(loaded.settings).dtype == jnp.float32
