"""Trained lanes against a NumPy loop in float64 that perturbs every point of every batch."""

import jax
import numpy as np
import pytest

from sims.training.loop import CHUNK, shuffles, train
from sims.training.setup import Group, Lanes, Points, Rule, Settings
from support.compilations import compiled_functions
from support.oracles.training import Model, batch_mean_loss
from support.oracles.training import train as reference
from theory.domain import InvalidInput

DIMENSION, BATCH, EPOCHS = 12, 16, 8
NORMS = (1.0, 2.0, np.inf)


def data(count, seed, regression=False):
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(count) % 3 == 0, 1.0, -1.0)
    x = y[:, None] * np.linspace(0.5, 0, DIMENSION) + rng.normal(size=(count, DIMENSION))
    if regression:
        y = x @ np.linspace(-1, 1, DIMENSION) + 0.3 * rng.normal(size=count)
    return Points(x.astype(np.float32), y.astype(np.float32))


def group_of(models, seed=0, count=190, regression=False):
    """A group of models with one start; two outputs become their difference at twice the rate."""
    outputs = 1 if regression else 2
    rng = np.random.default_rng((seed, 7))
    matrix, bias = rng.uniform(-0.3, 0.3, (DIMENSION, outputs)), rng.uniform(-0.3, 0.3, outputs)
    sign = np.array([1.0]) if regression else np.array([-1.0, 1.0])
    lanes = Lanes(
        rate=np.array([outputs * m.rate for m in models]),
        radius=np.array([m.radius for m in models]),
        order=np.array([m.order for m in models]),
        mixup=np.array([m.mixup for m in models]),
        negative=np.array([m.weights[0] for m in models]),
        positive=np.array([m.weights[1] for m in models]),
    )
    start = Rule(np.tile((matrix @ sign)[:, None], len(models)), np.tile(bias @ sign, len(models)))
    sets = [data(n, (seed, k), regression) for k, n in enumerate((count, 77))]
    return Group(*sets, seed, lanes, start), (matrix, bias, sign)


def settings_of(models, **changes):
    some = models[-1]
    return Settings(
        loss="squared" if some.squared else "logistic",
        optimiser="adam" if some.adam else "sgd",
        attack="one-step" if some.one_step else "worst-case",
        gradient="mixed" if some.mixed else "adversarial",
        validation="robust" if some.robust_validation else "natural",
        mixup=any(m.mixup != 1 for m in models),
        batch=BATCH,
        **changes,
    )


def expected(model, group, start, epochs):
    """Weight, bias and loss of least validation loss, and when, by the NumPy loop."""
    matrix, bias, sign = start
    count = len(group.train.y)
    tables = shuffles(group.seed, group.train.y, 0, count, model.mixup != 1)
    x, y = (a.astype(float) for a in group.train)
    history = reference(model, x, y, *(t[:epochs] for t in tables), matrix, bias, BATCH)
    held = [a.astype(float) for a in group.validation]
    losses = [batch_mean_loss(model, *held, *p, BATCH) for p in history]
    best = int(np.argmin(losses))
    return history[best][0] @ sign, history[best][1] @ sign, losses[best], best


def compare(models, epochs=EPOCHS, regression=False, tolerance=2e-6):
    group, start = group_of(models, regression=regression)
    (found,) = train([group], settings_of(models), epochs=epochs)
    for k, model in enumerate(models):
        weight, bias, loss, best = expected(model, group, start, epochs)
        size = np.linalg.norm(weight)
        assert found.best_epoch[k] == best
        assert np.linalg.norm(found.weight[k] - weight) < tolerance * size
        assert abs(found.bias[k] - bias) < tolerance * max(size, abs(bias))
        assert abs(found.loss[k] - loss) < tolerance * abs(loss)


