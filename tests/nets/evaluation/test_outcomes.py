"""Flags of an evaluation: the same in any batch, order, padding and number of devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks.attack import AttackResult, keys_of
from nets.attacks.gradient import pgd
from nets.attacks.losses import margin
from nets.compute.blocks import over_blocks
from nets.evaluation import file as evaluation_file
from nets.evaluation.outcomes import AttackRun, evaluate
from nets.models import registry as models
from theory.domain import InvalidInput
from theory.problem import LinfBall

CLASSES, NUMBER, SHAPE = 4, 150, (12, 12, 1)
METHODS = {
    "pgd": AttackRun(lambda *a: pgd(*a[:-1], steps=5)),
    "margin": AttackRun(lambda *a: pgd(*a[:-1], steps=5, loss=margin)),
}
MODULE = models.build("small-cnn", CLASSES, stages=((4,), (8,)), hidden=(16,))
THREAT = LinfBall(np.float32(0.03))
KEY = jax.random.key(5)


def network():
    """A network of random weights, and images which it classifies as labelled but for ten."""
    with jax.enable_x64(False):
        variables = models.initialise(jax.random.key(3), MODULE, SHAPE)
    variables = jax.tree.map(lambda a: 2 * np.asarray(a, np.float32), variables)
    images = np.random.default_rng(0).integers(0, 256, (NUMBER, *SHAPE)).astype(np.uint8)
    logits = np.asarray(jax.jit(MODULE.apply)(variables, images.astype(np.float32) / 255))
    # Centred, so that every class is said of some image.
    variables["params"]["head"]["bias"] = -logits.mean(0)
    labels = np.argmax(logits - logits.mean(0), -1).astype(np.int32)
    labels[:10] = (labels[:10] + 1) % CLASSES
    return variables, images, labels


def outcomes(images, labels, variables, **settings):
    options = {"classes": CLASSES, "block": 64} | settings
    key = options.pop("key", KEY)
    return evaluate(key, MODULE.apply, variables, images, labels, THREAT, METHODS, **options)


@pytest.fixture(scope="module")
def reference():
    variables, images, labels = network()
    return variables, images, labels, outcomes(images, labels, variables)


@pytest.mark.slow
def test_some_samples_break_and_some_do_not(reference):
    correct = reference[3].correct
    assert reference[3].attacks == ("clean", "pgd", "margin")
    assert correct[0].sum() == NUMBER - 10
    assert 20 < correct[-1].sum() < NUMBER - 40
    assert (np.diff(correct.astype(int), axis=0) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("block", [32, NUMBER])
def test_flags_do_not_depend_on_the_size_of_a_block(reference, block):
    variables, images, labels, expected = reference
    found = outcomes(images, labels, variables, block=block)
    np.testing.assert_array_equal(found.correct, expected.correct)
    np.testing.assert_array_equal(found.predicted, expected.predicted)


def test_everything_is_bit_identical_in_another_order_and_with_other_padding(reference):
    variables, images, labels, expected = reference
    order = np.random.default_rng(1).permutation(NUMBER)[:101]
    found = outcomes(images[order], labels[order], variables, key=keys_of(KEY, NUMBER)[order])
    np.testing.assert_array_equal(found.correct, expected.correct[:, order])
    np.testing.assert_array_equal(found.predicted, expected.predicted[:, order])
    np.testing.assert_array_equal(found.probabilities, expected.probabilities[:, order])


@pytest.mark.slow
def test_everything_is_bit_identical_on_three_devices(reference):
    """The same evaluation in a process of its own with three devices."""
    code = (
        "import test_outcomes as t, jax; v, x, y = t.network();"
        "assert len(jax.local_devices()) == 3; f = t.outcomes(x, y, v);"
        "print(f.correct.tobytes().hex(), f.probabilities.tobytes().hex())"
    )
    flags = "--xla_force_host_platform_device_count=3"
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    expected = reference[3]
    correct, probabilities = done.stdout.split()
    assert correct == expected.correct.tobytes().hex()
    assert probabilities == expected.probabilities.tobytes().hex()


def test_the_key_moves_the_starts_of_the_attacks(reference):
    variables, images, labels, expected = reference
    found = outcomes(images, labels, variables, key=jax.random.key(6))
    np.testing.assert_array_equal(found.correct[0], expected.correct[0])
    assert not np.array_equal(found.probabilities[1], expected.probabilities[1])


def test_predictions_agree_with_the_flags(reference):
    _, _, labels, expected = reference
    for flags, said in zip(expected.correct[[0, -1]], expected.predicted, strict=True):
        np.testing.assert_array_equal(flags, said == labels)


def test_a_later_attack_sees_only_what_stands():
    """An attack that breaks all even samples leaves the odd ones to the next."""
    seen = []

    def identity(variables, x):
        value = x.reshape(x.shape[0], -1)[:, :1] - 0.5
        return jnp.concatenate([value, -value], -1)

    def breaks_even(keys, logits_fn, target, turn):
        x, y, *_ = target
        seen.append("even")
        even = (jnp.arange(x.shape[0]) % 2 == 0).reshape(-1, 1, 1, 1)
        return AttackResult(jnp.where(even, 1 - x, x), even.ravel(), y)

    def breaks_all(keys, logits_fn, target, turn):
        seen.append("all")
        return AttackResult(1 - target.x, target.y == target.y, target.y)

    images = np.full((8, 1, 1, 1), 200, np.uint8)
    methods = {
        "even": AttackRun(breaks_even),
        "all": AttackRun(breaks_all),
        "idle": AttackRun(breaks_all),
    }
    found = evaluate(
        KEY, identity, {}, images, np.zeros(8, np.int32), LinfBall(0.9), methods, classes=2, block=8
    )
    assert found.correct.sum(1).tolist() == [8, 4, 0, 0]
    assert seen == ["even", "all"]


def test_turns_see_what_stands_and_their_own_number():
    """Turn t breaks the samples of pixel t, and of what it returns the network has to err."""

    def apply(variables, x):
        value = x.reshape(x.shape[0], -1)[:, :1]
        return jnp.concatenate([0.5 - value, value - 0.5], -1)

    def one_pixel(keys, logits_fn, target, turn):
        x, y, *_ = target
        hit = jnp.isclose(x, turn.astype(x.dtype) / 255, atol=1e-4)
        # The success that is claimed for all others does not count.
        return AttackResult(jnp.where(hit, 1.0, x), y == y, y)

    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    found = evaluate(
        KEY,
        apply,
        {},
        images,
        np.zeros(4, np.int32),
        LinfBall(1.0),
        {"first": AttackRun(one_pixel, 2), "then": AttackRun(one_pixel, 3)},
        classes=2,
        block=4,
    )
    assert found.correct[1].tolist() == [False, False, True, True]
    assert found.correct[2].tolist() == [False, False, False, True]
    assert found.x_adv.ravel()[:3].tolist() == [1.0, 1.0, 1.0]


def test_an_attack_that_leaves_the_ball_is_stopped():
    def far(keys, logits_fn, target, turn):
        x, y, *_ = target
        return AttackResult(jnp.clip(x + 0.11, 0.0, 1.0), y == y, y)

    def outside(keys, logits_fn, target, turn):
        x, y, *_ = target
        return AttackResult(x - 0.05, y == y, y)

    images = np.zeros((4, *SHAPE), np.uint8)
    for attack in (far, outside):
        with pytest.raises(RuntimeError, match="left ball or bounds"):
            evaluate(
                KEY,
                lambda variables, x: jnp.zeros((x.shape[0], 2)),
                {},
                images,
                np.zeros(4, np.int32),
                LinfBall(0.1),
                {"far": AttackRun(attack)},
                classes=2,
                block=4,
            )


def test_logits_that_are_not_finite_are_errors_and_are_counted():
    def apply(variables, x):
        first = x.reshape(x.shape[0], -1)[:, :1]
        return jnp.concatenate([jnp.where(first > 0.5, jnp.nan, 1.0), jnp.zeros_like(first)], -1)

    images = np.asarray([0, 255, 0], np.uint8).reshape(3, 1, 1, 1)
    found = evaluate(
        KEY, apply, {}, images, np.zeros(3, np.int32), LinfBall(0.1), {}, classes=2, block=2
    )
    assert found.nonfinite == 1
    assert found.correct[0].tolist() == [True, False, True]
    assert found.predicted[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat": LinfBall(8.0)}, "radius = 8.*0.0313"),
        ({"threat": LinfBall(np.ones(3) / 9)}, "radius.shape"),
        ({"labels": np.array([0, 1, 4, 2])}, "labels = 4"),
        ({"labels": np.array([0, 1])}, "labels.shape"),
        ({"images": np.full((4, *SHAPE), 2.0, np.float32)}, "images: must be uint8"),
        ({"methods": {"clean": METHODS["pgd"]}}, "methods: 'clean'"),
        ({"block": 0}, "block = 0"),
    ],
)
def test_bad_input_is_refused_before_any_computation(change, message):
    def apply(variables, x):
        raise AssertionError("computed")

    settings = {
        "images": np.zeros((4, *SHAPE), np.uint8),
        "labels": np.zeros(4, np.int32),
        "threat": THREAT,
        "methods": METHODS,
        "classes": CLASSES,
    } | change
    order = ("images", "labels", "threat", "methods")
    positional = [settings.pop(name) for name in order]
    with pytest.raises(InvalidInput, match=message):
        evaluate(KEY, apply, {}, *positional, **settings)


def test_blocks_refuse_arrays_of_different_lengths():
    with pytest.raises(InvalidInput, match="samples"):
        over_blocks(lambda shared, a, b: a, None, (np.zeros(3), np.zeros(4)), block=2)


def dataset(reference, **attributes):
    _, _, labels, found = reference
    record = {"model": "m", "data": "d", "fingerprint": "f", "split": "s", "norm": "linf"}
    record |= {"radius": 0.03} | attributes
    return evaluation_file.make(found, labels, ("a", "b", "c", "d"), 0.05, record)


def test_the_file_counts_what_the_flags_say(reference, tmp_path):
    made = dataset(reference)
    made.to_netcdf(tmp_path / "evaluation.nc", engine="h5netcdf")
    found = evaluation_file.load(tmp_path / "evaluation.nc")
    flags, labels = found["correct"].values.astype(bool), found["label"].values
    for condition, row in (("clean", 0), ("robust", -1)):
        errors = [int((~flags[row][labels == k]).sum()) for k in range(CLASSES)]
        assert found["errors"].sel(condition=condition).values.tolist() == errors
        table = found["confusion"].sel(condition=condition).values
        assert table.sum(1).tolist() == found["trials"].values.tolist()
        assert (found["trials"].values - table.diagonal()).tolist() == errors
    assert np.allclose(found["similarity"].sum("said"), 1, atol=1e-5)
    text = evaluation_file.summary(found)
    assert "worst class" in text
    assert "pgd" in text


def test_two_evaluations_are_paired_only_on_the_same_samples(reference):
    one = dataset(reference)
    text = evaluation_file.comparison(one, one, 0.05)
    assert "p = 1" in text
    assert "rho +0.000" in text
    for name, value in (("fingerprint", "g"), ("radius", 0.05), ("norm", "l2"), ("split", "t")):
        with pytest.raises(InvalidInput, match=name):
            evaluation_file.comparison(one, dataset(reference, **{name: value}), 0.05)


def test_a_class_without_samples_is_named(reference):
    _, _, labels, found = reference
    with pytest.raises(InvalidInput, match="class e;"):
        evaluation_file.make(found, labels, ("a", "b", "c", "d", "e"), 0.05, {})
