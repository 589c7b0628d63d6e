"""CFA's average of networks in the trainer: who enters it, what is kept, and an exact resume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.configs.settings import Config
from nets.data.load import DataSet, Images, load
from nets.experiment.prepare import prepare
from nets.fairness import methods
from nets.fairness.method import GatedAverage
from nets.objectives.inner_attack import apply_of
from nets.training import checkpoint, loop
from nets.training import step as training_step
from nets.training.between_epochs import update_gated_average
from nets.training.monitor import HELD_OUT_STEPS, count_correct
from nets.training.progress import best
from theory.domain import InvalidInput

GATE, DECAY = 0.4, 0.75
CONFIG = Config.of(
    model="logistic",
    attack_steps=1,
    radius=0.1,
    fairness="cfa",
    fairness_options={"average_gate": GATE, "average_decay": DECAY},
    held_out=10,
    epochs=6,
    batch=20,
    rate=0.1,
    schedule="constant",
    select="best",
)


@pytest.fixture(scope="module")
def three():
    """Returns three digits of a quarter of the size."""
    found = load()
    parts = []
    for images in (found.train, found.test):
        kept = np.flatnonzero(images.labels < 3)[:120]
        parts.append(Images(images.images[kept, ::4, ::4], images.labels[kept]))
    return DataSet("digits", *parts, found.class_names[:3], found.fingerprint)


@pytest.fixture(scope="module")
def prepared(three):
    return prepare(CONFIG, three)


@pytest.fixture(scope="module")
def epochs(prepared):
    """Returns the progress after every epoch."""
    kept = []
    loop.run(prepared.training, prepared.fresh, kept.append)
    return kept


def flat(variables):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(variables)])


@pytest.mark.slow
def test_the_average_is_of_the_networks_whose_worst_class_is_good_enough(prepared, epochs):
    plan, expected, begun, entered = prepared.training, None, False, []
    for progress in epochs:
        now = progress.state.variables
        found = count_correct(plan.monitor, now, plan.images.held_out, HELD_OUT_STEPS)
        worst = (found.robust / found.samples).min()
        good = worst >= GATE
        entered.append(bool(good))
        if not begun:
            expected = flat(now).astype(np.float64)  # the network itself
        elif good:
            expected = DECAY * expected + (1 - DECAY) * flat(now)
        begun = begun or good
        assert progress.records[-1]["average"] == {"worst": worst, "begun": begun}
        shown = training_step.evaluated_variables(progress.state)
        np.testing.assert_allclose(flat(shown), expected, rtol=0, atol=1e-6)
        # What is recorded and selected on is measured on the average.
        held = count_correct(plan.monitor, shown, plan.images.held_out, HELD_OUT_STEPS)
        assert progress.records[-1]["held_out"]["robust"] == held.robust.tolist()
    assert not entered[0]
    assert sum(entered) >= 2
    assert np.abs(flat(now) - expected).max() > 1e-3  # an average, not the last network
    best_epoch = epochs[best(epochs[-1]) - 1]
    np.testing.assert_array_equal(
        flat(epochs[-1].chosen), flat(training_step.evaluated_variables(best_epoch.state))
    )


@pytest.mark.parametrize("done", [1, 4])
def test_training_goes_on_to_the_same_bits(done, prepared, epochs, tmp_path):
    checkpoint.save(tmp_path, {}, epochs[done - 1])
    again = loop.run(prepared.training, checkpoint.restore(tmp_path, {}, prepared.fresh))
    assert again.records == epochs[-1].records
    for one, two in zip(*map(jax.tree.leaves, (again, epochs[-1])), strict=True):
        np.testing.assert_array_equal(one, two)
    assert isinstance(again.state.average, GatedAverage)


def test_batch_statistics_are_averaged_like_parameters(prepared):
    method = methods.build("cfa", average_gate=GATE, average_decay=DECAY)
    spec = training_step.StepSpec(
        apply_of(prepared.network), training_step.sgd(lambda step: 0.1), method=method
    )
    both = [{name: jnp.full(2, v) for name in ("params", "batch_stats")} for v in (1.0, 2.0)]
    state = training_step.start(spec, both[0], np.arange(3), 3)
    for variables, worst in ((both[0], GATE), (both[1], GATE - 0.01), (both[1], GATE)):
        state = update_gated_average(spec, state._replace(variables=variables), worst)
    for name in ("params", "batch_stats"):
        np.testing.assert_allclose(
            training_step.evaluated_variables(state)[name], [2 - DECAY] * 2, rtol=1e-12
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"held_out": 0, "select": "last"}, "held_out = None: cfa learns from robust_errors"),
        ({"ema": 0.9}, "keeps an average of its own"),
        ({"fairness_options": {"average_gate": 1.5}}, "average_gate = 1.5"),
        ({"fairness_options": {"average_decay": -0.1}}, "average_decay = -0.1"),
        ({"fairness_options": {"gate": 0.2}}, "average_gate"),
    ],
)
def test_an_average_that_cannot_be_is_refused_before_training(settings, message, three):
    with pytest.raises(InvalidInput, match=message):
        prepare(CONFIG.replace(**settings), three)


def test_without_a_gate_there_is_no_average(three):
    wanted = CONFIG.replace(fairness_options={}, held_out=0, select="last")
    found = prepare(wanted, three)
    assert found.fresh.state.average == ()
    assert training_step.evaluated_variables(found.fresh.state) is found.fresh.state.variables
