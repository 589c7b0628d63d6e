"""Class weights against loops over pairs, hand computation and numerical optimisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from theory.domain import InvalidInput
from theory.weights import dafa, long_tail
from theory.weights import rules as reweighting_rules
from theory.weights.rules import FairMultipliers, FairTargets


def _similarity(rng, count=None):
    count = int(rng.integers(2, 12)) if count is None else count
    logits = rng.normal(0, 1.5, (count, count)) + rng.uniform(0, 3) * np.eye(count)
    matrix = np.exp(logits)
    return matrix / matrix.sum(1, keepdims=True)


def _traded(similarity, strength):
    """Every unordered pair trades once: what the harder class gains, the easier one loses."""
    count = len(similarity)
    weights = [1.0] * count
    for a in range(count):
        for b in range(a + 1, count):
            if similarity[a, a] == similarity[b, b]:
                continue
            hard, easy = (a, b) if similarity[a, a] < similarity[b, b] else (b, a)
            traded = strength * similarity[hard, easy] * similarity[easy, easy]
            weights[hard] += traded
            weights[easy] -= traded
    return np.array(weights)


def test_dafa_weights_are_those_of_trading_pair_by_pair():
    rng = np.random.default_rng(1)
    clipped = 0
    weights = jax.jit(dafa.dafa_weights)
    unclipped = jax.jit(functools.partial(dafa.dafa_weights, floor=None))
    for count in range(2, 12):  # a hundred random matrices of each size
        matrices = np.stack([_similarity(rng, count) for _ in range(100)])
        strengths = rng.uniform(0, 1.5, 100)
        reference = np.stack([_traded(*p) for p in zip(matrices, strengths, strict=True)])
        raw = np.asarray(unclipped(matrices, strengths).weights)
        np.testing.assert_allclose(raw, reference, rtol=0, atol=1e-14)
        np.testing.assert_allclose(raw.sum(1), count, rtol=0, atol=1e-13)
        assert (raw < 1 + strengths[:, None]).all()
        own = np.diagonal(matrices, axis1=1, axis2=2)
        each = np.arange(100)
        assert (raw[each, own.argmin(1)] >= 1 - 1e-15).all()
        assert (raw[each, own.argmax(1)] <= 1 + 1e-15).all()
        safe = weights(matrices, strengths)
        low = np.any(reference < 0.05, 1)
        np.testing.assert_array_equal(safe.clipped, low)
        clipped += low.sum()
        raised = np.maximum(reference, 0.05)
        raised *= count / raised.sum(1, keepdims=True)
        expected = np.where(low[:, None], raised, reference)
        np.testing.assert_allclose(safe.weights, expected, rtol=1e-13)
        assert (np.asarray(safe.weights) > 0).all()
    assert clipped > 5


def test_two_classes_trade_and_nothing_else_happens():
    swapped = dafa.dafa_weights([[0.8, 0.2], [0.4, 0.6]]).weights
    np.testing.assert_allclose(swapped, [1 - 0.4 * 0.8, 1 + 0.4 * 0.8])
    np.testing.assert_array_equal(dafa.dafa_weights(np.eye(4)).weights, np.ones(4))
    rng = np.random.default_rng(2)
    still = dafa.dafa_weights(_similarity(rng, 3), 0.0).weights
    np.testing.assert_array_equal(still, np.ones(3))


def _as_published(similarity, strength, before):
    """The published loop, re-derived from its description: `else` also meets ties."""
    count = len(similarity)
    weights = np.ones(count)
    for i in range(count):
        for j in range(count):
            if i == j:
                continue
            if similarity[i, i] < similarity[j, j]:
                weights[i] += strength * similarity[i, j] * similarity[j, j]
            elif before:
                weights[i] -= strength * similarity[i, j] * similarity[j, j]
            else:
                weights[i] -= strength * similarity[j, i] * similarity[i, i]
    return weights


@pytest.mark.parametrize("transfer", ["balanced", "before-2024-09"])
def test_quirks_of_the_published_code_are_options(transfer):
    rng = np.random.default_rng(3)
    for _ in range(100):
        similarity = _similarity(rng, 5)
        # A tie between classes 1 and 3.
        similarity[3, 3] = similarity[1, 1] = 0.4
        for row in (1, 3):
            rest = np.arange(5) != row
            similarity[row, rest] *= 0.6 / similarity[row, rest].sum()
        mine = dafa.dafa_weights(
            similarity, 1.2, floor=None, ties="lower-both", transfer=transfer
        ).weights
        reference = _as_published(similarity, 1.2, transfer != "balanced")
        np.testing.assert_allclose(mine, reference, atol=1e-14)
        kept = dafa.dafa_weights(similarity, 1.2, floor=None, transfer=transfer).weights
        assert float(kept.sum()) > float(mine.sum()) + 1e-6
        if transfer == "balanced":
            np.testing.assert_allclose(kept, _traded(similarity, 1.2), atol=1e-14)
        else:
            assert abs(float(kept.sum()) - 5) > 1e-3


def test_the_reference_pgd_loss_never_leaves_the_plain_ball():
    """One coordinate, followed step by step: scaled step and ball, then the plain ones."""
    radius, step = 8.0, 2.0
    weights = np.array([0.3, 0.9, 1.0, 1.6])
    place = np.zeros(4)
    for _ in range(40):
        place = np.minimum(place + weights * step, weights * radius)
        place = np.minimum(place + step, radius)
    budget = dafa.dafa_budget(weights, radius, step, attack="reference-pgd")
    np.testing.assert_allclose(budget.radius, place)
    np.testing.assert_allclose(budget.step, (weights + 1) * step)
    scaled = dafa.dafa_budget(weights, radius, step)
    np.testing.assert_allclose(scaled.radius, weights * radius)


def test_class_similarity_and_trix_by_loop():
    rng = np.random.default_rng(4)
    for _ in range(20):
        probabilities = rng.dirichlet(np.ones(4), 30)
        labels = rng.integers(0, 3, 30)  # class 3 is absent
        matrix = np.zeros((4, 4))
        for c in range(3):
            matrix[c] = probabilities[labels == c].mean(0)
        mine = dafa.class_similarity(probabilities, labels)
        np.testing.assert_allclose(mine, matrix, atol=1e-15)
        weights = _traded(matrix + 1e-8 * np.eye(4), 1.0)[labels]
        np.testing.assert_array_equal(
            dafa.trix_targeted(probabilities, labels), weights < weights.mean()
        )


def test_frl_by_hand():
    state = FairMultipliers(*jnp.asarray([[0.2, 0.0, 0.0], [0.0, 0.45, 0.0], [0.0, 0.0, 0.1]]))
    clean, robust = np.array([0.1, 0.2, 0.6]), np.array([0.3, 0.7, 0.8])
    targets = FairTargets(clean=0.05, boundary=0.07, rate=0.5, margin_rate=0.2, limit=0.5)
    new = reweighting_rules.frl_update(state, clean, robust, targets)
    first = np.maximum([0.2 + 0.5 * (-0.2 - 0.05), 0.5 * (-0.1 - 0.05), 0.5 * (0.3 - 0.05)], 0)
    np.testing.assert_allclose(new.clean, first, atol=1e-15)
    boundary = np.array([0.2, 0.5, 0.2]) - 0.3 - 0.07
    second = np.maximum(np.array([0, 0.45, 0]) + boundary, 0)
    np.testing.assert_allclose(new.boundary, second * 0.5 / max(0.5, second.sum()), atol=1e-15)
    np.testing.assert_allclose(new.margin, np.array([0, 0, 0.1]) + 0.2 * boundary, atol=1e-15)
    lam = np.array([0.1, 0.2, 0.05])
    loop = [1 / 3 + 2 / 3 * lam[i] - sum(lam[j] for j in range(3) if j != i) / 3 for i in range(3)]
    np.testing.assert_allclose(reweighting_rules.frl_weights(lam), loop, rtol=1e-14)
    radii = reweighting_rules.frl_radii([0.0, -1.0, 0.3, 5.0])
    np.testing.assert_allclose(radii, [1, 0.98, np.exp(0.6), 3])


def test_cfa_gives_hard_classes_less():
    found = reweighting_rules.cfa_calibration([0.2, 0.8], 8.0, 6.0, 0.3, 0.5)
    np.testing.assert_allclose(found.radius, [4.0, 8.8])
    np.testing.assert_allclose(found.robust_share, [4.2 / 5.2, 7.8 / 8.8])
    tree = {"a": jnp.ones(2), "b": (jnp.zeros(1),)}
    other = jax.tree.map(lambda leaf: leaf + 1, tree)
    kept = reweighting_rules.cfa_average(tree, other, 0.19, 0.2)
    moved = reweighting_rules.cfa_average(tree, other, 0.21, 0.2)
    np.testing.assert_array_equal(kept["a"], tree["a"])
    np.testing.assert_allclose(moved["b"][0], [0.12])


def test_wat_and_cfol_by_hand():
    costs = np.array([1.0, 3.0, 2.0])
    weights = np.exp(0.1 * costs) / np.exp(0.1 * costs).sum() * 2
    np.testing.assert_allclose(reweighting_rules.wat_weights(costs), weights, rtol=1e-14)
    base = np.array([0.2, 0.8])
    chances = reweighting_rules.cfol_probabilities([1.0, 0.0], base)
    soft = np.array([np.e, 1]) / (np.e + 1)
    np.testing.assert_allclose(chances, (base + soft) / 2, rtol=1e-14)
    np.testing.assert_allclose(
        reweighting_rules.cfol_update([0.3, 0.1], 0, 2.0, chances, 0.5), [0.3 + 1 / chances[0], 0.1]
    )


def test_faal_solves_its_program():
    rng = np.random.default_rng(5)
    for _ in range(20):
        count, radius = 5, rng.uniform(0.05, 1.5)
        margins = rng.uniform(-1, 1, count)
        mine = np.asarray(reweighting_rules.faal_weights(margins, radius))
        divergence = -np.mean(np.log(count * mine))
        assert mine.sum() == pytest.approx(1, abs=1e-14)
        assert divergence == pytest.approx(radius, abs=1e-12)
        # SLSQP in log p: it comes close to the optimum from below, and never above it.
        found = optimize.minimize(
            lambda z, m=margins: -(m @ np.exp(z)),
            np.full(count, -np.log(count)),
            constraints=[
                {"type": "eq", "fun": lambda z: np.exp(z).sum() - 1},
                {"type": "ineq", "fun": lambda z, n=count, r=radius: r + np.mean(z) + np.log(n)},
            ],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert margins @ mine >= -found.fun - 1e-9
        assert margins @ mine <= -found.fun + 1e-6
    for margins, radius in (([0.2, 0.2, 0.2], 0.5), ([0.1, -0.9, 0.3], 0.0), ([0.1, 0.2], -1.0)):
        uniform = np.full(len(margins), 1 / len(margins))
        np.testing.assert_array_equal(reweighting_rules.faal_weights(margins, radius), uniform)


def test_long_tail_rules_at_their_limits_and_by_hand():
    counts = np.array([10.0, 100.0, 1000.0])
    weights = long_tail.effective_number_weights
    np.testing.assert_allclose(weights(counts, 0.0), np.ones(3))
    inverse = 1 / counts
    np.testing.assert_allclose(weights(counts, 1.0), 3 * inverse / inverse.sum(), rtol=1e-14)
    near = weights(counts, 1 - 1e-12)
    np.testing.assert_allclose(near, weights(counts, 1.0), rtol=1e-8)
    direct = (1 - 0.99) / (1 - 0.99**counts)
    np.testing.assert_allclose(weights(counts, 0.99), 3 * direct / direct.sum(), rtol=1e-12)
    logits = np.array([[0.3, -1.0, 2.0]])
    plain = counts * np.exp(logits)
    np.testing.assert_allclose(
        np.exp(long_tail.balanced_softmax(logits, counts)), plain / plain.sum(), rtol=1e-13
    )
    margins = long_tail.ldam_margins(counts)
    np.testing.assert_allclose(margins, 0.5 * (10 / counts) ** 0.25, rtol=1e-14)
    lowered = long_tail.ldam_logits(logits, np.array([1]), margins)
    np.testing.assert_allclose(lowered, 30 * (logits - [[0, margins[1], 0]]), rtol=1e-14)


def test_with_balanced_data_the_long_tail_rules_change_nothing():
    even = np.full(4, 50.0)
    np.testing.assert_allclose(long_tail.effective_number_weights(even, 0.9), np.ones(4))
    assert np.ptp(long_tail.logit_adjustment(even)) == 0
    assert np.ptp(long_tail.ldam_margins(even)) == 0
    logits = np.arange(4.0)
    np.testing.assert_allclose(
        long_tail.balanced_softmax(logits, even), jax.nn.log_softmax(logits), rtol=1e-14
    )


_RNG = np.random.default_rng(6)
_ONES = np.ones(4)
RULES = {
    "dafa": (lambda p: dafa.dafa_weights(p, 1.5).weights, _similarity(_RNG, 4)),
    "budget": (lambda w: dafa.dafa_budget(w, 8.0, 2.0).radius, _RNG.uniform(0.5, 2, 4)),
    "similarity": (
        lambda p: dafa.class_similarity(p, jnp.asarray([0, 0, 3, 1])),
        _similarity(_RNG, 4),
    ),
    "frl update": (
        lambda e: reweighting_rules.frl_update(FairMultipliers(*jnp.zeros((3, 4), e.dtype)), e, e)[
            0
        ],
        _RNG.uniform(0, 1, 4),
    ),
    "frl weights": (reweighting_rules.frl_weights, _RNG.uniform(0, 0.2, 4)),
    "frl radii": (reweighting_rules.frl_radii, _RNG.uniform(0, 0.5, 4)),
    "cfa": (lambda a: reweighting_rules.cfa_calibration(a, 8.0, 6.0)[1], _RNG.uniform(0, 1, 4)),
    "wat": (reweighting_rules.wat_weights, _RNG.normal(size=5)),
    "cfol": (
        lambda w: reweighting_rules.cfol_probabilities(w, jnp.full(4, 0.25, w.dtype)),
        _RNG.normal(size=4),
    ),
    "faal": (reweighting_rules.faal_weights, _RNG.uniform(-1, 1, 4)),
    "effective": (
        lambda n: long_tail.effective_number_weights(n, 0.9),
        _RNG.uniform(2, 9, 4),
    ),
    "logit": (long_tail.logit_adjustment, _RNG.uniform(2, 9, 4)),
    "ldam": (long_tail.ldam_margins, _RNG.uniform(2, 9, 4)),
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_jitted_batched_and_differentiable(name):
    rule, point = RULES[name]
    value = np.asarray(rule(point))
    batch = jnp.stack([jnp.asarray(point)] * 2)
    np.testing.assert_allclose(jax.jit(jax.vmap(rule))(batch)[1], value, rtol=1e-12, atol=1e-14)
    if name not in ("similarity", "frl update"):  # these take one batch, or a state of its shape
        np.testing.assert_allclose(rule(batch)[1], value, rtol=1e-12, atol=1e-14)
    single = rule(jnp.asarray(point, jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, value, rtol=2e-5, atol=2e-6)
    direction = np.random.default_rng(7).normal(size=value.shape)

    def scalar(x):
        return jnp.sum(rule(x) * direction)

    # Along a line that keeps the rows of a similarity matrix at sum one.
    step = np.random.default_rng(8).normal(size=np.shape(point))
    step -= step.mean(-1, keepdims=True)
    slope = float(np.sum(np.asarray(jax.grad(scalar)(jnp.asarray(point))) * step))
    h = 1e-6
    ends = [float(scalar(jnp.asarray(point) + s * h * step)) for s in (1, -1)]
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dafa.dafa_weights([[0.5, 0.4], [0.2, 0.8]]), "must sum to 1"),
        (lambda: dafa.dafa_weights([[1.5, -0.5], [0.2, 0.8]]), "similarity = 1.5"),
        (lambda: dafa.dafa_weights([[0.5, 0.5]]), "similarity.shape"),
        (lambda: dafa.dafa_weights(np.eye(2), -1.0), "strength = -1"),
        (lambda: dafa.dafa_weights(np.eye(2), ties="first"), "ties"),
        (lambda: dafa.dafa_weights(np.eye(2), transfer="old"), "transfer"),
        (lambda: dafa.dafa_weights(np.eye(2), floor=2.0), "floor = 2"),
        (lambda: dafa.dafa_weights("far"), "similarity = 'far'"),
        (lambda: dafa.dafa_budget([1.0, -0.1], 8.0, 2.0), "weights = -0.1"),
        (lambda: dafa.class_similarity(np.eye(2), [0]), "labels.shape"),
        (lambda: reweighting_rules.cfa_calibration([1.2], 8.0, 6.0), "accuracies = 1.2"),
        (lambda: reweighting_rules.frl_weights([np.nan]), "multipliers = nan"),
        (lambda: long_tail.ldam_margins([0.0, 3.0]), "counts = 0"),
        (lambda: long_tail.effective_number_weights([2.0], 1.5), "overlap = 1.5"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
