"""Bounds for finite samples against exact binomial sums, simulated training sets and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from theory.domain import InvalidInput
from theory.fairness import finite_samples
from theory.problem import GaussianMixture, L1Ball, L2Ball, LinfBall, StableMixture

PROBABILITIES = (0.0, 1e-4, 1e-3, 0.02, 0.3, 0.5, 0.9, 0.999, 1.0)


def _half_width(method, counts, trials, level):
    if method is finite_samples.hoeffding:
        return np.full(len(counts), float(method(trials, level)))
    return np.asarray(method(counts, trials, level))


@pytest.mark.parametrize("method", [finite_samples.hoeffding, finite_samples.empirical_bernstein])
@pytest.mark.parametrize("trials", [2, 30, 1000])
@pytest.mark.parametrize("level", [0.2, 0.05, 1e-6])
def test_coverage_summed_exactly_over_all_counts(method, trials, level):
    counts = np.arange(trials + 1)
    width = _half_width(method, counts, trials, level)
    for probability in PROBABILITIES:
        missed = np.abs(counts / trials - probability) > width
        assert stats.binom.pmf(counts, trials, probability)[missed].sum() <= level * (1 + 1e-9)


def test_narrower_intervals_would_not_cover():
    """The sum above rejects Hoeffding's width without the 2 of two sides or of the exponent."""
    trials, level = 1000, 0.05
    counts, rate = np.arange(trials + 1), np.arange(trials + 1) / trials
    width = float(finite_samples.hoeffding(trials, level))
    missed = stats.binom.pmf(counts, trials, 0.5)[np.abs(rate - 0.5) > width / 2**0.5].sum()
    assert missed > level
    few = np.asarray(finite_samples.empirical_bernstein(counts, trials, level))
    pmf = stats.binom.pmf(counts, trials, 0.5)
    assert pmf[np.abs(rate - 0.5) > few / 2].sum() > level


def test_the_exact_bound_is_that_of_the_binomial_sum():
    trials = 40
    counts = np.arange(trials + 1)
    exact_upper = jax.jit(finite_samples.exact_upper)
    for level in (0.3, 1e-3):
        upper = np.asarray(exact_upper(counts, trials, level))
        tail = stats.binom.cdf(counts, trials, upper)
        np.testing.assert_allclose(tail[:-1], level, rtol=1e-10)
        assert upper[-1] == 1
        for probability in PROBABILITIES:
            missed = stats.binom.pmf(counts, trials, probability)[upper < probability].sum()
            assert missed <= level * (1 + 1e-9)


def test_the_exact_bound_for_many_points_its_slope_and_its_float32():
    slope = jax.jit(jax.value_and_grad(finite_samples.exact_upper, 2))
    # (1 - r)^10 = level.
    assert float(slope(0, 10, 0.02)[1]) == pytest.approx(-(0.02**-0.9) / 10, rel=1e-10)
    large = float(slope(26_000, 262_144, 1e-3)[0])
    assert large == pytest.approx(stats.beta.isf(1e-3, 26_001, 236_144), rel=1e-11)
    single = finite_samples.exact_upper(7, 1000, jnp.float32(0.01))
    assert single.dtype == jnp.float32
    assert float(single) == pytest.approx(stats.beta.isf(0.01, 8, 993), abs=5e-6)


def test_few_errors_make_the_bernstein_interval_the_shorter_one():
    few = finite_samples.empirical_bernstein(jnp.asarray([0, 500_000]), 1_000_000, 0.01)
    width = finite_samples.hoeffding(1_000_000, 0.01)
    assert few[0] < width / 50
    assert few[1] > width


def _excess(p, gap, radius, prior, counts, draws, rng):
    """The excess robust risk of the plug-in rule for simulated class means, one a draw.

    The rule is written out as the two estimated means would give it, and judged by its exact risk.
    """
    means = [-gap, gap]
    estimates = [
        m + rng.normal(size=(draws, len(gap))) / np.sqrt(n)
        for m, n in zip(means, counts, strict=True)
    ]

    def weight(delta):
        if p == 2:
            return delta
        return np.sign(delta) * np.maximum(np.abs(delta) - radius, 0)

    def risk(w, bias):
        length = np.linalg.norm(w, axis=-1)
        loss = radius * (length if p == 2 else np.abs(w).sum(-1))
        negative = special.ndtr((loss + w @ means[0] + bias) / length)
        positive = special.ndtr((loss - w @ means[1] - bias) / length)
        return (1 - prior) * negative + prior * positive

    def rule(low, high):
        delta, centre = (high - low) / 2, (high + low) / 2
        w = weight(delta)
        length = np.linalg.norm(w, axis=-1)
        loss = radius * (length if p == 2 else np.abs(w).sum(-1))
        kappa = ((w * delta).sum(-1) - loss) / length
        return w, -np.log((1 - prior) / prior) / (2 * kappa) * length - (w * centre).sum(-1)

    return risk(*rule(*estimates)) - risk(*rule(*means))


