"""Settings become an experiment: every one is checked before anything runs."""

import shutil

import jax
import numpy as np
import pytest

from nets.attacks.gradient import near_input
from nets.configs import recipes
from nets.data.load import load
from nets.experiment.prepare import description, identity, matches_recorded, prepare
from nets.runs import folder as run_folder
from theory.domain import InvalidInput


@pytest.fixture(scope="module")
def digits():
    return load()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model=small-cn", "small-cnn"),
        ("options.widths=[3]", "option of small-cnn"),
        ("precision=bf16", "precision.*bfloat16"),
        ("options.dtype=bfloat16", "options.dtype = 'bfloat16': is set by precision"),
        ("objective=trade", "trades"),
        ("norm=l3", "norm"),
        ("radius=8", "perhaps 8/255"),
        ("radius=-0.1", "radius"),
        ("attack_steps=-1", "attack_steps = -1"),
        ("attack_step=-1.0", "step = -1"),
        ("batch_norm=evil", "eval"),
        ("objective=natural", "has no attack to give"),
        ("objective=fgsm-rs", "fgsm-rs takes one step"),
        ("fairness=daffa", "dafa"),
        ("fairness_options.warm=1", "option of none"),
        ("held_out=-1", "held_out = -1"),
        ("held_out=400", "per_class = 400"),
        ("held_out=0", "select = best"),
        ("mix=1.5", "mix"),
        ("epochs=0", "epochs = 0"),
        ("batch=0", "batch = 0"),
        ("batch=5000", "batch = 5000"),
        ("rate=0", "rate = 0"),
        ("schedule=cosin", "cosine"),
        ("momentum=1", "momentum"),
        ("ema=1", "ema"),
        ("decay=-1", "decay"),
        ("beta=-1", "beta"),
        ("seed=-1", "seed = -1"),
        ("select=worst", "select"),
        ("drop=0", "drop = 0"),
        ("protocol=quik", "quick"),
        ("samples=-1", "samples = -1"),
        ("radius_warm_up=-1", "radius_warm_up = -1"),
        ("radius_warm_up=9", "from 0 to the 8 epochs"),
        ("start=nowhere", "start = nowhere"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(words, message, digits):
    with pytest.raises(InvalidInput, match=message):
        prepare(recipes.read([words])[1], digits)


def test_settings_become_a_plan(digits):
    words = ["objective=trades", "fairness=dafa", "fairness_options.warm_up=3", "model=logistic"]
    _, found = recipes.read([*words, "options={}", "batch_norm=batch", "attack_steps=7"])
    training = prepare(found, digits).training
    assert training.spec.method.due(3)
    assert not training.spec.method.due(2)
    inner = training.spec.inner
    assert (inner.steps, inner.batch_norm, inner.start) == (7, "batch", near_input)
    assert len(training.images.train.labels) == 4000 - 10 * found.data.held_out
    assert len(training.images.probe.labels) == 256
    ours = identity(prepare(found, digits))
    assert ours["fingerprint"] == digits.fingerprint
    assert not {"protocol", "samples"} & set(ours)
    prepared = prepare(found, digits)
    older = {name: value for name, value in ours.items() if name != "imbalance"}
    assert matches_recorded(ours, prepared)
    assert matches_recorded(older, prepared)  # made before there was that key
    for other in (ours | {"imbalance": 2.0}, ours | {"gone": 1}, None):
        assert not matches_recorded(other, prepared)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """A run of logistic regression, not trained, as `start` finds it, and the words for it."""
    words = ["model=logistic", "options={}", "seed=3"]
    found = prepare(recipes.read(words)[1], digits)
    variables = jax.tree.map(lambda leaf: leaf + 1, found.fresh.chosen)
    folder = tmp_path_factory.mktemp("start") / "run"
    run_folder.save(folder, run_folder.Run(description(found), found.network, variables))
    return folder, words, variables


def test_training_begins_from_a_run_wherever_it_lies(digits, trained, tmp_path):
    folder, words, variables = trained
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere")
    found = [
        prepare(recipes.read([*words, f"start={path}"])[1], digits) for path in (folder, elsewhere)
    ]
    for one in found:
        jax.tree.map(np.testing.assert_array_equal, one.fresh.state.variables, variables)
    one, two = (identity(one) for one in found)
    assert one == two
    assert one != identity(prepare(recipes.read(words)[1], digits))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=mlp", "options={}"], "start = .*: of another model, logistic"),
        (["seed=4"], "held_out = 25: .* was trained on some of these images"),
        (["held_out=26"], r"held_out = 26: .*\(held_out = 25, seed = 3\)"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(digits, trained, words, message):
    folder, common, _ = trained
    with pytest.raises(InvalidInput, match=message):
        prepare(recipes.read([*common, f"start={folder}", *words])[1], digits)
