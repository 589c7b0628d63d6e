"""Disparity under unequal class scales and under heavy tails, against searched intercepts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from theory.fairness import disparity
from theory.problem import L2Ball, LinfBall
from theory.rules import optimal
from theory.rules import risk as linear

BALLS = {2: L2Ball, np.inf: LinfBall}


@functools.lru_cache
def _unequal(count=4000):
    """Robust and natural class risks at two margins, for unequal scales with R K >= 1 and K > 1."""
    rng = np.random.default_rng(11)
    spread = np.exp(rng.uniform(0.02, 1.2, count))
    ratio = np.exp(rng.uniform(-1, 1, count) * 2)
    ratio = np.where(ratio * spread < 1, 1 / ratio, ratio)
    margin, extra = rng.uniform(-0.5, 4, count), rng.uniform(0, 2, count)

    @jax.jit
    @jax.vmap
    def measure(spread, ratio, margin, extra):
        scales = jnp.stack([jnp.ones_like(spread), spread])
        shift = optimal.optimal_shift(margin, scales, ratio)

        def risks(m, beta):
            return linear.ClassRisks(
                jax.scipy.special.log_ndtr(-(m - beta)),
                jax.scipy.special.log_ndtr(-(m + beta) / spread),
            )

        more = optimal.optimal_shift(margin + 0.01, scales, ratio)
        return (
            shift.trivial | more.trivial,
            risks(margin, shift.beta),
            risks(margin + extra, shift.beta),
            risks(margin + 0.01, more.beta),
            risks(margin + extra, more.beta),
        )

    values = measure(*map(jnp.asarray, (spread, ratio, margin, extra)))
    trivial, *risks = jax.tree.map(np.asarray, values)
    return ~trivial, risks


@pytest.mark.slow
def test_the_class_of_larger_scale_fares_worse_and_robustness_widens_the_gap():
    kept, (robust, natural, robust_later, natural_later) = _unequal()
    assert kept.sum() > 3000
    for risks in (robust, natural):
        assert np.all((risks.positive > risks.negative)[kept])

    def gap(risks):
        return (np.exp(risks.positive) - np.exp(risks.negative))[kept]

    # A larger margin: a smaller radius, or classes further apart.
    assert np.all(gap(robust_later) <= gap(robust))
    assert np.mean(gap(robust_later) < gap(robust)) > 0.99
    # Where the direction stands still the natural margin does too, and the disparity still widens.
    assert np.all(gap(natural_later) <= gap(natural))


NODES = np.polynomial.legendre.leggauss(400)


def _density(x, alpha):
    """The stable density from its characteristic function, by Gauss-Legendre in t = v^3."""
    nodes, weights = NODES
    top = (-np.log(1e-18)) ** (1 / (3 * alpha))
    v = top * (nodes + 1) / 2
    values = np.cos(np.multiply.outer(x, v**3)) * np.exp(-(v ** (3 * alpha))) * 3 * v**2
    return values @ weights * top / 2 / np.pi


def _least_shift(margin, ratio, alpha):
    """The smaller intercept at which f(u - t) = R f(u + t), by a scan and a bracketed root."""

    def excess(u):
        near, far = _density(np.array([u - margin, u + margin]), alpha)
        return near - ratio * far

    scan = np.linspace(0, margin + 3, 60)
    first = next(i for i, u in enumerate(scan) if excess(u) > 0)
    return optimize.brentq(excess, scan[first - 1], scan[first], xtol=1e-15)


@pytest.mark.slow
def test_turning_margin_is_where_the_searched_intercept_is_least():
    ratio, alpha = 2.0, 1.5
    searched = optimize.minimize_scalar(
        lambda t: _least_shift(t, ratio, alpha), bracket=(1.8, 2.2, 2.8), tol=1e-10
    ).x
    ratios = np.array([ratio, 4.0, 0.25, 1.0, ratio, ratio, 0.0, ratio, np.nan])
    alphas = np.array([alpha, 1.0, 1.0, 1.0, 2.0, 2.1, 1.5, 0.05, 1.5])
    turning = jax.jit(jax.value_and_grad(disparity.turning_margin))
    mine, slope = np.array([turning(r, a) for r, a in zip(ratios, alphas, strict=True)]).T
    # The search sees a minimum to the root of its rounding.
    assert mine[0] == pytest.approx(searched, abs=1e-6)
    np.testing.assert_allclose(mine[1:3], np.cosh(np.log(2)), rtol=1e-14)
    # (R + 1) / (2 sqrt(R)) has the derivative (R - 1) / (4 R^(3/2)).
    assert slope[1] == pytest.approx(3 / 32, rel=1e-9)
    assert mine[3] == pytest.approx(1, abs=1e-9)
    assert mine[4] == np.inf
    assert np.all(np.isnan(mine[5:]))