GAP = np.array([1.0, 0.7, -0.5, 0.1, 0.9, 0.0])
SETTINGS = [
    (2, 0.0, 0.5, (1.0, 1.0)),
    (2, 0.4, 0.2, (1.0, 1.0)),
    (2, 0.4, 0.2, (0.2, 3.0)),
    (2, 0.4, 0.8, (0.2, 3.0)),
    (np.inf, 0.3, 0.25, (2.0, 0.5)),
    (np.inf, 0.3, 0.5, (1.0, 1.0)),
]


@pytest.mark.parametrize(("p", "radius", "prior", "share"), SETTINGS)
def test_plug_in_excess_is_the_mean_over_simulated_training_sets(p, radius, prior, share):
    """2e5 training sets of about 1e6 points, where what the expansion leaves out is 1e-5 of it.

    Fails with probability 1e-6 if the mean is right; would see an error of 2 %.
    """
    counts = 1e6 * np.array(share)
    rng = np.random.default_rng(7)
    excess = np.concatenate([_excess(p, GAP, radius, prior, counts, 50_000, rng) for _ in range(4)])
    mixture = GaussianMixture(np.stack([-GAP, GAP]), [1.0, 1.0], prior)
    threat = None if radius == 0 else {2: L2Ball, np.inf: LinfBall}[p](radius)
    mine = float(finite_samples.plug_in_excess_risk(mixture, threat, counts))
    error = excess.std() / len(excess) ** 0.5
    assert error < 0.004 * excess.mean()
    assert abs(excess.mean() - mine) < 4.9 * error
    # The wrong versions: counts or priors of the classes swapped, all coordinates counted.
    if prior != 0.5 and share[0] != share[1]:
        swapped = finite_samples.plug_in_excess_risk(mixture, threat, counts[::-1])
        assert abs(excess.mean() - float(swapped)) > 10 * error


def test_plug_in_excess_scales_with_the_units():
    one = GaussianMixture(np.stack([-GAP, GAP]), [1.0, 1.0], 0.3)
    two = GaussianMixture(np.stack([-2 * GAP, 2 * GAP]), [2.0, 2.0], 0.3)
    for ball in (L2Ball, LinfBall):
        values = [
            float(finite_samples.plug_in_excess_risk(m, ball(r), np.array([100, 50])))
            for m, r in ((one, 0.2), (two, 0.4))
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-14)


def test_plug_in_excess_has_its_domain():
    counts = jnp.asarray([10.0, 10.0])
    unequal = GaussianMixture(np.stack([-GAP, GAP]), [1.0, 2.0], 0.3)
    assert np.isnan(float(finite_samples.plug_in_excess_risk(unequal, None, counts)))
    equal = unequal._replace(scales=jnp.ones(2))
    assert np.isnan(float(finite_samples.plug_in_excess_risk(equal, LinfBall(1.0), counts)))
    with pytest.raises(InvalidInput, match="threat = L1Ball"):
        finite_samples.plug_in_excess_risk(equal, L1Ball(0.1), counts)
    stable = StableMixture([[-1.0], [1.0]], [1.0, 1.0], 0.5, 1.5)
    with pytest.raises(InvalidInput, match="mixture = StableMixture"):
        finite_samples.plug_in_excess_risk(stable, None, counts)


def _least_weighted_errors(negative, positive, prior):
    """The threshold with the fewest prior-weighted errors on two samples, x > threshold is +1."""
    points = np.concatenate([negative, positive])
    order = np.argsort(points)
    cost = np.where(np.arange(len(points)) < len(negative), -(1 - prior) / len(negative), 0)
    cost[len(negative) :] = prior / len(positive)
    total = np.concatenate([[1 - prior], 1 - prior + np.cumsum(cost[order])])
    place = int(np.argmin(total))
    ordered = points[order]
    if place in (0, len(points)):
        return -np.inf if place == 0 else np.inf
    return (ordered[place - 1] + ordered[place]) / 2


