"""What mixup does: to disparities, where the theorem holds and where not, and under heavy tails."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from theory.fairness import disparity, mixup, mixup_intercept
from theory.fairness.mixup import Beta, Weights, mixed_shift
from theory.rules import intercept
from theory.rules import risk as linear

NODES = np.polynomial.legendre.leggauss(400)


@functools.lru_cache
def _effects(count=6000):
    """Class risks before and after mixup for random settings: s_- = 1, s_+ = K >= 1, any R."""
    rng = np.random.default_rng(9)
    spread = np.exp(rng.uniform(0, 1.3, count))
    spread[::10] = 1.0
    ratio = np.exp(rng.uniform(-2.5, 3, count))
    train = rng.uniform(-0.5, 4, count)
    natural, stronger = train + rng.uniform(0.01, 2, count), train - rng.uniform(0.01, 2, count)
    variance = rng.uniform(0.5, 0.98, count)

    @jax.jit
    @jax.vmap
    def measure(spread, ratio, train, natural, stronger, variance):
        scales = jnp.stack([jnp.ones_like(spread), spread])
        coefficient = (1 + jnp.sqrt(2 * variance - 1)) / 2
        before = intercept.optimal_shift(train, scales, ratio)
        after = mixed_shift(train, scales, ratio, coefficient)

        def both(margin, factor):
            def risks(beta, scales):
                at = jax.scipy.special.ndtr(-(margin - beta) / scales[0])
                return linear.ClassRisks(at, jax.scipy.special.ndtr(-(margin + beta) / scales[1]))

            return risks(before.beta, scales), risks(after.beta, factor * scales)

        on_mixed = jnp.sqrt(variance)
        return (
            before.trivial | after.trivial,
            {"robust": both(train, 1), "natural": both(natural, 1), "stronger": both(stronger, 1)},
            {"robust": both(train, on_mixed), "natural": both(natural, on_mixed)},
        )

    problem = (spread, ratio, train, natural, stronger, variance)
    values = measure(*map(jnp.asarray, problem))
    trivial, original, mixed = jax.tree.map(np.asarray, values)
    return problem, ~trivial, original, mixed


def _gaps(pair):
    return [disparity.accuracy_disparity(risks) for risks in pair]


def test_mixup_shrinks_the_disparity_where_the_theorem_holds():
    (spread, ratio, train, *_), kept, original, _ = _effects()
    holds = kept & (ratio * spread > 1)
    assert holds.sum() > 3000
    region = mixup.shrinking_region(train, _scales(spread), ratio, 0.5, 0.5)
    np.testing.assert_array_equal(np.asarray(region.holds)[kept], _claimed(spread, ratio)[kept])
    for evaluation in ("robust", "natural"):
        before, after = original[evaluation]
        gap, mixed_gap = _gaps((before, after))
        assert np.all(mixed_gap[holds] > 0)
        assert np.all(mixed_gap[holds] <= gap[holds])
        visible = holds & (gap < 1 - 1e-6)
        assert np.all(mixed_gap[visible] < gap[visible])
        assert np.all(after.positive[holds] <= before.positive[holds])
        assert np.all(after.negative[holds] >= before.negative[holds])
    # The price: the overall robust risk rises.
    before, after = original["robust"]
    overall = [r.positive + ratio * r.negative for r in (before, after)]
    assert np.all((overall[1] >= overall[0] * (1 - 1e-15))[holds])


def _scales(spread):
    return jnp.stack([jnp.ones_like(jnp.asarray(spread)), jnp.asarray(spread)], -1)


def _claimed(spread, ratio):
    return (ratio * spread > 1) | ((spread == 1) & (ratio != 1))


def test_mixup_can_widen_the_natural_disparity_where_the_narrow_class_is_rare():
    (spread, ratio, train, *_), kept, original, _ = _effects()
    odd = kept & (ratio * spread < 1) & (spread > 1)
    assert odd.sum() > 300
    region = mixup.shrinking_region(train, _scales(spread), ratio, 0.5, 0.0)
    assert bool(region.opposed[odd].all())
    robust, natural = (np.abs(_gaps(original[name])) for name in ("robust", "natural"))
    assert np.all((robust[1] <= robust[0])[odd])
    wider = (natural[1] > natural[0])[odd]
    assert 0.05 < wider.mean() < 0.95
    # With equal scales the same priors are harmless.
    equal = kept & (spread == 1)
    assert np.all((natural[1] <= natural[0])[equal])
    assert not bool(region.opposed[equal].any())


def test_mixup_can_widen_the_disparity_under_a_stronger_attack():
    (spread, ratio, train, *_), kept, original, _ = _effects()
    holds = kept & (ratio * spread > 1) & (spread > 1)
    before, after = np.abs(_gaps(original["stronger"]))
    wider = (after > before)[holds]
    assert 0.1 < wider.mean() < 0.9
    crossed = np.sign(np.prod(_gaps(original["stronger"]), 0))[holds] < 0
    assert crossed.sum() > 100
    equal = kept & (spread == 1) & (ratio > 1)
    assert np.all((after <= before)[equal])
    assert bool(
        mixup.shrinking_region(train, _scales(spread), ratio, 0.5, 0.6).stronger_attack[holds].all()
    )


def test_on_the_mixed_law_the_disparity_shrinks_with_a_margin_and_grows_past_it():
    (spread, ratio, train, *_), kept, _, mixed = _effects()
    equal = kept & (spread == 1) & (train > 0)
    for evaluation in ("robust", "natural"):
        before, after = np.abs(_gaps(mixed[evaluation]))
        assert np.all((after <= before)[equal])
    past = kept & (ratio * spread > 1) & (train < 0)
    before, after = np.abs(_gaps(mixed["robust"]))
    assert past.sum() > 100
    assert np.mean((after > before)[past]) > 0.5
    region = mixup.shrinking_region(train, _scales(spread), ratio, 0.5, 0.5, on_mixed=True)
    assert not bool(region.mixed_law[equal].any())
    assert bool(region.mixed_law[past].all())


def test_on_the_mixed_law_balanced_priors_are_safe():
    rng = np.random.default_rng(12)
    margin, spread = rng.uniform(0.01, 4, 4000), np.exp(rng.uniform(0.01, 1.3, 4000))
    extra, variance = rng.uniform(0, 2, 4000), rng.uniform(0.5, 0.98, 4000)
    scales, ratio = _scales(spread), jnp.ones(4000)
    coefficient = jnp.asarray((1 + np.sqrt(2 * variance - 1)) / 2)
    betas = [
        np.asarray(jax.jit(mixed_shift)(jnp.asarray(margin), scales, ratio, c).beta)
        for c in (jnp.ones(4000), coefficient)
    ]
    for m in (margin, margin + extra):
        gaps = [
            special.ndtr(-(m + b) / (spread * g)) - special.ndtr(-(m - b) / g)
            for b, g in zip(betas, (1.0, variance**0.5), strict=True)
        ]
        assert np.all(gaps[1] <= gaps[0])
        assert np.all(gaps[1] >= 0)


MOST = 4096


@jax.jit
def _on_stable_mixtures(margins, scales, ratio, weights, alpha):
    """One executable for every test below: weights are filled up with zeros."""
    return mixed_shift(margins, scales, ratio, Weights(weights), alpha)


def _stable(alpha, weights, margins=None, spread=1.0, ratio=2.0):
    margins = np.linspace(1.5, 14.0, 251) if margins is None else margins
    padded = np.pad(np.asarray(weights, float), (0, MOST - len(weights)))
    scales = np.array([1.0, spread])
    return jax.tree.map(np.asarray, _on_stable_mixtures(margins, scales, ratio, padded, alpha))


@pytest.mark.slow
def test_mixing_cauchy_noise_changes_nothing():
    plain, mixed = (_stable(1.0, w, spread=1.4) for w in ([1.0], [0.37, 0.63]))
    assert np.array_equal(plain.trivial, mixed.trivial)
    np.testing.assert_allclose(plain.beta, mixed.beta, rtol=1e-12)
    random = mixup_intercept.coefficient_law(jnp.asarray(0.6), 1.0)
    np.testing.assert_allclose(random.factors, 1, rtol=1e-14)


def test_mixing_heavier_noise_moves_the_intercept_out_and_can_end_in_a_constant_rule():
    margins = np.linspace(0.1, 20.0, 251)
    plain, mixed = (_stable(0.7, w, margins) for w in ([1.0], [0.5, 0.5]))
    assert np.all(mixed.trivial | ~plain.trivial)
    assert np.sum(mixed.trivial & ~plain.trivial) >= 1
    assert np.sum(~mixed.trivial) > 100
    assert np.all((mixed.beta < plain.beta)[~mixed.trivial])


@pytest.mark.parametrize(
    ("alpha", "threshold"), [(1.1, 11.8), (1.3, 4.6), (1.5, 3.6), (1.7, 3.4), (1.9, 3.6)]
)
def test_mixing_stable_noise_shrinks_the_intercept_only_below_a_margin(alpha, threshold):
    plain, mixed = (_stable(alpha, w) for w in ([1.0], [0.5, 0.5]))
    kept = ~(plain.trivial | mixed.trivial)
    grows = np.abs(mixed.beta) > np.abs(plain.beta)
    assert kept.sum() > 200
    change = np.diff(grows[kept].astype(int))
    assert np.abs(change).sum() == 1
    # The document's resolution is 3 %, the grid's 2 %.
    crossed = np.linspace(1.5, 14.0, 251)[kept][1:][change == 1][0]
    assert crossed == pytest.approx(threshold, rel=0.05)


def test_many_mixed_stable_points_lead_to_their_own_limit():
    limit = float(mixup.many_way_shift(1.0, jnp.asarray([1.0, 1.8]), 4.0, 1.5))
    # 4096 points make a factor 1/16; a margin 4^k times as large makes another 1/4^k.
    margins = np.resize(4.0 ** np.arange(7), 251)
    reached = (_stable(1.5, [1 / MOST] * MOST, margins, 1.8, 4.0).beta / margins)[:7]
    distance = np.abs(reached - limit)
    assert np.all(np.diff(distance) < 0), distance
    assert distance[-1] < 1e-5
    assert abs(limit - float(intercept.fair_shift(1.0, jnp.asarray([1.0, 1.8])))) > 0.1
    assert np.isnan(float(mixup.many_way_shift(1.2, jnp.asarray([1.0, 1.8]), 4.0, 1.0)))


def _density(x, alpha):
    nodes, weights = NODES
    v = (nodes + 1) / 2 * 45 ** (1 / (3 * alpha))
    values = np.cos(np.multiply.outer(x, v**3)) * np.exp(-(v ** (3 * alpha))) * 3 * v**2
    return values @ weights * 45 ** (1 / (3 * alpha)) / 2 / np.pi


@pytest.mark.slow
def test_random_coefficients_of_stable_noise():
    scales, ratio, margin = jnp.asarray([1.0, 1.5]), 2.0, 2.0
    solve = jax.jit(lambda alpha: mixed_shift(margin, scales, ratio, Beta(1.0), alpha))
    # Cauchy noise does not notice; at index 2 it is Gaussian of twice the variance.
    plain = float(_stable(1.0, [1.0], np.full(251, margin), 1.5).beta[0])
    assert float(solve(1.0).beta) == pytest.approx(plain, rel=1e-12)
    gaussian = float(mixed_shift(margin, 2**0.5 * scales, ratio, Beta(1.0)).beta)
    assert float(solve(2.0).beta) == pytest.approx(gaussian, rel=1e-10)
    # Between them the densities of the mixed classes, by quadrature over the coefficient, meet.
    alpha, beta = 1.5, float(solve(1.5).beta)
    v, weights = (NODES[0] + 1) / 2 * 0.5 ** (1 / 3), NODES[1] * (NODES[0] + 1) ** 2
    factors = (v ** (3 * alpha) + (1 - v**3) ** alpha) ** (1 / alpha)

    def excess(beta):
        negative = _density((margin - beta) / factors, alpha) / factors
        positive = _density((margin + beta) / (1.5 * factors), alpha) / (1.5 * factors)
        return (ratio * negative - positive) @ weights

    assert excess(beta - 1e-9) < 0 < excess(beta + 1e-9)


def test_regions_for_heavy_tails():
    alphas = jnp.asarray([0.5, 1.0, 1.9, 2.0])
    region = mixup.shrinking_region(1.0, jnp.asarray([1.0, 2.0]), 1.0, 0.5, 0.5, alpha=alphas)
    assert region.heavy_tail.tolist() == [True, True, True, False]
    assert region.holds.tolist() == [False, False, False, True]
