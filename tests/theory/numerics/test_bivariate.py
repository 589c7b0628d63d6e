"""The bivariate normal distribution function against two integrals in mpmath."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import stats

from theory.numerics.bivariate import bivariate_normal_cdf, normal_wedge

pytestmark = pytest.mark.slow


def _by_conditioning(h, k, r):
    """P(X <= h, Y <= k) as the integral of phi(x) Phi((k - r x) / sqrt(1 - r^2)), 30 digits."""
    h, k, r = mp.mpf(float(h)), mp.mpf(float(k)), mp.mpf(float(r))
    s = mp.sqrt((1 - r) * (1 + r))
    if s == 0:
        return mp.ncdf(min(h, k)) if r > 0 else max(mp.ncdf(h) - mp.ncdf(-k), mp.mpf(0))
    step = k / r if r else mp.mpf(0)  # where the inner function jumps, when s is small
    width = s / abs(r) if r else mp.mpf(1)
    cuts = {step + m * width for m in (-12, -6, -3, 0, 3, 6, 12)}
    cuts |= {mp.mpf(x) for x in (-12, -8, -4, 0, 4)}
    edges = [mp.mpf(-16), *sorted(c for c in cuts if -16 < c < h), h] if h > -16 else []
    return mp.quad(lambda x: mp.npdf(x) * mp.ncdf((k - r * x) / s), edges) if edges else mp.mpf(0)


def _points():
    rng = np.random.default_rng(12)
    h, k = rng.normal(0, 1.7, 120), rng.normal(0, 1.7, 120)
    r = rng.uniform(-1, 1, 120)
    r[40:100] = (1 - 10.0 ** -rng.uniform(0.5, 12, 60)) * rng.choice([-1, 1], 60)
    h[60:100] = np.sign(r[60:100]) * k[60:100] + rng.normal(size=40) * np.sqrt(1 - r[60:100] ** 2)
    h[90:95] = k[90:95]
    r[95:100] = np.repeat([1 - 1e-12, -1 + 1e-12, 0.925], [2, 2, 1])
    return h, k, r


def test_every_correlation_is_right_to_1e_15():
    h, k, r = _points()
    mine = np.asarray(bivariate_normal_cdf(h, k, r))
    with mp.workdps(30):
        error = [
            abs(_by_conditioning(*p) - m) for *p, m in zip(h, k, r, mine.tolist(), strict=True)
        ]
    assert float(max(error)) < 1e-15, np.argmax(error)


def test_scipy_agrees_where_it_is_accurate():
    rng = np.random.default_rng(13)
    for _ in range(20):
        h, k = rng.normal(size=2).tolist()
        r = rng.uniform(-0.9, 0.9)
        theirs = stats.multivariate_normal.cdf([h, k], cov=[[1, r], [r, 1]], abseps=1e-13)
        assert float(bivariate_normal_cdf(h, k, r)) == pytest.approx(theirs, abs=1e-11)


def test_the_ends_and_infinities_are_exact():
    phi = stats.norm.cdf
    inf = np.inf
    for h, k, r, value in (
        (0.3, 0.7, 1.0, phi(0.3)),
        (0.3, 0.3, 1.0, phi(0.3)),
        (0.3, 0.7, -1.0, phi(0.3) - phi(-0.7)),
        (-0.3, 0.1, -1.0, 0.0),
        (inf, 0.4, 0.3, phi(0.4)),
        (0.4, inf, 0.999, phi(0.4)),
        (-inf, 0.4, -0.99, 0.0),
        (inf, inf, 0.97, 1.0),
    ):
        assert float(bivariate_normal_cdf(h, k, r)) == pytest.approx(value, abs=2e-16), (h, k, r)
    assert np.isnan(float(bivariate_normal_cdf(0.0, 0.0, 1.5)))
    assert np.isnan(float(bivariate_normal_cdf(np.nan, 0.0, 0.5)))


def test_derivatives_are_those_of_the_integral():
    h, k = jnp.asarray([0.4, -1.0, 0.3, 1.2, 0.5]), jnp.asarray([-0.2, 0.5, 0.3, 1.2, -0.5])
    angle = jnp.asarray([1.2, 2.9, 1e-3, 1e-8, np.pi - 1e-6])
    grads = jax.vmap(jax.grad(normal_wedge, (0, 1, 2)))(h, k, angle)
    with mp.workdps(40):
        for i in range(5):
            x = [mp.mpf(float(v[i])) for v in (h, k, angle)]
            s, c = mp.sin(x[2]), mp.cos(x[2])
            truth = [
                mp.npdf(x[0]) * mp.ncdf((x[1] - x[0] * c) / s),
                mp.npdf(x[1]) * mp.ncdf((x[0] - x[1] * c) / s),
                -mp.exp(-(x[0] ** 2 + x[1] ** 2 - 2 * x[0] * x[1] * c) / (2 * s**2)) / (2 * mp.pi),
            ]
            for g, t in zip(grads, truth, strict=True):
                assert abs(float(g[i]) - t) < 1e-9 * max(1, abs(t)) + 1e-12
    # The rule itself, by a difference that does not know it.
    step = 1e-5
    for argument in range(3):
        point = [0.4, -0.2, 1.2]
        ends = []
        for sign in (1, -1):
            moved = list(point)
            moved[argument] += sign * step
            ends.append(float(normal_wedge(*map(jnp.asarray, moved))))
        slope = float(jax.grad(normal_wedge, argument)(*map(jnp.asarray, point)))
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-10)
    second = jax.grad(jax.grad(normal_wedge, 0), 2)(0.4, -0.2, 1.2)
    ends = [float(jax.grad(normal_wedge)(0.4, -0.2, 1.2 + s * step)) for s in (1, -1)]
    assert float(second) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-9)
    assert np.isfinite(jax.grad(normal_wedge, (0, 1, 2))(0.5, 0.5, 0.0)).all()


def test_float32_keeps_its_precision_under_jit():
    h, k, r = (np.float32(a[:40]) for a in _points())
    mine = jax.jit(bivariate_normal_cdf)(h, k, r)
    assert mine.dtype == np.float32
    double = bivariate_normal_cdf(*(a.astype(float) for a in (h, k, r)))
    np.testing.assert_allclose(mine, double, atol=3e-7)
