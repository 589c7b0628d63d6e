"""Multi-class robust accuracy against quadrature, other exact roads, and explicit attacks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from support.oracles import normal
from theory.domain import InvalidInput
from theory.multiclass import distances as class_distances
from theory.multiclass import risk as multiclass
from theory.numerics.halfspaces import Halfspaces, estimate_probability, probability
from theory.problem import L1Ball, L2Ball, LinfBall

PHI = normal.cdf


def _random(rng, count, dim):
    roots = rng.normal(size=(count, dim, dim))
    covariances = roots @ roots.transpose(0, 2, 1) / dim + 0.2 * np.eye(dim)
    classes = multiclass.GaussianClasses(rng.normal(size=(count, dim)) * 1.8, covariances)
    return classes, multiclass.LinearScores(
        rng.normal(size=(count, dim)), rng.normal(size=count) * 0.5
    )


def _by_quadrature(classes, scores, y, radius, order):
    """P(robustly right | y) in two dimensions, as an integral of interval probabilities."""
    means, covariances = (np.asarray(a) for a in classes)
    weights, biases = (np.asarray(a) for a in scores)
    root = np.linalg.cholesky(covariances[y])
    rows = []
    for j in range(len(weights)):
        if j != y:
            w = weights[y] - weights[j]
            level = w @ means[y] + biases[y] - biases[j] - radius * np.linalg.norm(w, order)
            rows.append((*(root.T @ w), level))

    def inside(z):
        low, high = -np.inf, np.inf
        for a, b, level in rows:
            edge = -(a * z + level) / b
            low, high = (max(low, edge), high) if b > 0 else (low, min(high, edge))
        return normal.pdf(z) * max(PHI(high) - PHI(low), 0)

    kinks = {-9.0, 9.0}
    for (a, b, u), (c, d, v) in itertools.combinations(rows, 2):
        if abs(a * d - b * c) > 1e-12:
            kinks.add(float(np.clip((b * v - d * u) / (a * d - b * c), -9, 9)))
    # A steep edge changes fast where it crosses the centre of the other coordinate.
    for a, b, u in rows:
        if abs(a) > 0:
            kinks |= {float(np.clip((-u + m * b) / a, -9, 9)) for m in (-8, -3, 0, 3, 8)}
    ends = sorted(kinks)
    return sum(
        integrate.quad(inside, *pair, epsabs=1e-15, epsrel=1e-13, limit=200)[0]
        for pair in itertools.pairwise(ends)
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5])
def test_polygons_are_those_of_quadrature(count):
    rng = np.random.default_rng(count)
    for trial in range(3 if count == 5 else 6):
        classes, scores = _random(rng, count, 2)
        ball, dual = [(L1Ball, np.inf), (L2Ball, 2), (LinfBall, 1)][trial % 3]
        radius = 0.3 * (trial % 2)
        mine = multiclass.robust_accuracies(classes, scores, ball(radius))
        for y in range(count):
            truth = _by_quadrature(classes, scores, y, radius, dual)
            assert float(mine[y]) == pytest.approx(truth, abs=3e-13)


def test_polygon_wedge_and_interval_agree_where_they_meet():
    rng = np.random.default_rng(7)
    for _ in range(30):
        angles = rng.uniform(0, 2 * np.pi, 2)
        if rng.uniform() < 0.5:  # needles and almost-parallel strips
            angles[1] = angles[0] + rng.choice([0, np.pi]) + 10.0 ** -rng.uniform(3, 15)
        normals = np.stack([np.cos(angles), np.sin(angles)], -1)
        offsets = rng.normal(size=2)
        if rng.uniform() < 0.3:
            offsets[1] = offsets[0]
        wedge = probability(Halfspaces(jnp.asarray(normals), jnp.asarray(offsets)))
        # A third half-space that holds almost surely, and the first one given twice.
        for extra, level in ((np.array([0.6, 0.8]), 39.0), (normals[0], offsets[0])):
            more = Halfspaces(jnp.vstack([normals, extra]), jnp.append(offsets, level))
            assert float(probability(more)) == pytest.approx(float(wedge), abs=2e-15)
    line = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    offsets = np.array([0.4, 1.1, 0.9, 2.0])
    interval = probability(Halfspaces(jnp.asarray(line), jnp.asarray(offsets)))
    assert float(interval) == pytest.approx(PHI(1.1) - PHI(-0.4), abs=1e-16)
    turned = line * np.array([0.6, 0.8])
    flat = probability(Halfspaces(jnp.asarray(turned), jnp.asarray(offsets)))
    assert float(flat) == pytest.approx(float(interval), abs=1e-15)


def _attacked(rng, classes, scores, y, order, radius, draws):
    """Counts points that stay right under the worst perturbation towards each class, added."""
    means, covariances = (np.asarray(a) for a in classes)
    weights, biases = (np.asarray(a) for a in scores)
    x = means[y] + rng.normal(size=(draws, means.shape[1])) @ np.linalg.cholesky(covariances[y]).T
    right = np.ones(draws, bool)
    for j in set(range(len(weights))) - {y}:
        w = weights[j] - weights[y]
        if order == 2:
            delta = radius * w / np.linalg.norm(w)
        elif order == np.inf:
            delta = radius * np.sign(w)
        else:
            delta = np.zeros_like(w)
            delta[np.abs(w).argmax()] = radius * np.sign(w[np.abs(w).argmax()])
        right &= ((x + delta) @ weights.T + biases).argmax(1) == y
    return int(right.sum())


# Interval half-width of five standard errors at 400 000 draws: off by 0.004 would be seen.
DRAWS, LEVEL = 400_000, 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("order", "ball"), [(1, L1Ball), (2, L2Ball), (np.inf, LinfBall)])
def test_three_classes_in_three_dimensions_stand_explicit_attacks(order, ball):
    rng = np.random.default_rng(11)
    classes, scores = _random(rng, 3, 3)
    # Weights along the means, so that every class is answered.
    scores = scores._replace(weights=classes.means + 0.3 * scores.weights)
    accuracies = multiclass.robust_accuracies(classes, scores, ball(0.25))
    for y in range(3):
        hits = _attacked(rng, classes, scores, y, order, 0.25, DRAWS)
        low, high = stats.binomtest(hits, DRAWS).proportion_ci(1 - LEVEL / 9, method="exact")
        assert low <= float(accuracies[y]) <= high


@pytest.mark.slow
def test_the_lattice_rule_agrees_with_what_is_exact():
    rng = np.random.default_rng(13)
    classes, scores = _random(rng, 5, 2)
    exact = multiclass.robust_accuracies(classes, scores, L2Ball(0.1))
    found = multiclass.estimate_robust_accuracies(
        jax.random.key(0), classes, scores, L2Ball(0.1), points=2048
    )
    # Student t with 15 degrees of freedom: 10 standard errors for five classes, below 1e-6.
    assert (np.abs(found.value - exact) <= 10 * np.asarray(found.error) + 1e-12).all()
    assert float(found.error.max()) < 2e-3
    means = class_distances.means_of_distances(2.5 * (1 - np.eye(6)))
    simplex = multiclass.isotropic_classes(means, np.full(6, 0.8))
    estimate = multiclass.estimate_robust_accuracies(
        jax.random.key(1), simplex, multiclass.nearest_mean_scores(means), L2Ball(0.2)
    )
    truth = float(class_distances.simplex_accuracy(2.5, 0.8, 0.2, 6))
    assert (np.abs(estimate.value - truth) <= 10 * np.asarray(estimate.error) + 1e-12).all()
    assert float(estimate.error.max()) < 1e-3


def test_the_lattice_rule_takes_dependent_rows():
    normals = jnp.asarray([[1.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0], [0, 0.6, 0.8]])
    offsets = jnp.asarray([0.5, 0.8, 1.0, 0.2])
    found = estimate_probability(jax.random.key(2), Halfspaces(normals, offsets), 1024, 16)
    truth = (PHI(1.0) - PHI(-0.5)) * PHI(0.2)
    assert abs(float(found.value) - truth) <= 10 * float(found.error) + 1e-9
    assert float(found.error) < 5e-3


def test_classes_never_answered_and_equal_rules_have_accuracy_zero():
    classes = multiclass.isotropic_classes([[-1.0, 0], [0, 0], [1.0, 0]], np.ones(3))
    hidden = multiclass.LinearScores([[-1.0, 0], [0, 0], [1.0, 0]], [0.0, -0.1, 0.0])
    got = multiclass.robust_accuracies(classes, hidden, L2Ball(0.0))
    np.testing.assert_allclose(got, [PHI(1), 0, PHI(1)], atol=1e-15)
    same = multiclass.LinearScores(np.ones((3, 2)), np.zeros(3))
    np.testing.assert_array_equal(multiclass.robust_accuracies(classes, same), np.zeros(3))
    always = multiclass.LinearScores(np.ones((3, 2)), np.array([0.0, 1.0, 0.0]))
    got = multiclass.robust_accuracies(classes, always, L2Ball(3.0))
    np.testing.assert_array_equal(got, [0, 1, 0])


def test_distances_and_points_give_the_same_accuracies():
    rng = np.random.default_rng(17)
    shapes = [rng.normal(size=(3, 3)) * 2 for _ in range(5)]
    shapes.append(np.array([[-1.0, 0, 0], [0, 0, 0], [2, 0, 0]]))  # collinear
    shapes.append(np.array([[-1.0, 0, 0], [0, 1e-7, 0], [2, 0, 0]]))
    for points in shapes:
        distances = np.linalg.norm(points[:, None] - points, axis=-1)
        scales = rng.uniform(0.5, 1.5, 3)
        mine = class_distances.distance_accuracies(distances, scales, 0.2)
        theirs = multiclass.robust_accuracies(
            multiclass.isotropic_classes(points, scales),
            multiclass.nearest_mean_scores(points),
            L2Ball(0.2),
        )
        # Distances of a needle fix its angle to sqrt(eps) only, and the angle moves by 1 / 2 pi.
        needle = np.abs(points[1, 1]) == 1e-7
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-8 if needle else 1e-14)
    three = class_distances.distance_accuracies(2.0 - 2 * np.eye(3), np.ones(3), 0.3)
    np.testing.assert_allclose(
        three, class_distances.simplex_accuracy(2.0, 1.0, 0.3, 3), rtol=0, atol=1e-15
    )
    twin = class_distances.distance_accuracies([[0.0, 0, 1], [0, 0, 1], [1, 1, 0]], np.ones(3), 0.0)
    np.testing.assert_allclose(twin, [0, 0, PHI(0.5)], atol=1e-15)


def test_the_simplex_integral_is_that_of_another_quadrature():
    for classes, h in itertools.product((2, 4, 30, 1000), (-1.0, 0.5, 3.0)):
        truth = integrate.quad(
            lambda u, h=h, c=classes: normal.pdf(u) * PHI(np.sqrt(2) * h - u) ** (c - 1),
            -12, 12, epsabs=1e-15, limit=400, points=[-4, -2, 0, 2, 4],
        )[0]  # fmt: skip
        mine = class_distances.simplex_accuracy(2 * h + 6, 1.0, 3.0, classes)
        assert float(mine) == pytest.approx(truth, abs=1e-14)


def test_attack_targets_account_for_every_error():
    rng = np.random.default_rng(19)
    for count, dim in ((3, 3), (5, 2), (4, 1), (2, 3)):
        classes, scores = _random(rng, count, dim)
        threat = LinfBall(0.15)
        targets = multiclass.attack_targets(classes, scores, threat)
        error = 1 - np.asarray(multiclass.robust_accuracies(classes, scores, threat))
        np.testing.assert_allclose(targets.attributed.sum(1), error, rtol=0, atol=1e-14)
        reach = np.asarray(targets.reachable)
        assert (reach.max(1) <= error + 1e-14).all()
        assert (error <= reach.sum(1) + 1e-14).all()
    clean = multiclass.attack_targets(classes, scores)
    x = (
        np.asarray(classes.means)[0]
        + rng.normal(size=(DRAWS, 3)) @ np.linalg.cholesky(np.asarray(classes.covariances)[0]).T
    )
    wrong = int(
        ((x @ np.asarray(scores.weights).T + np.asarray(scores.biases)).argmax(1) == 1).sum()
    )
    low, high = stats.binomtest(wrong, DRAWS).proportion_ci(1 - LEVEL, method="exact")
    assert low <= float(clean.attributed[0, 1]) <= high


def test_the_nearest_class_absorbs_most_but_a_falling_share():
    means = np.array([[-3.0], [0.0], [2.0]])
    shares = []
    for radius in (0.0, 0.3, 0.6, 0.9):
        reach = multiclass.nearest_mean_targets(means, np.ones(3), radius).reachable[1]
        assert float(reach[2]) > float(reach[0])
        shares.append(float(reach[2] / (reach[0] + reach[2])))
    assert (np.diff(shares) < 0).all()
    assert shares[-1] > 0.5


def test_average_distance_does_not_order_errors_but_nearest_does():
    # A hub at distance 2 from three classes, one of which has a twin at 1 and no other neighbour.
    points = np.array([[0.0, 0], [2, 0], [2.8, 0.6], [-2, 0], [0, -2]])
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    accuracy = np.asarray(
        multiclass.robust_accuracies(
            multiclass.isotropic_classes(points, np.full(5, 0.6)),
            multiclass.nearest_mean_scores(points),
            L2Ball(0.1),
        )
    )
    average = distances.sum(1) / 4
    nearest = np.where(np.eye(5) > 0, np.inf, distances).min(1)
    assert average[1] > average[0]
    assert nearest[1] < nearest[0]
    assert accuracy[1] < accuracy[0]


def test_line_thresholds_minimise_the_weighted_robust_error():
    rng = np.random.default_rng(23)
    for _ in range(4):
        means = np.cumsum(rng.uniform(2, 4, 4))
        weights, radii = rng.uniform(0.5, 2, 4), rng.uniform(0, 0.4, 4)
        scale = rng.uniform(0.5, 1)
        rule = class_distances.line_thresholds(means, scale, weights, radii)

        def risk(t, means=means, scale=scale, weights=weights, radii=radii):
            low, high = np.append(-np.inf, t), np.append(t, np.inf)
            right = PHI((high - radii - means) / scale) - PHI((low + radii - means) / scale)
            return float(weights @ (1 - right))

        start = (means[1:] + means[:-1]) / 2
        best = optimize.minimize(
            risk,
            start,
            method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-16, "maxiter": 4000},
        )
        assert not bool(rule.coupled)
        assert risk(np.asarray(rule.thresholds)) <= best.fun + 1e-14
        np.testing.assert_allclose(rule.thresholds, best.x, atol=3e-6)
    closed = class_distances.line_thresholds([0.0, 1.0], 1.0, [1.0, 1.0], [0.6, 0.6])
    assert bool(closed.coupled)
    assert np.isnan(closed.thresholds).all()
    accuracies = class_distances.line_accuracies([-0.5, 0.5], [-2.0, 0.0, 2.0], 1.0, 0.5)
    np.testing.assert_allclose(accuracies, [PHI(1), 0, PHI(1)], rtol=1e-15)


def test_the_near_boundary_is_the_cheap_one_to_move():
    margins = np.linspace(0.4, 2.0, 9)
    shift, cost = (np.asarray(a) for a in class_distances.boundary_shift(margins, 0.01))
    np.testing.assert_allclose(PHI(-margins) - PHI(-margins - shift), 0.01, rtol=1e-11)
    np.testing.assert_allclose(
        cost, PHI(shift - margins) + PHI(-margins - shift) - 2 * PHI(-margins), atol=1e-15
    )
    assert (np.diff(cost) > 0).all()
    second_order = 1e-4 * margins / normal.pdf(margins)
    np.testing.assert_allclose(cost[:6], second_order[:6], rtol=0.15)
    assert np.isnan(class_distances.boundary_shift(2.5, 0.01)[0])


@pytest.mark.slow
def test_accuracies_are_jitted_batched_and_differentiable():
    rng = np.random.default_rng(29)
    classes, scores = _random(rng, 4, 2)

    def total(weights):
        rule = multiclass.LinearScores(weights, scores.biases)
        return jnp.sum(multiclass.robust_accuracies(classes, rule, L2Ball(0.2)))

    weights = jnp.asarray(scores.weights)
    slope = jax.jit(jax.grad(total))(weights)
    step = rng.normal(size=weights.shape)
    ends = [float(total(weights + s * 1e-6 * step)) for s in (1, -1)]
    assert float(jnp.sum(slope * step)) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)
    many = jax.vmap(total)(jnp.stack([weights, weights]))
    np.testing.assert_allclose(many, float(total(weights)), rtol=1e-13)
    small = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (classes, scores))
    single = multiclass.robust_accuracies(*small, L2Ball(jnp.float32(0.2)))
    double = multiclass.robust_accuracies(classes, scores, L2Ball(0.2))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, atol=2e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_distances.distance_accuracies([[0.0, 1], [2, 0]], np.ones(2), 0.1), "symm"),
        (lambda: class_distances.distance_accuracies([[1.0, 1], [1, 0]], np.ones(2), 0.1), "diag"),
        (
            lambda: class_distances.means_of_distances([[0.0, 1, 3], [1, 0, 1], [3, 1, 0]]),
            "no points in any space",
        ),
        (lambda: class_distances.distance_accuracies(1 - np.eye(4), np.ones(4), 0.1), "three"),
        (lambda: class_distances.distance_accuracies(1 - np.eye(2), [1.0, 0.0], 0.1), "scales = 0"),
        (lambda: class_distances.line_thresholds([1.0, 0.0], 1.0, [1, 1], [0, 0]), "increase"),
        (lambda: multiclass.GaussianClasses(np.eye(2), np.zeros((2, 2, 2))), "positive definite"),
        (lambda: multiclass.LinearScores(np.eye(2), np.zeros(3)), "biases.shape"),
        (
            lambda: multiclass.robust_accuracies(
                multiclass.isotropic_classes(np.eye(4), np.ones(4)),
                multiclass.nearest_mean_scores(np.eye(4)),
            ),
            "use the estimate",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
