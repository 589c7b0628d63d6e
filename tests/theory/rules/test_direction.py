"""Directions: their certificates, closed forms by hand, ties, edges and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.problem import GaussianMixture, L1Ball, L2Ball, LinfBall, LpBall, StableMixture
from theory.rules.direction import Quality, optimal_direction

ORDERS = (1.0, 1.3, 2.0, 5.0, np.inf)


def _covariance(rng, d, spread=1.0):
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return axes * np.exp(spread * rng.normal(size=d)) @ axes.T


def _stable(delta, alpha):
    delta = np.asarray(delta, float)
    return StableMixture(np.stack([-delta, delta]), [1.0, 1.0], 0.5, alpha)


def _unit(weight):
    return np.asarray(weight) / np.abs(np.asarray(weight)).max()


@pytest.mark.slow
@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("d", [2, 20])
def test_the_gap_of_a_convex_program_is_rounding(d, p):
    """Covariances of condition up to about 1e4 for each norm; a gap needs no peer."""
    rng = np.random.default_rng(d)
    count = 100 if p in (1, 2, np.inf) else 25
    delta = rng.normal(size=(count, d))
    matrices = np.stack([_covariance(rng, d, 1.5) for _ in range(count)])
    radius = rng.uniform(0, 1, count) * np.linalg.norm(delta, p, axis=-1)
    mixture = GaussianMixture(
        np.stack([-delta, delta], 1), np.ones((count, 2)), [0.5] * count, matrices
    )
    solution = optimal_direction(mixture, LpBall(radius, p))
    assert float(jnp.max(solution.gap / (solution.margin + 1))) < 1e-12
    exact = p == 2
    assert set(np.asarray(solution.flag)) == {int(Quality.EXACT if exact else Quality.CERTIFIED)}


@pytest.mark.slow
@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("alpha", [1.0, 1.01, 1.3, 1.9, 2.0])
def test_the_gap_of_independent_noise_is_rounding(alpha, p):
    rng = np.random.default_rng(int(10 * alpha))
    delta = rng.normal(size=(100, 20))
    radius = rng.uniform(0, 1, 100) * np.linalg.norm(delta, p, axis=-1)
    means, ones = np.stack([-delta, delta], 1), np.ones((100, 2))
    solution = optimal_direction(
        StableMixture(means, ones, [0.5] * 100, [alpha] * 100), LpBall(radius, p)
    )
    assert float(jnp.max(solution.gap / (solution.margin + 1))) < 1e-12
    assert bool(jnp.all(solution.flag == int(Quality.EXACT)))


def test_the_gap_sees_a_wrong_direction():
    """The certificate is computed from the weight, so a weight that is off shows in it."""
    from theory.rules import direction_correlated

    rng = np.random.default_rng(0)
    matrix, delta = jnp.asarray(_covariance(rng, 3)), jnp.asarray([1.0, -0.4, 0.3])
    best = optimal_direction(
        GaussianMixture(jnp.stack([-delta, delta]), jnp.ones(2), 0.5, matrix), LinfBall(0.1)
    )
    for turned in (best.weight, best.weight + jnp.asarray([0.1, 0.1, -0.1])):
        bound = direction_correlated._dual_value(turned, delta, 0.1, matrix, np.inf)
        margin = (turned @ delta - 0.1 * jnp.abs(turned).sum()) / jnp.sqrt(turned @ matrix @ turned)
        assert (float(bound - margin) < 1e-14) == (turned is best.weight)


def test_the_stable_weight_is_a_power_of_the_thresholded_gap():
    solution = optimal_direction(_stable([2.0, -1.0, 0.25], 1.5), LinfBall(0.5))
    np.testing.assert_allclose(_unit(solution.weight), [1, -(0.5**2) / 1.5**2, 0], rtol=1e-14)
    # l_1 caps them: theta solves sum (a - theta)_+ = 1, theta = 1.
    solution = optimal_direction(_stable([2.0, -1.0, 0.25], 1.5), L1Ball(1.0))
    np.testing.assert_allclose(_unit(solution.weight), [1, -1, 0.25**2], rtol=1e-14)


def test_cauchy_l2_stays_on_one_coordinate_up_to_the_gap_and_then_spreads():
    delta = [2.0, 1.2, -0.3]
    inside = optimal_direction(_stable(delta, 1.0), L2Ball(0.7))
    np.testing.assert_allclose(_unit(inside.weight), [1, 0, 0], atol=1e-15)
    assert float(inside.margin) == pytest.approx(1.3, rel=1e-14)
    # (a - tau)_+ of norm 1: tau = 0.9 leaves (1.1, 0.3, 0), and so on to the root.
    spread = optimal_direction(_stable(delta, 1.0), L2Ball(1.0))
    tau = float(spread.margin)
    np.testing.assert_allclose((2 - tau) ** 2 + (1.2 - tau) ** 2, 1.0, rtol=1e-13)
    np.testing.assert_allclose(_unit(spread.weight), [1, (1.2 - tau) / (2 - tau), 0], atol=1e-14)


@pytest.mark.parametrize(
    "threat", [None, LinfBall(0.3), L2Ball(0.0), L1Ball(0.0), LpBall(0.0, 3.0)]
)
def test_cauchy_ties_share_the_weight_and_smaller_indices_do_not(threat):
    tied = optimal_direction(_stable([1.0, -1.0, 0.5], 1.0), threat)
    np.testing.assert_allclose(_unit(tied.weight), [1, -1, 0], atol=1e-12)
    single = optimal_direction(_stable([1.0, -1.0, 0.5], 0.8), threat)
    np.testing.assert_allclose(_unit(single.weight), [1, 0, 0], atol=1e-12)
    radius = 0.0 if threat is None else float(threat.radius)
    for solution in (tied, single):
        assert float(solution.margin) == pytest.approx(1 - radius, rel=1e-12)


@pytest.mark.parametrize("p", ORDERS)
def test_the_direction_is_continuous_in_the_index_at_one(p):
    delta = [2.0, -1.5, 0.4]
    for radius in (0.2, 0.6, 1.1):
        at, above = (
            optimal_direction(_stable(delta, a), LpBall(radius, p)) for a in (1.0, 1 + 1e-7)
        )
        assert float(above.margin) == pytest.approx(float(at.margin), abs=1e-6)
        np.testing.assert_allclose(_unit(above.weight), _unit(at.weight), atol=1e-4)


@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5, 2.0])
def test_the_margin_is_positive_exactly_inside_the_norm_of_the_gap(alpha, p):
    delta = np.asarray([1.0, -0.8, 0.3])
    edge = np.linalg.norm(delta, p)
    for share in (0.99, 1.0, 1.01):
        margin = float(optimal_direction(_stable(delta, alpha), LpBall(share * edge, p)).margin)
        assert abs(margin) < 1e-8 if share == 1 else margin * (1 - share) > 0


@pytest.mark.slow
def test_beyond_the_margin_no_random_direction_is_less_bad():
    rng = np.random.default_rng(4)
    delta, matrix = rng.normal(size=3), _covariance(rng, 3)
    weights = rng.normal(size=(20_000, 3)) * (rng.random((20_000, 3)) < 0.7) + 1e-12
    weights = np.concatenate([weights, np.eye(3), -np.eye(3), np.sign(weights)])
    for p in ORDERS:
        radius = 1.2 * np.linalg.norm(delta, p)
        dual = 1.0 if p == np.inf else np.inf if p == 1 else p / (p - 1)
        loss = radius * np.linalg.norm(weights, dual, axis=-1)
        score = weights @ delta - loss
        means = np.stack([-delta, delta])
        gaussian = GaussianMixture(means, [1.0, 2.0], 0.5, matrix)
        length = np.sqrt(np.einsum("ni,ij,nj->n", weights, matrix, weights))
        best = float(optimal_direction(gaussian, LpBall(radius, p)).margin)
        assert np.max(score / length) <= best + 1e-12
        for alpha in (0.6, 1.0, 1.5):
            length = np.sum(np.abs(weights) ** alpha, -1) ** (1 / alpha)
            solution = optimal_direction(_stable(delta, alpha), LpBall(radius, p))
            assert np.max(score / length) <= float(solution.margin) + 1e-12
            assert float(solution.margin) < 0


@pytest.mark.slow
@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("kind", ["covariance", "stable"])
def test_derivatives_of_weight_and_margin_are_those_of_differences(kind, p):
    rng = np.random.default_rng(8)
    delta, matrix = jnp.asarray([1.0, -0.7, 0.45]), jnp.asarray(_covariance(rng, 3, 0.4))

    def direction(delta, radius, alpha, matrix):
        means, ones = jnp.stack([-delta, delta]), jnp.ones(2)
        if kind == "stable":
            mixture = StableMixture(means, ones, 0.5, alpha)
        else:
            mixture = GaussianMixture(means, ones, 0.5, matrix)
        solution = optimal_direction(mixture, LpBall(radius, p))
        return jnp.append(solution.weight / jnp.linalg.norm(solution.weight), solution.margin)

    arguments = (delta, jnp.asarray(0.2), jnp.asarray(1.4), matrix)
    steps = (
        jnp.asarray([0.3, 0.1, -0.2]),
        jnp.asarray(0.4),
        jnp.asarray(0.3),
        0.1 * matrix @ matrix,
    )

    @jax.jit
    def forward_and_reverse(arguments, steps):
        """What reverse mode adds to forward mode is the transposing of the tangent map."""
        _, push = jax.linearize(direction, *arguments)
        pull = jax.linear_transpose(push, *arguments)
        return push(*steps), jax.vmap(pull)(jnp.eye(4))

    forward, reverse = forward_and_reverse(arguments, steps)

    def moved(h):
        return direction(*(a + h * v for a, v in zip(arguments, steps, strict=True)))

    difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
    np.testing.assert_allclose(forward, difference, rtol=1e-6, atol=1e-8)
    along = sum(jnp.tensordot(j, v, axes=v.ndim) for j, v in zip(reverse, steps, strict=True))
    np.testing.assert_allclose(along, forward, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_the_margin_falls_with_the_radius_at_the_rate_of_the_dual_norm():
    mixture = _stable([1.0, -0.7, 0.3], 1.4)

    def margin(radius):
        return optimal_direction(mixture, L2Ball(radius)).margin

    solution = optimal_direction(mixture, L2Ball(0.5))
    size = np.abs(np.asarray(solution.weight))
    rate = np.linalg.norm(size) / np.sum(size**1.4) ** (1 / 1.4)
    assert float(jax.grad(margin)(0.5)) == pytest.approx(-rate, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("p", ORDERS)
def test_float32_margins(p):
    rng = np.random.default_rng(1)
    for stable_index in (None, 1.3, None, 1.3, None, 1.8):
        delta, matrix = rng.normal(size=3), _covariance(rng, 3, 0.7)
        radius = 0.4 * np.linalg.norm(delta, p)

        def margin(dtype, index=stable_index, delta=delta, matrix=matrix, radius=radius):
            means, ones, half, matrix, index, radius = (
                None if a is None else jnp.asarray(a, dtype)
                for a in ([-delta, delta], [1, 1], 0.5, matrix, index, radius)
            )
            law = GaussianMixture(means, ones, half, matrix)
            law = law if index is None else StableMixture(means, ones, half, index)
            return optimal_direction(law, LpBall(radius, p)).margin

        single, double = margin(jnp.float32), margin(jnp.float64)
        assert single.dtype == jnp.float32
        assert float(single) == pytest.approx(float(double), rel=2e-6)


def test_fields_broadcast_over_leading_axes():
    delta = np.asarray([[1.0, 0.3], [0.5, -2.0], [0.2, 0.1]])
    means = np.stack([-delta, delta], 1)
    many = optimal_direction(
        GaussianMixture(means, np.ones((3, 2)), [0.5] * 3, np.eye(2)), LinfBall(jnp.full(3, 0.15))
    )
    assert many.weight.shape == (3, 2)
    for i in range(3):
        one = optimal_direction(
            GaussianMixture(means[i], [1.0, 1.0], 0.5, np.eye(2)), LinfBall(0.15)
        )
        np.testing.assert_allclose(many.weight[i], one.weight, rtol=1e-13, atol=1e-15)
        assert float(many.margin[i]) == pytest.approx(float(one.margin), rel=1e-13)


@pytest.mark.parametrize("p", ORDERS)
def test_no_gap_between_the_means_is_degenerate(p):
    solution = optimal_direction(_stable([0.0, 0.0, 0.0], 1.5), LpBall(0.1, p))
    assert int(solution.flag) == Quality.DEGENERATE
    assert np.isnan(float(solution.margin))
    assert np.all(np.isnan(solution.weight))
