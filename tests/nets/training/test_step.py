"""The training step against NumPy, what it learns from, and when the loop stops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.data.load import Images
from nets.fairness.method import FairnessMethod
from nets.models import registry as models
from nets.objectives.augment import augment, shifted
from nets.objectives.inner_attack import apply_of, pgd_inner
from nets.objectives.losses import adversarial, natural
from nets.training import epoch as training_epoch
from nets.training import loop, schedules
from nets.training import step as training_step
from nets.training.monitor import Monitor, count_correct, held_out_statistics, make_monitor
from nets.training.progress import (
    Training,
    begin,
    best,
    require_training,
    stop,
    stopped,
    with_probe,
)
from theory.domain import InvalidInput
from theory.problem import LinfBall

CLASSES, COUNT, BATCH = 3, 24, 12


def some_images(count=COUNT, classes=CLASSES, seed=0):
    draw = np.random.default_rng(seed)
    pixels = draw.integers(90, 160, (count, 2, 2, 1)).astype(np.uint8)
    return Images(pixels, (np.arange(count) % classes).astype(np.int32))


@pytest.fixture(scope="module")
def linear():
    module = models.build("logistic", CLASSES)
    return module, models.initialise(jax.random.key(1), module, (2, 2, 1))


def flat(images):
    return images.images.reshape(len(images.labels), -1).astype(np.float64) / 255


def softmax(logits):
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def head(variables):
    found = variables["params"]["head"]
    return np.asarray(found["kernel"], np.float64), np.asarray(found["bias"], np.float64)


def by_hand(variables, images, rates, batches, decay, momentum):
    """Returns kernel and bias after each step of softmax regression, in NumPy."""
    (kernel, bias), trail = head(variables), []
    speeds = [np.zeros_like(kernel), np.zeros_like(bias)]
    for step, chosen in enumerate(batches):
        x, y = flat(images)[chosen], images.labels[chosen]
        wrong = (softmax(x @ kernel + bias) - np.eye(CLASSES)[y]) / len(y)
        slopes = [x.T @ wrong + decay * kernel, wrong.sum(0)]
        speeds = [momentum * old + slope for old, slope in zip(speeds, slopes, strict=True)]
        kernel, bias = (v - rates[step] * s for v, s in zip((kernel, bias), speeds, strict=True))
        trail.append((kernel, bias))
    return trail


def test_two_epochs_are_those_of_numpy(linear):
    module, variables = linear
    images = some_images()
    rates = schedules.build("piecewise", 0.5, 2, 2, milestones=(1,))
    spec = training_step.StepSpec(
        apply_of(module), training_step.sgd(rates, 0.9, decay=0.1), seed=3, ema=0.5
    )
    state, step = (
        training_step.start(spec, variables, images.labels, CLASSES),
        training_step.make_step(spec),
    )
    data = jnp.asarray(images.images), jnp.asarray(images.labels)
    for epoch in (1, 2):
        state, loss = training_epoch.run_epoch(step, state, data, 3, epoch, BATCH)
    chosen = [part for epoch in (1, 2) for part in training_epoch.batches(3, epoch, COUNT, BATCH)]
    trail = by_hand(variables, images, [0.5, 0.5, 0.05, 0.05], chosen, 0.1, 0.9)
    for ours, theirs in zip(head(state.variables), trail[-1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    average = head(variables)
    for taken, now in enumerate(trail):
        kept = min(0.5, (1 + taken) / (10 + taken))
        average = [kept * a + (1 - kept) * b for a, b in zip(average, now, strict=True)]
    for ours, theirs in zip(head(state.average), average, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert training_step.evaluated_variables(state) is state.average
    assert int(state.steps) == 4
    np.testing.assert_array_equal(state.sums.samples, [8, 8, 8])  # of the last epoch alone
    assert 0 < loss < 2


def test_every_epoch_is_another_order_of_a_frozen_stream():
    orders = [training_epoch.order(0, epoch, 50) for epoch in (1, 2)] + [
        training_epoch.order(1, 1, 50)
    ]
    for found in orders:
        np.testing.assert_array_equal(np.sort(found), np.arange(50))
    assert len({tuple(found) for found in orders}) == 3
    # Whatever numpy becomes, these words stay: NEP 19.
    words = np.random.PCG64((7, 0, 1)).random_raw(50)
    assert list(orders[0][:3]) == sorted(range(50), key=lambda i: words[i])[:3]
    assert [len(part) for part in training_epoch.batches(0, 1, 50, 16)] == [16, 16, 16]


def test_fairness_learns_from_training_and_held_out_images(linear):
    module, variables = linear
    images, held = some_images(), some_images(10, seed=5)
    seen = []

    def update(state, statistics):
        seen.append(statistics)
        return state + 1

    method = FairnessMethod(
        "spy",
        lambda counts: jnp.zeros(()),
        needs=("clean_errors", "held_out_losses", "training_accuracy"),
        due=lambda epoch: epoch == 2,
        update=update,
    )
    rates = schedules.build("constant", 0.1, 2, 2)
    spec = training_step.StepSpec(apply_of(module), training_step.sgd(rates), method=method)
    monitor = make_monitor(spec.apply, natural, None, LinfBall(0.0), CLASSES, 0)
    parts = with_probe(images, held, 0)
    plan = Training(spec, training_step.make_step(spec), monitor, parts, ("a", "b", "c"), 2, BATCH)
    require_training(plan)
    done = loop.run(plan, begin(plan, variables))
    (found,) = seen
    assert float(done.state.fairness) == 1
    kernel, bias = head(done.state.variables)
    logits = flat(held) @ kernel + bias
    right, own = logits.argmax(1) == held.labels, held.labels[:, None] == np.arange(CLASSES)
    losses = -np.log(softmax(logits)[np.arange(10), held.labels])
    errors = 1 - (own * right[:, None]).sum(0) / own.sum(0)
    np.testing.assert_allclose(found.clean_errors, errors, atol=1e-6)
    np.testing.assert_array_equal(found.robust_errors, found.clean_errors)  # of radius zero
    means = (own * losses[:, None]).sum(0) / own.sum(0)
    np.testing.assert_allclose(found.held_out_losses, [*means, losses.mean()], atol=1e-5)
    np.testing.assert_allclose(
        found.training_accuracy * np.asarray(done.state.sums.samples), done.state.sums.correct
    )
    record = done.records[-1]
    assert record["held_out"]["samples"] == [4, 3, 3]
    assert record["held_out"]["clean"] == (own * right[:, None]).sum(0).tolist()
    assert record["score"] == right.sum()


def test_the_monitors_attack_is_exact_on_two_linear_classes():
    images = some_images(40, 2)
    module = models.build("logistic", 2)
    variables = models.initialise(jax.random.key(2), module, (2, 2, 1))
    kernel, bias = head(variables)
    weight = kernel[:, 1] - kernel[:, 0]
    sign = 2 * images.labels - 1
    margin = sign * (flat(images) @ weight + bias[1] - bias[0])
    radius = float(np.median(np.abs(margin))) / np.abs(weight).sum()
    monitor = make_monitor(apply_of(module), natural, None, LinfBall(radius), 2, 0)
    found = count_correct(monitor, variables, images, 10)
    clear = np.abs(margin - radius * np.abs(weight).sum()).min()
    assert clear > 1e-5  # no image is decided by rounding
    stands = margin > radius * np.abs(weight).sum()
    assert 0 < stands.sum() < (margin > 0).sum()
    np.testing.assert_array_equal(found.robust, np.bincount(images.labels[stands], minlength=2))
    np.testing.assert_array_equal(found.clean, np.bincount(images.labels[margin > 0], minlength=2))


def test_a_class_that_is_not_held_out_has_no_errors_but_nan(linear):
    module, variables = linear
    images = some_images(4, 2)
    monitor = make_monitor(apply_of(module), natural, None, LinfBall(0.0), CLASSES, 0)
    found = count_correct(monitor, variables, images, 1)
    statistics = held_out_statistics(monitor, variables, images, found, False)
    assert np.isnan(np.asarray(statistics.clean_errors)).tolist() == [False, False, True]


def plan_of(linear, rate=0.1, judge=None, drop=20.0, epochs=4, method=None, inner=None):
    module, variables = linear
    images = some_images()
    options = {} if method is None else {"method": method}
    rates = schedules.build("constant", rate, epochs, 2)
    spec = training_step.StepSpec(
        apply_of(module), training_step.sgd(rates), inner=inner, **options
    )
    monitor = Monitor(judge, None, CLASSES)
    parts = with_probe(images, None, 0)
    names = ("a", "b", "c")
    plan = Training(spec, training_step.make_step(spec), monitor, parts, names, epochs, BATCH, drop)
    return plan, begin(plan, variables)


def test_training_stops_at_a_collapse_and_keeps_the_best(linear):
    shares, kept = iter([6, 12, 4, 24]), []

    def judge(shared, pixels, labels, place):
        robust = np.asarray(place) < next(shares)
        return np.ones_like(robust), robust

    plan, begun = plan_of(linear, judge=judge, inner=pgd_inner(LinfBall(0.1)))
    done = loop.run(plan, begun, kept.append)
    assert [record["probe"]["robust"] for record in done.records] == [6, 12, 4]
    assert stop(done, 4) == {"epoch": 3, "epochs": 4, "robust": [12, 4], "of": COUNT}
    assert [record["collapsed"] for record in done.records] == [False, False, True]
    assert stopped(done)
    assert best(done) == 2
    second = kept[1].state.variables
    same = jax.tree.map(lambda a, b: bool((a == b).all()), done.chosen, second)
    assert all(jax.tree.leaves(same))
    assert loop.run(plan, done) is done  # nothing is left to do


@pytest.mark.parametrize(
    ("inner", "robust", "clean", "epochs"),
    [
        # Natural training has no attack to overfit to: it loses robustness, and goes on.
        (None, [24, 12, 4, 0], [24] * 4, 4),
        # A fall that clean accuracy shares may be made up for in the next epoch, or not.
        (pgd_inner(LinfBall(0.1)), [20, 4, 18, 20], [24, 4, 20, 24], 4),
        (pgd_inner(LinfBall(0.1)), [20, 4, 4, 4], [24, 8, 8, 8], 3),
        # After the last epoch there is no next one.
        (pgd_inner(LinfBall(0.1)), [18, 19, 20, 4], [24, 24, 24, 4], 4),
    ],
)
def test_what_stops_a_training_and_what_does_not(linear, inner, robust, clean, epochs):
    counts = iter(zip(clean, robust, strict=True))

    def judge(shared, pixels, labels, place):
        right, held = next(counts)
        return np.asarray(place) < right, np.asarray(place) < held

    plan, begun = plan_of(linear, judge=judge, inner=inner)
    done = loop.run(plan, begun)
    assert len(done.records) == epochs
    assert stopped(done) == (epochs < 4 or (inner is not None and robust[-1] == 4))
    assert (stop(done, 4) is None) == (not stopped(done))


def test_what_is_due_before_the_first_epoch_is_done_once(linear):
    def judge(shared, pixels, labels, place):
        return np.ones(len(labels), bool), np.ones(len(labels), bool)

    method = FairnessMethod(
        "early",
        lambda counts: jnp.zeros(()),
        due=lambda epoch: epoch == 0,
        update=lambda state, statistics: state + 1,
    )
    plan, begun = plan_of(linear, judge=judge, method=method, epochs=2)
    kept = []
    done = loop.run(plan, begun, kept.append)
    assert [float(progress.state.fairness) for progress in kept] == [1, 1]
    assert float(loop.run(plan, kept[0]).state.fairness) == 1
    assert len(done.records) == 2


def test_a_loss_that_is_not_finite_is_told(linear):
    def judge(shared, pixels, labels, place):
        return np.zeros(len(labels), bool), np.zeros(len(labels), bool)

    plan, begun = plan_of(linear, rate=1e38, judge=judge)
    with pytest.raises(InvalidInput, match="take a smaller rate"):
        loop.run(plan, begun)


def test_radii_without_an_attack_are_refused(linear):
    method = FairnessMethod("wide", lambda counts: (), radii=lambda state: jnp.ones(CLASSES))
    plan, _ = plan_of(linear, method=method)
    with pytest.raises(InvalidInput, match="changes the radius of an attack"):
        require_training(plan)


@pytest.mark.parametrize("rise", [0, 3])
def test_each_sample_is_attacked_with_the_radius_of_its_class_and_step(linear, rise):
    module, variables = linear
    images = some_images()
    factors = jnp.asarray([0.0, 1.0, 2.0], jnp.float32)
    reach = []

    def objective(key, apply, variables, x, y, inner, **method):
        loss, outcome = adversarial(key, apply, variables, x, y, inner, **method)
        far = jnp.max(jnp.abs(outcome.points - x), (1, 2, 3))
        jax.debug.callback(lambda *found: reach.append(found), far, y)
        return loss, outcome

    method = FairnessMethod("radii", lambda counts: (), radii=lambda state: factors)
    rates = schedules.build("constant", 0.1, 1, 2)
    inner = pgd_inner(LinfBall(0.1), steps=8, step=0.5)
    spec = training_step.StepSpec(
        apply_of(module),
        training_step.sgd(rates),
        objective,
        inner,
        method,
        radius_warm_up_steps=rise,
    )
    state = training_step.start(spec, variables, images.labels, CLASSES)
    data = jnp.asarray(images.images), jnp.asarray(images.labels)
    step = training_step.make_step(spec)
    for epoch in (1, 2):
        state, _ = training_epoch.run_epoch(step, state, data, 0, epoch, BATCH)
        jax.effects_barrier()
    shares = [1 / 3, 2 / 3, 1, 1] if rise else [1] * 4
    for (far, labels), share in zip(reach, shares, strict=True):
        wanted = 0.1 * share * np.asarray(factors)[np.asarray(labels)]
        np.testing.assert_allclose(far, wanted, atol=1e-6)


def test_crops_and_flips_are_those_of_numpy():
    images = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 2)).astype(np.uint8)
    begin = np.array([[0, 0], [2, 2], [4, 1]], np.int32)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    found = shifted(jnp.asarray(images), jnp.asarray(begin), 2)
    for image, (row, column), crop in zip(padded, begin, np.asarray(found), strict=True):
        np.testing.assert_array_equal(crop, image[row : row + 4, column : column + 5])
    many = jnp.broadcast_to(jnp.asarray(images[:1]), (64, 4, 5, 2))
    key = jax.random.key(0)
    np.testing.assert_array_equal(augment(key, many), many)
    mirrored = np.asarray(augment(key, many, flip=True))
    same = [bool((view == images[0]).all()) for view in mirrored]
    other = [bool((view == images[0][:, ::-1]).all()) for view in mirrored]
    assert all(a != b for a, b in zip(same, other, strict=True))
    assert 0 < sum(same) < 64


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("constant", {}, [1, 1, 1, 1, 1]),
        ("constant", {"warm_up": 2}, [0.25, 0.5, 0.75, 1, 1]),
        ("piecewise", {"milestones": (1, 2), "factor": 0.5}, [1, 1, 0.5, 0.5, 0.25]),
        ("cosine", {}, [1, 0.961940, (2 + 2**0.5) / 4, 0.691342, 0.5]),
        ("cyclic", {"peak": 0.25}, [0, 0.5, 1, 5 / 6, 4 / 6]),
    ],
)
def test_rates_are_as_drawn(name, options, wanted):
    rates = schedules.build(name, 1.0, 4, 2, **options)
    found = [float(rates(jnp.asarray(step))) for step in range(5)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert rates(jnp.asarray(0)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cosin"}, "cosine"),
        ({"rate": 0.0}, "rate = 0"),
        ({"rate": float("nan")}, "rate = nan"),
        ({"epochs": 0}, "epochs = 0"),
        ({"milestones": (1,)}, "only of schedule"),
        ({"name": "piecewise", "milestones": (4,)}, "from 1 to 3"),
        ({"name": "piecewise", "milestones": (2, 1)}, "increasing"),
        ({"factor": 1.0}, "factor = 1"),
        ({"peak": 0.0}, "peak = 0"),
        ({"warm_up": 4}, "warm_up = 4"),
    ],
)
def test_bad_schedules_are_refused(options, message):
    settings = {"name": "cosine", "rate": 0.1, "epochs": 4, "batches": 2} | options
    with pytest.raises(InvalidInput, match=message):
        schedules.build(**settings)
