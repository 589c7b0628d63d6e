"""V11: the rules of fairness methods, as networks use them, against NumPy oracles of the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from nets.fairness import cfa, dafa, faal, frl, methods, statistics, wat
from nets.fairness.method import start_average, update_fairness_state, weigh
from nets.fairness.statistics import Statistics

CLASSES, BATCH = 5, 40
COUNTS = np.array([50, 200, 100, 400, 25])
BETA = 6.0


def batch(seed, absent=None):
    rng = np.random.default_rng(seed)
    allowed = [c for c in range(CLASSES) if c != absent]
    return rng.normal(0, 2, (BATCH, CLASSES)), rng.choice(allowed, BATCH)


def begin(method, dtype=np.float64):
    return method.start(jnp.asarray(COUNTS), dtype)


def terms_of(method, state, seed=0, beta=BETA):
    """Terms of a random batch, through jit, and its labels."""
    z, y = batch(seed)
    call = jax.jit(lambda s, z, y: weigh(method, s)(z, y, beta))
    return (*(np.asarray(t) for t in call(state, z, y)), y)


def similarity_of(rng):
    logits = rng.normal(0, 1.5, (CLASSES, CLASSES)) + rng.uniform(0, 3) * np.eye(CLASSES)
    matrix = np.exp(logits)
    return matrix / matrix.sum(1, keepdims=True)


def dafa_oracle(p, strength, floor):
    """Each pair once: the class recognised less often takes P_hard,easy P_easy,easy."""
    w = np.ones(CLASSES)
    for hard in range(CLASSES):
        for easy in range(CLASSES):
            if p[hard, hard] < p[easy, easy]:
                w[hard] += strength * p[hard, easy] * p[easy, easy]
                w[easy] -= strength * p[hard, easy] * p[easy, easy]
    low = bool((w < floor).any())
    if low:
        w = np.maximum(w, floor)
        w *= CLASSES / w.sum()
    return w, low


@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_v11_dafa_weights_sum_to_the_number_of_classes(strength):
    rng = np.random.default_rng(1)
    method = methods.build("dafa", warm_up=7, strength=strength)
    assert method.radii is not None
    state, clipped = begin(method), 0
    np.testing.assert_array_equal(state.weights, np.ones(CLASSES))
    assert [epoch for epoch in range(1, 20) if method.due(epoch)] == [7]
    for _ in range(60):
        p = similarity_of(rng)
        after = update_fairness_state(method, state, Statistics(similarity=p))
        reference, low = dafa_oracle(p, strength, 0.05)
        np.testing.assert_allclose(dafa.class_weights(after), reference, rtol=0, atol=1e-10)
        assert abs(float(jnp.sum(after.weights)) - CLASSES) < 1e-12
        np.testing.assert_allclose(method.radii(after), reference, rtol=0, atol=1e-10)
        assert bool(after.clipped) == low
        clipped += low
    label, other, y = terms_of(method, after)
    np.testing.assert_allclose(label, reference[y], atol=1e-10)
    np.testing.assert_array_equal(other, np.full(BATCH, BETA))  # the divergence is not weighted
    assert np.abs(reference[y] - reference[(y + 1) % CLASSES]).max() > 0.01
    old = methods.build("dafa", strength=strength, transfer="before-2024-09", floor=None)
    moved = update_fairness_state(old, state, Statistics(similarity=p))
    assert abs(float(jnp.sum(moved.weights)) - CLASSES) > 1e-3


def frl_oracle(errors, variant, slack, rate, margin_rate, limit, halve_every):
    clean = np.zeros(CLASSES)
    boundary, margin = clean.copy(), clean.copy()
    for number, (natural, robust) in enumerate(errors, 1):
        r = rate / 2 ** (number // halve_every)
        gap = robust - natural
        g0 = natural - natural.mean() - slack
        g1 = gap - gap.mean() - slack
        clean = np.maximum(clean + r * g0, 0)
        clean *= min(1, limit / clean.sum()) if clean.sum() else 1
        if variant != "remargin":
            boundary = np.maximum(boundary + 2 * r * g1, 0)
            boundary *= min(1, limit / boundary.sum()) if boundary.sum() else 1
        if variant != "reweight":
            margin = margin + margin_rate * g1
    weights = []
    for lam in (clean, boundary):
        w = [
            1 / CLASSES
            + (CLASSES - 1) / CLASSES * lam[i]
            - sum(lam[j] for j in range(CLASSES) if j != i) / CLASSES
            for i in range(CLASSES)
        ]
        weights.append(np.array(w))
    return *weights, margin


@pytest.mark.parametrize("variant", ["reweight", "remargin", "both"])
def test_v11_frl_follows_the_violations_of_every_epoch(variant):
    rng = np.random.default_rng(2)
    natural = rng.uniform(0, 0.6, (9, CLASSES)) * np.array([0.1, 0.4, 1, 1.5, 0.2])
    errors = [(n, n + rng.uniform(0, 1, CLASSES) * (1 - n)) for n in natural]
    numbers = {"slack": 0.05, "rate": 0.6, "margin_rate": 0.2, "limit": 0.5, "halve_every": 4}
    method = methods.build("frl", variant=variant, **numbers)
    state = begin(method)
    assert method.due(0)
    for number, (clean, robust) in enumerate(errors, 1):
        assert method.due(number)
        state = update_fairness_state(
            method, state, Statistics(clean_errors=clean, robust_errors=robust)
        )
        clean_weights, boundary_weights, margin = frl_oracle(errors[:number], variant, **numbers)
        found = frl.class_weights(state)
        np.testing.assert_allclose(found[0], clean_weights, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found[1], boundary_weights, rtol=0, atol=1e-10)
    assert float(jnp.sum(state.multipliers.clean)) == pytest.approx(0.5)  # the limit has bound
    label, other, y = terms_of(method, state, beta=1.5)
    np.testing.assert_allclose(label, clean_weights[y] / clean_weights[y].mean(), atol=1e-10)
    expected = 1.5 * boundary_weights[y] / boundary_weights[y].mean()
    np.testing.assert_allclose(other, expected, atol=1e-10)
    joint = methods.build("frl", variant=variant, means="joint", **numbers)
    label, other, y = terms_of(joint, state, beta=1.5)
    both = (clean_weights + boundary_weights)[y].sum()
    np.testing.assert_allclose(label / BATCH, clean_weights[y] / both, atol=1e-10)
    np.testing.assert_allclose(other / BATCH, 1.5 * boundary_weights[y] / both, atol=1e-10)
    if variant == "reweight":
        assert method.radii is None
    else:
        assert method.radii is not None
        radii = np.clip(np.exp(2 * margin), 0.98, 3)
        assert len(set(radii)) > 2
        np.testing.assert_allclose(method.radii(state), radii, rtol=0, atol=1e-10)


def test_frl_halves_its_rate_at_the_fortieth_update():
    method = methods.build("frl")
    state = begin(method)
    errors = np.array([0.9, 0.1, 0.1, 0.1, 0.1])
    grown = []
    for _ in range(41):
        before = float(state.multipliers.clean[0])
        state = update_fairness_state(
            method, state, Statistics(clean_errors=errors, robust_errors=errors)
        )
        # Below its limit again, so that every step shows its whole length.
        grown.append(float(state.multipliers.clean[0]) - before)
        state = state._replace(multipliers=begin(method).multipliers)
    step = 0.05 * (0.9 - 0.26 - 0.1)
    np.testing.assert_allclose(np.array(grown), np.repeat([step, step / 2], [39, 2]), rtol=1e-12)


def test_v11_cfa_calibrates_from_the_tenth_epoch_and_averages_the_fair():
    rng = np.random.default_rng(3)
    method = methods.build("cfa", base=0.3, regularisation_base=0.7)
    assert method.radii is not None
    assert [epoch for epoch in range(1, 13) if method.due(epoch)] == [10, 11, 12]
    state = begin(method)
    np.testing.assert_array_equal(method.radii(state), np.ones(CLASSES))
    label, other, _ = terms_of(method, state)
    np.testing.assert_allclose(other, 6 / 7, atol=1e-15)
    np.testing.assert_allclose(label, 1 / 7, atol=1e-15)
    for _ in range(5):
        accuracy = rng.uniform(0, 1, CLASSES)
        state = update_fairness_state(method, state, Statistics(training_accuracy=accuracy))
        np.testing.assert_allclose(method.radii(state), 0.3 + accuracy, rtol=0, atol=1e-10)
        strength = (0.7 + accuracy) * BETA
        label, other, y = terms_of(method, state)
        np.testing.assert_allclose(other, (strength / (1 + strength))[y], rtol=0, atol=1e-10)
        np.testing.assert_allclose(label, (1 / (1 + strength))[y], rtol=0, atol=1e-10)
    label, other, _ = terms_of(method, state, beta=0.0)  # PGD-AT keeps its plain loss
    np.testing.assert_array_equal(label, np.ones(BATCH))
    np.testing.assert_array_equal(other, np.zeros(BATCH))


def test_the_fairness_gated_average_takes_the_first_good_network_whole():
    held = start_average({"w": jnp.asarray([9.0])})
    call = jax.jit(functools.partial(cfa.average, threshold=0.2, decay=0.88))
    expected, begun = 9.0, False
    for value, worst in ((1.0, 0.1), (2.0, 0.2), (3.0, 0.19), (4.0, 0.5), (5.0, np.nan)):
        held = call(held, {"w": jnp.asarray([value])}, worst)
        if worst >= 0.2:
            expected = 0.88 * expected + 0.12 * value if begun else value
            begun = True
        assert float(held.variables["w"][0]) == pytest.approx(expected, abs=1e-14)
        assert bool(held.begun) == begun
    assert expected == pytest.approx(0.88 * 2 + 0.12 * 4)


def test_wat_weighs_by_the_costs_of_all_epochs_so_far():
    rng = np.random.default_rng(4)
    method = methods.build("wat", rate=0.3)
    assert [epoch for epoch in range(4) if method.due(epoch)] == [1, 2, 3]
    state, costs = begin(method), np.zeros(CLASSES + 1)
    np.testing.assert_allclose(terms_of(method, state)[0], 2 * CLASSES / (CLASSES + 1), rtol=1e-14)
    for _ in range(4):
        losses = rng.uniform(0, 3, CLASSES + 1)
        state, costs = (
            update_fairness_state(method, state, Statistics(held_out_losses=losses)),
            costs + losses,
        )
        w = CLASSES * np.exp(0.3 * costs) / np.exp(0.3 * costs).sum()
        each = w[:CLASSES] + w[CLASSES]
        np.testing.assert_allclose(wat.class_weights(state, 0.3), each, rtol=0, atol=1e-10)
    label, other, y = terms_of(method, state)
    # As published: class sums over the batch, and once more everything.
    loss = rng.uniform(0, 1, BATCH)
    published = sum(w[c] * loss[y == c].sum() for c in range(CLASSES)) / BATCH
    published += w[CLASSES] * loss.mean()
    assert np.mean(label * loss) == pytest.approx(published, rel=1e-12)
    np.testing.assert_allclose(other, BETA * label, rtol=1e-14)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def worst_distribution(margins, radius):
    """SLSQP in log p, from the uniform distribution."""
    count = len(margins)
    found = optimize.minimize(
        lambda z: -(margins @ np.exp(z)),
        np.full(count, -np.log(count)),
        jac=lambda z: -margins * np.exp(z),
        constraints=[
            {"type": "eq", "fun": lambda z: np.exp(z).sum() - 1, "jac": np.exp},
            {
                "type": "ineq",
                "fun": lambda z: radius + np.mean(z) + np.log(count),
                "jac": lambda z: np.full(count, 1 / count),
            },
        ],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return np.exp(found.x)


@pytest.mark.parametrize("margins", ["mean", "sum"])
@pytest.mark.parametrize("absent", [None, 2])
def test_v11_faal_solves_its_program_in_every_batch(margins, absent):
    method = methods.build("faal", radius=0.3, margins=margins)
    state = begin(method)
    call = jax.jit(lambda z, y: weigh(method, state)(z, y, BETA))
    for seed in range(6):
        z, y = batch(seed, absent)
        p = softmax(z)
        leads = [max(np.delete(row, c)) - row[c] for row, c in zip(p, y, strict=True)]
        expected = np.full(CLASSES, -1.0 if margins == "mean" else 0.0)
        for c in set(y):
            mine = [lead for lead, label in zip(leads, y, strict=True) if label == c]
            expected[c] = np.mean(mine) if margins == "mean" else np.sum(mine)
        np.testing.assert_allclose(faal.class_margins(z, y, margins), expected, atol=1e-12)
        worst = worst_distribution(expected, 0.3)
        label, other = call(z, y)
        np.testing.assert_allclose(label, CLASSES * worst[y], rtol=0, atol=1e-6)
        np.testing.assert_allclose(other, BETA * CLASSES * worst[y], rtol=0, atol=1e-5)
        assert np.ptp(worst) > 0.1


def test_long_tail_remedies_by_their_formulas():
    z, y = batch(5)
    n = COUNTS.astype(float)
    for name, options, raw in (
        ("class-balanced", {}, 1 / n),
        ("effective-number", {"overlap": 0.99}, (1 - 0.99) / (1 - 0.99**n)),
    ):
        method = methods.build(name, **options)
        w = CLASSES * raw / raw.sum()
        label, other, labels = terms_of(method, begin(method))
        np.testing.assert_allclose(label, w[labels], rtol=0, atol=1e-10)
        np.testing.assert_allclose(other, BETA * w[labels], rtol=0, atol=1e-9)
    rows = np.arange(BATCH)
    adjusted = methods.build("logit-adjusted", temperature=1.3)
    p = softmax(z + 1.3 * np.log(n / n.sum()))
    found = adjusted.label_loss(begin(adjusted), jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_allclose(found, -np.log(p[rows, y]), rtol=0, atol=1e-10)
    margin = methods.build("ldam", largest=0.4, scale=3.0)
    lowered = z.copy()
    lowered[rows, y] -= (0.4 * (n.min() / n) ** 0.25)[y]
    found = margin.label_loss(begin(margin), jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_allclose(found, -np.log(softmax(3 * lowered)[rows, y]), rtol=0, atol=1e-10)
    for method in (adjusted, margin):
        np.testing.assert_array_equal(terms_of(method, begin(method))[0], np.ones(BATCH))


def test_sums_over_batches_are_those_over_all_samples_by_class():
    rng = np.random.default_rng(6)
    z, y = rng.normal(0, 2, (90, CLASSES)), rng.choice([0, 1, 1, 1, 3, 4], 90)  # none of class 2
    losses = rng.uniform(0, 1, 90)
    add = jax.jit(statistics.add)
    sums = statistics.no_samples(CLASSES, np.float64)
    for part in np.split(np.arange(90), [30, 60]):
        sums = add(sums, z[part], y[part], losses[part])
    similarity, accuracy = statistics.similarity(sums), statistics.accuracy(sums)
    means = statistics.mean_losses(sums)
    p, right = softmax(z), z.argmax(1) == y
    for c in range(CLASSES):
        if c == 2:
            assert np.isnan(similarity[c]).all()
            assert np.isnan(accuracy[c])
            assert np.isnan(means[c])
            continue
        np.testing.assert_allclose(similarity[c], p[y == c].mean(0), rtol=1e-12)
        assert float(accuracy[c]) == pytest.approx(right[y == c].mean(), rel=1e-14)
        assert float(means[c]) == pytest.approx(losses[y == c].mean(), rel=1e-12)
    assert float(means[CLASSES]) == pytest.approx(losses.mean(), rel=1e-12)
    # Published code divides by n / K instead, which is another number.
    assert abs(float(accuracy[1]) - right[y == 1].sum() * CLASSES / 90) > 0.1
    still = add(statistics.no_samples(CLASSES), z.astype(np.float32), y)
    assert still.probabilities.dtype == jnp.float32
    np.testing.assert_array_equal(still.losses, np.zeros(CLASSES))


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_state_is_a_pytree_of_float32_that_stays_as_it_is_under_jit(name):
    """What a checkpoint holds: shapes and dtypes do not change from epoch to epoch."""
    method = methods.build(name)
    state = method.start(jnp.asarray(COUNTS))
    rng = np.random.default_rng(7)
    clean = rng.uniform(0, 0.5, CLASSES)
    measured = Statistics(similarity_of(rng), clean, clean, clean + 0.3, rng.uniform(0, 1, 6))
    measured = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), measured)
    after = jax.jit(functools.partial(update_fairness_state, method))(state, measured)
    kinds = [jax.tree.map(lambda a: (a.shape, a.dtype), s) for s in (state, after)]
    assert kinds[0] == kinds[1]
    eager = update_fairness_state(method, state, measured)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after, eager)
    z, y = batch(8)
    terms = weigh(method, after)(jnp.asarray(z, jnp.float32), jnp.asarray(y), BETA)
    assert all(term.dtype == jnp.float32 and term.shape == (BATCH,) for term in terms)
    assert method.label_loss(after, jnp.asarray(z, jnp.float32), jnp.asarray(y)).shape == (BATCH,)