# 96 steps, float32 against float64: rounding stays below 2e-6 of the weights; the variants differ
# by more than 5e-2 (tested below).
VARIANTS = {
    "worst-case": {},
    "one-step": {"one_step": True},
    "mixed": {"mixed": True},
    "one-step, mixed": {"one_step": True, "mixed": True},
    "sgd": {"adam": False},
    "robust validation": {"robust_validation": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_lanes_are_the_models_of_the_published_loop(variant):
    models = [Model(0.01, **VARIANTS[variant])] + [
        Model(rate, radius, order, **VARIANTS[variant])
        for order in NORMS
        for rate, radius in ((0.02, 0.1), (0.003, 0.4))
    ]
    compare(models)


def test_the_published_variants_are_other_models():
    """Otherwise the comparison above could not tell them apart."""
    weights = {}
    for name, variant in VARIANTS.items():
        group, _ = group_of([Model(0.02, 0.4, 2.0, **variant)])
        settings = settings_of([Model(0.02, 0.4, 2.0, **variant)])
        (weights[name],) = train([group], settings, epochs=EPOCHS)
    plain = weights["worst-case"].weight
    for name in ("mixed", "sgd"):
        assert np.linalg.norm(weights[name].weight - plain) > 0.05 * np.linalg.norm(plain)


def test_mixup_and_class_weights_are_those_of_the_published_loop():
    compare(
        [
            Model(0.01, 0.2, 2.0, mixup=0.7),
            Model(0.01, 0.0, 2.0, mixup=0.5, weights=(1.0, 3.0)),
            Model(0.02, 0.1, np.inf, mixup=1.0, weights=(0.5, 2.0)),
            Model(0.02, 0.3, 1.0, mixup=0.0),
        ]
    )


@pytest.mark.parametrize("variant", ["robust validation", "one-step, mixed", "sgd"])
def test_regression_is_that_of_the_published_loop(variant):
    models = [Model(0.01, squared=True, **VARIANTS[variant])] + [
        Model(0.01, 0.2, order, squared=True, **VARIANTS[variant]) for order in NORMS
    ]
    compare(models, regression=True)


def test_a_one_step_attack_falls_short_where_a_slope_has_vanished():
    """Points far on their own side have gradients below 1e-6 in l_2; the worst case moves them."""
    x = np.concatenate([np.full((32, 1), -14.0), np.full((32, 1), 14.0)])
    far = Points(x, np.repeat([-1.0, 1.0], 32))
    one, radius = np.ones(2), np.array([0.0, 4.0])
    lanes = Lanes(1000 * one, radius, 2 * one, one, one, one)
    group = Group(far, far, 0, lanes, Rule(np.ones((1, 2)), np.zeros(2)))
    moved = {}
    for attack in ("worst-case", "one-step"):
        settings = Settings(attack=attack, optimiser="sgd", batch=64)
        weight = train([group], settings, epochs=1)[0].weight[:, 0].astype(float)
        moved[attack] = weight[1] - weight[0]
    # One step of each: exp(-10) 10 and exp(-14) 14, times the rate; one step moves points by
    # 4 exp(-14) / (64 * 1e-6), so 5e-2.
    shift = 4 * np.exp(-14) / 64e-6
    pulls = [1000 * np.exp(-m) * m for m in (10, 14, 14 - shift)]
    assert moved["worst-case"] == pytest.approx(pulls[0] - pulls[1], rel=1e-2)
    assert moved["one-step"] == pytest.approx(pulls[2] - pulls[1], rel=1e-2)


def same(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def many(seed=0, copies=3, patience=3, **changes):
    models = [
        Model(rate, radius, order)
        for rate in np.geomspace(1e-4, 0.3, 4 * copies)
        for radius, order in ((0.0, 2.0), (0.2, 2.0), (0.1, np.inf), (0.3, 1.0))
    ]
    group, _ = group_of(models, seed)
    return group, models, settings_of(models, patience=patience, **changes)


def test_a_lane_stops_when_its_validation_loss_no_longer_falls():
    group, models, settings = many(copies=1, patience=3)
    epochs = CHUNK
    (found,) = train([group], settings, epochs=epochs)
    _, start = group_of(models)
    matrix, bias, _ = start
    tables = shuffles(group.seed, group.train.y, 0, len(group.train.y), False)
    x, y = (a.astype(float) for a in group.train)
    held = [a.astype(float) for a in group.validation]
    stops = set()
    for k, model in enumerate(models):
        history = reference(model, x, y, *tables, matrix, bias, BATCH)
        best, epoch = 0, 0
        losses = [batch_mean_loss(model, *held, *p, BATCH) for p in history]
        for epoch, loss in enumerate(losses):
            best = epoch if loss < losses[best] else best
            if epoch - best == settings.patience:
                break
        assert (found.best_epoch[k], found.epochs[k]) == (best, epoch + 1)
        stops.add(epoch + 1)
    assert len(stops) > 3
    assert min(stops) < epochs == max(stops)


def test_packing_changes_no_bit_and_skips_what_has_stopped():
    groups, _, (settings, *_) = zip(*(many(seed) for seed in (0, 1)), strict=True)
    packed, whole = (train(groups, settings, epochs=4 * CHUNK, pack=pack) for pack in (True, False))
    same(packed, whole)
    stopped = packed[0].epochs
    assert ((stopped > 0) & (stopped <= CHUNK)).any()
    assert (stopped > 2 * CHUNK).any()


def test_a_lane_does_not_depend_on_the_others():
    group, _, settings = many()
    (whole,) = train([group], settings, epochs=EPOCHS)
    for chosen in ([5], [40, 3, 17], list(range(47, -1, -1))):
        lanes = Lanes(*(field[chosen] for field in group.lanes))
        start = Rule(group.start.weight[:, chosen], group.start.bias[chosen])
        (alone,) = train([group._replace(lanes=lanes, start=start)], settings, epochs=EPOCHS)
        same(alone, jax.tree.map(lambda leaf, i=chosen: leaf[i], whole))


def test_sizes_seeds_rates_radii_and_repackings_share_one_executable():
    sizes = (180, 100, 61)
    groups = [many(seed)[0] for seed in range(3)]
    groups = [
        group._replace(train=Points(*(a[:n] for a in group.train)))
        for group, n in zip(groups, sizes, strict=True)
    ]
    # A patience that no other test has, so that nothing is compiled yet.
    settings = many()[2]._replace(patience=4)
    with compiled_functions() as compiled:
        train(groups, settings, epochs=3 * CHUNK)
    assert len(compiled) == 1


def one_group(**changes):
    group, _ = group_of([Model(0.01, 0.1)])
    lanes = {k: np.array([v]) for k, v in changes.items() if k in Lanes._fields}
    other = {k: v for k, v in changes.items() if k in Group._fields}
    return group._replace(lanes=group.lanes._replace(**lanes), **other)


NAN = Points(np.full((70, DIMENSION), np.nan), np.ones(70))
BAD = [
    (one_group(radius=-0.5), {}, "radius = -0.5: the perturbation radius must lie in"),
    (one_group(rate=0.0), {}, "rate = 0: the learning rate must lie in"),
    (one_group(mixup=1.5), {}, "mixup = 1.5: the mixing coefficient must lie in"),
    (one_group(mixup=0.5), {}, "mixup: a coefficient other than 1 needs settings"),
    (one_group(order=3.0), {}, "order = .*: the norm of an attack must be 1, 2 or inf"),
    (one_group(positive=-1.0), {}, "positive = -1: the class weight must lie in"),
    (one_group(), {"batch": 191}, "batch = 191: must lie between 1 and the size .* 190"),
    (one_group(), {"attack": "fgsm"}, "attack = 'fgsm': must be worst-case or one-step"),
    (one_group(), {"patience": 0}, "patience = 0: must be at least 1"),
    (one_group(train=NAN), {}, "train: every coordinate and label must be a finite number"),
    (one_group(positive=2.0), {"loss": "squared"}, "must be 1 for the squared loss"),
    (one_group(start=Rule(np.ones((3, 1)), np.ones(1))), {}, "start: must be weights"),
    (one_group(validation=data(9, 0, True)), {}, "validation: labels of the logistic loss"),
]


@pytest.mark.parametrize(("group", "changes", "message"), BAD)
def test_bad_input_is_refused_before_any_computation(group, changes, message, monkeypatch):
    monkeypatch.setattr("sims.training.loop.advance", None)
    settings = Settings(batch=BATCH)._replace(**changes)
    with pytest.raises(InvalidInput, match=message):
        train([group], settings)
    with pytest.raises(InvalidInput, match="epochs = 0"):
        train([one_group()], Settings(batch=BATCH), epochs=0)
    with pytest.raises(InvalidInput, match="at least one"):
        train([])
