"""Counts of argmax rules: they add up, are those of a recount, and are the closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.simulate import multiclass as simulator
from sims.simulate.multiclass import reached_targets, target_counts
from sims.simulate.two_classes import BLOCK, class_errors
from sims.stats.interval import clopper_pearson
from theory.domain import InvalidInput
from theory.multiclass.risk import attack_targets, robust_accuracies
from theory.problem import (
    GaussianClasses,
    GaussianMixture,
    L1Ball,
    L2Ball,
    LinearClassifier,
    LinearScores,
    LinfBall,
    LpBall,
)

KEY = jax.random.key(5)
COUNT = jax.jit(target_counts)
BALLS: dict[str, Any] = {"l1": L1Ball(1.1), "l2": L2Ball(0.7), "linf": LinfBall(0.4)}
DUAL = {"l1": np.inf, "l2": 2, "linf": 1}
OFF = ~np.eye(3, dtype=bool)
# Three norms, 15 counts each: 45 intervals miss with probability at most 4.5e-7 together.
EACH = 1e-8
TRIALS = 128 * BLOCK


def _random(dtype=np.float32):
    rng = np.random.default_rng(2)
    roots = rng.normal(size=(3, 3, 3))
    covariances = roots @ roots.transpose(0, 2, 1) / 3 + 0.3 * np.eye(3)
    means = np.array([[2.0, 0.0, 0.3], [-0.5, 1.8, 0.0], [-0.8, -1.5, 0.5]])
    weights = means + 0.3 * rng.normal(size=(3, 3))
    classes = GaussianClasses(means.astype(dtype), covariances.astype(dtype))
    return classes, LinearScores(weights.astype(dtype), np.array([0.1, -0.2, 0.3], dtype))


CLASSES, SCORES = _random()
FLOAT64 = _random(np.float64)


def _with_radius(name, radius):
    return BALLS[name]._replace(radius=jnp.asarray(radius, jnp.float32))


@pytest.fixture(scope="module")
def counts():
    """Counts under each ball, as NumPy arrays."""
    return {
        name: jax.tree.map(
            np.asarray, COUNT(KEY, CLASSES, SCORES, _with_radius(name, ball.radius), TRIALS)
        )
        for name, ball in BALLS.items()
    }


def _inside(count, probability):
    low, high = clopper_pearson(count, TRIALS, EACH)
    return (low <= probability) & (probability <= high)


@pytest.mark.slow
@pytest.mark.parametrize("name", BALLS)
def test_counts_are_the_closed_forms(name, counts):
    """The intervals are at most 0.008 wide: an error of that size is seen surely."""
    found, threat = counts[name], BALLS[name]
    targets = attack_targets(*FLOAT64, threat)
    assert _inside(found.errors, 1 - np.asarray(robust_accuracies(*FLOAT64, threat))).all()
    assert _inside(found.reached, np.asarray(targets.reachable))[OFF].all()
    assert _inside(found.attributed, np.asarray(targets.attributed))[OFF].all()
    low, high = clopper_pearson(found.reached, TRIALS, EACH)
    assert (high - low).max() < 0.008


@pytest.mark.parametrize("name", BALLS)
def test_wrong_formulas_are_rejected(name, counts):
    found, threat = counts[name], BALLS[name]
    weaker = threat._replace(radius=0.95 * threat.radius)
    other = LinfBall if name == "l1" else L1Ball
    for wrong in (weaker, other(threat.radius), None):
        assert not _inside(found.errors, 1 - np.asarray(robust_accuracies(*FLOAT64, wrong))).all()
    targets = attack_targets(*FLOAT64, threat)
    # The union bound for the union, the likelier target for all of the errors, the natural ones.
    assert not _inside(found.errors, np.asarray(targets.reachable).sum(1)).any()
    natural = np.asarray(attack_targets(*FLOAT64).attributed)
    for wrong in (targets.reachable, natural, np.asarray(targets.attributed).T):
        assert not _inside(found.attributed, np.asarray(wrong))[OFF].all()


def test_every_error_has_one_target(counts):
    for found in counts.values():
        assert np.array_equal(found.attributed.sum(1), found.errors)
        assert (found.reached >= found.attributed).all()
        assert np.diag(found.reached).tolist() == np.diag(found.attributed).tolist() == [0] * 3
        assert found.nonfinite.tolist() == [0] * 3
        assert all(count.dtype == np.int32 for count in found)


def test_counts_equal_a_recount_of_the_same_points_in_every_direction_of_attack():
    """The recount moves each point by the textbook perturbations, in float64."""
    factors = jnp.linalg.cholesky(CLASSES.covariances)
    x = simulator.points(jax.random.fold_in(KEY, np.uint32(0)), CLASSES, factors, BLOCK)
    x, weights, biases = (np.asarray(a, float) for a in (x, *SCORES))
    for name, ball in BALLS.items():
        radius = float(ball.radius)
        found = COUNT(KEY, CLASSES, SCORES, _with_radius(name, radius), BLOCK)
        for y in range(3):
            wrong, unclear = np.zeros(BLOCK, bool), np.zeros(BLOCK, bool)
            for j in {0, 1, 2} - {y}:
                w = weights[j] - weights[y]
                delta = {
                    "l1": np.sign(w) * (np.abs(w) == np.abs(w).max()),
                    "l2": w / np.linalg.norm(w),
                    "linf": np.sign(w),
                }[name]
                answer = (x[y] + radius * delta) @ weights.T + biases
                lead = np.delete(answer, y, 1).max(1) - answer[:, y]
                wrong, unclear = wrong | (lead >= 0), unclear | (np.abs(lead) < 1e-5)
            assert abs(wrong.sum() - int(found.errors[y])) <= unclear.sum()


@pytest.mark.slow
def test_two_classes_are_the_linear_rule():
    """The same law, other draws: each pair of exact intervals overlaps but with chance 4e-8."""
    mean = np.array([1.0, 0.4, -0.2], np.float32)
    identity = np.broadcast_to(np.eye(3, dtype=np.float32), (2, 3, 3))
    classes = GaussianClasses(np.stack([-mean, mean]), identity)
    weight = np.array([0.9, 0.1, -0.5], np.float32)
    scores = LinearScores(np.stack([0 * weight, weight]), np.array([0, 0.2], np.float32))
    threat = LinfBall(np.float32(0.25))
    many = COUNT(KEY, classes, scores, threat, TRIALS).errors
    mixture = GaussianMixture(classes.means, np.ones(2, np.float32), 0.5)
    rule = LinearClassifier(weight, np.float32(0.2))
    two = jax.jit(class_errors)(jax.random.key(6), mixture, rule, threat, TRIALS).errors
    (low, high), (least, most) = (clopper_pearson(np.asarray(c), TRIALS, EACH) for c in (many, two))
    assert ((low <= most) & (least <= high)).all()
    assert (np.abs(low - high) < 0.01).all()


def test_counts_of_ranges_of_blocks_add_up():
    def number(trials, first=0):
        return COUNT(KEY, CLASSES, SCORES, _with_radius("l2", 0.7), trials, first)

    parts = jax.tree.map(jnp.add, number(3 * BLOCK), number(4 * BLOCK, 3))
    assert all(map(np.array_equal, number(7 * BLOCK), parts))
    totals = [int(number(n).errors.sum()) for n in (1, 100, BLOCK - 1, BLOCK, BLOCK + 1)]
    assert totals == sorted(totals)


def test_ties_are_errors_and_the_trials_are_exact():
    same = LinearScores(np.ones((3, 3), np.float32), np.zeros(3, np.float32))
    for trials in (1, 1000, BLOCK + 5):
        found = COUNT(KEY, CLASSES, same, _with_radius("l2", 0.7), trials)
        assert found.errors.tolist() == [trials] * 3
        assert (np.asarray(found.reached)[OFF] == trials).all()


@pytest.mark.slow
def test_no_threat_is_radius_zero_and_orders_agree():
    none, zero = COUNT(KEY, CLASSES, SCORES, None, 5000), _with_radius("l2", 0.0)
    assert all(map(np.array_equal, none, COUNT(KEY, CLASSES, SCORES, zero, 5000)))
    named = COUNT(KEY, CLASSES, SCORES, _with_radius("linf", 0.4), 5000)
    general = LpBall(np.float32(0.4), float("inf"))
    assert all(map(np.array_equal, named, COUNT(KEY, CLASSES, SCORES, general, 5000)))


def test_a_class_squeezed_out_is_always_wrong():
    """Between neighbours at 2 and 3 the interval is gone at radius 1.25; before, it is not."""
    means = np.array([[-3.0], [0.0], [2.0]], np.float32)
    classes = GaussianClasses(means, np.ones((3, 1, 1), np.float32))
    scores = LinearScores(means, -(means[:, 0] ** 2) / 2)
    errors = [
        int(COUNT(KEY, classes, scores, _with_radius("l2", r), BLOCK).errors[1]) for r in (1.1, 1.3)
    ]
    assert errors[0] < BLOCK
    assert errors[1] == BLOCK


def test_non_finite_draws_are_counted_and_are_in_no_other_count(monkeypatch):
    def spoiled(key, shape, dtype):
        return jnp.zeros(shape, dtype).at[1, 5, 0].set(jnp.inf).at[0, :3, 1].set(jnp.nan)

    monkeypatch.setattr(simulator.draws, "normal", spoiled)
    always = LinearScores(np.zeros((3, 3), np.float32), np.zeros(3, np.float32))
    found = target_counts(KEY, CLASSES, always, None, BLOCK)
    assert found.nonfinite.tolist() == [3, 1, 0]
    assert found.errors.tolist() == [BLOCK - 3, BLOCK - 1, BLOCK]
    assert np.asarray(found.reached)[0].tolist() == [0, BLOCK - 3, BLOCK - 3]
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, SCORES)
    assert target_counts(KEY, CLASSES, broken, None, 100).nonfinite.tolist() == [100] * 3


def test_events_are_rows_without_the_diagonal(counts):
    ball = _with_radius("l2", BALLS["l2"].radius)
    reached = reached_targets(target_counts(KEY, CLASSES, SCORES, ball, TRIALS))
    assert np.array_equal(reached.errors, counts["l2"].reached[OFF])
    assert reached.nonfinite.shape == (6,)


def test_shapes_that_do_not_fit_are_named():
    scores = LinearScores(np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
    with pytest.raises(InvalidInput, match=r"weights.shape = \(2, 3\): must be \(3, 3\)"):
        target_counts(KEY, CLASSES, scores, None, 10)
