"""DAFA in the Gaussian model against quadrature in mpmath and training by search."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import optimize, stats

from support.oracles import normal
from theory.domain import InvalidInput
from theory.fairness import dafa_warm_up
from theory.weights.dafa import dafa_weights


def _sigmoid_mean(mean, sd):
    mean, sd = mp.mpf(float(mean)), mp.mpf(float(sd))
    step = -mean / sd if sd else mp.mpf(0)
    cuts = sorted({step + m / sd for m in (-20, -5, 0, 5, 20)} | {mp.mpf(x) for x in (-4, 0, 4)})
    edges = [mp.mpf(-15), *(c for c in cuts if -15 < c < 15), mp.mpf(15)]
    return mp.quad(lambda z: mp.npdf(z) / (1 + mp.exp(-(mean + sd * z))), edges)


@pytest.mark.slow
def test_logistic_normal_means_are_right_to_1e_13():
    rng = np.random.default_rng(1)
    sd = np.append(np.exp(rng.uniform(np.log(0.3), np.log(50), 14)), [50.0, 0.01])
    mean = rng.normal(0, 1.5, 16) * sd
    mine = np.asarray(dafa_warm_up.logistic_normal_mean(mean, sd))
    with mp.workdps(25):
        error = [abs(_sigmoid_mean(*p) - m) for *p, m in zip(mean, sd, mine.tolist(), strict=True)]
    assert float(max(error)) < 1e-13
    assert float(dafa_warm_up.logistic_normal_mean(0.7, 0.0)) == pytest.approx(
        1 / (1 + np.exp(-0.7))
    )
    assert np.isnan(dafa_warm_up.logistic_normal_mean(0.0, -1.0))
    slope = jax.grad(dafa_warm_up.logistic_normal_mean)(0.4, 2.0)
    ends = [float(dafa_warm_up.logistic_normal_mean(0.4 + s * 1e-5, 2.0)) for s in (1, -1)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["loss", "radius", "both"])
def test_the_whole_chain_is_that_of_training_twice_by_search(scheme):
    clean, k, cost, gamma = 3.0, 1.8, 0.4, 2.0
    weights = np.ones(2)
    for _ in range(2):  # warm-up with equal weights, then the real training

        def risk(t, weights=weights):
            loss = np.ones(2) if scheme == "radius" else weights
            radii = cost * (np.ones(2) if scheme == "loss" else weights)
            negative = normal.cdf(-(t - radii[0]))
            return loss[0] * negative + loss[1] * normal.cdf((t + radii[1] - clean) / k)

        t = optimize.minimize_scalar(
            risk, bounds=(-3, 6), method="bounded", options={"xatol": 1e-12}
        )
        t = t.x
        errors = stats.norm.cdf([-(t - cost), (t + cost - clean) / k])
        if (weights == 1).all():
            with mp.workdps(20):
                own = [
                    float(_sigmoid_mean(gamma * (t - cost), gamma)),
                    float(_sigmoid_mean(gamma * (clean - cost - t), gamma * k)),
                ]
            similarity = np.array([[own[0], 1 - own[0]], [1 - own[1], own[1]]])
            traded = (1 - own[1]) * own[0]  # the wide class is the harder one
            weights = np.array([1 - traded, 1 + traded])
    found = dafa_warm_up.warm_up_similarity(clean - 2 * cost, k, gamma)
    # The search places the threshold to the square root of epsilon.
    np.testing.assert_allclose(found, similarity, rtol=0, atol=3e-8)
    chosen = dafa_weights(found).weights
    np.testing.assert_allclose(chosen, weights, rtol=0, atol=3e-8)
    final = dafa_warm_up.weighted_errors(clean, k, cost, chosen, scheme)
    np.testing.assert_allclose(np.array(final), errors, rtol=0, atol=1e-7)
    assert float(final.positive) < errors.max() + 1e-7


def test_bad_input_is_refused_or_nan():
    with pytest.raises(InvalidInput, match="scheme"):
        dafa_warm_up.weighted_errors(3.0, 1.5, 0.2, jnp.ones(2), "margin")
    assert np.isnan(dafa_warm_up.warm_up_similarity(1.0, -1.0, 2.0)).all()