@pytest.mark.parametrize("prior", [0.5, 0.15])
def test_trained_intercepts_keep_within_their_bound(prior):
    """400 Cauchy samples at level 0.1: more misses than a true bound allows with chance 1e-6."""
    rng, level, counts = np.random.default_rng(3), 0.1, np.array([60, 40])
    bound = float(finite_samples.intercept_excess_bound(prior, counts, level))

    def risk(threshold):
        negative, positive = stats.cauchy.sf(threshold + 1), stats.cauchy.cdf(threshold - 1)
        return (1 - prior) * negative + prior * positive

    least = risk(np.concatenate([np.linspace(-30, 30, 6001), [-np.inf, np.inf]])).min()
    excess = [
        risk(
            _least_weighted_errors(
                rng.standard_cauchy(counts[0]) - 1, rng.standard_cauchy(counts[1]) + 1, prior
            )
        )
        - least
        for _ in range(400)
    ]
    assert min(excess) > -1e-6
    assert np.sum(np.array(excess) > bound) <= stats.binom.isf(1e-6, 400, level)
    # A fortieth of it is exceeded too often: it is conservative by less than that.
    assert np.sum(np.array(excess) > bound / 40) > stats.binom.isf(1e-6, 400, level)


def test_bound_on_the_intercept_falls_like_the_root_of_the_counts():
    one, four = (
        float(finite_samples.intercept_excess_bound(0.3, n * np.array([50, 70]), 0.01))
        for n in (1, 4)
    )
    assert one / four == pytest.approx(2, rel=1e-14)
    by_hand = 2 * (0.3 * np.sqrt(np.log(400) / 140) + 0.7 * np.sqrt(np.log(400) / 100))
    assert one == pytest.approx(by_hand, rel=1e-14)


LAWS = {1.0: stats.cauchy, 2.0: stats.norm(scale=2**0.5)}


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_deviation_of_the_median_is_that_of_the_order_statistic(alpha):
    """The law of the median of 2 m + 1 points by quadrature: Beta(m + 1, m + 1) of the ranks."""
    for half, allowed in ((50, 0.03), (500, 0.003), (5000, 0.0003)):
        middle = stats.beta(half + 1, half + 1)
        # Far from the middle the median has no mass to speak of.
        edge = 30 * middle.std()
        variance = integrate.quad(
            lambda u, middle=middle: LAWS[alpha].ppf(u) ** 2 * middle.pdf(u),
            max(0.5 - edge, 1e-9),
            min(0.5 + edge, 1 - 1e-9),
            points=[0.5],
            epsabs=0,
            epsrel=1e-10,
            limit=200,
        )[0]
        mine = float(finite_samples.median_deviation(2 * half + 1, alpha))
        assert mine == pytest.approx(variance**0.5, rel=allowed)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0])
def test_scale_of_the_mean_is_read_off_the_characteristic_function(alpha):
    frequency, count = np.linspace(0.1, 3, 7), 50
    mean = np.exp(-((frequency / count) ** alpha)) ** count
    scale = float(finite_samples.mean_scale(count, alpha))
    np.testing.assert_allclose(mean, np.exp(-((scale * frequency) ** alpha)), rtol=1e-12)
    assert np.sign(scale - 1) == np.sign(1 - alpha)


def test_out_of_domain_is_nan():
    assert np.isnan(float(finite_samples.hoeffding(10, 0.0)))
    assert np.isnan(float(finite_samples.hoeffding(10, 1.0)))
    assert np.isnan(float(finite_samples.empirical_bernstein(1, 10, 1.5)))
    assert np.isnan(float(finite_samples.exact_upper(1, 10, 1.5)))
    assert np.isnan(float(finite_samples.exact_upper(10, 10, 0.0)))
    assert np.isnan(float(finite_samples.intercept_excess_bound(0.5, np.array([1, 1]), -1.0)))
    assert np.isnan(float(finite_samples.median_deviation(10, 2.5)))
    assert np.isnan(float(finite_samples.mean_scale(10, 0.0)))


def test_bounds_are_jittable_vmappable_and_differentiable_in_float32():
    level = jnp.asarray([0.1, 0.01], jnp.float32)
    for values in (
        jax.jit(jax.vmap(lambda v: finite_samples.hoeffding(jnp.float32(100), v)))(level),
        jax.jit(jax.vmap(lambda v: finite_samples.empirical_bernstein(3, 100, v)))(level),
        jax.vmap(lambda v: finite_samples.intercept_excess_bound(0.3, np.array([5, 9]), v))(level),
    ):
        assert values.dtype == jnp.float32
        assert values[1] > values[0]

    def excess(prior):
        gap = jnp.asarray(GAP, jnp.float32)
        mixture = GaussianMixture(jnp.stack([-gap, gap]), jnp.ones(2, jnp.float32), prior)
        return finite_samples.plug_in_excess_risk(
            mixture, L2Ball(jnp.float32(0.2)), np.array([90, 30])
        )

    value, slope = jax.jit(jax.value_and_grad(excess))(jnp.float32(0.3))
    assert value.dtype == jnp.float32
    step = jnp.float32(0.01)
    ends = [float(excess(jnp.float32(0.3) + s)) for s in (-step, step)]
    assert float(slope) == pytest.approx((ends[1] - ends[0]) / 0.02, rel=1e-2)
