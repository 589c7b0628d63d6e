"""The closed forms that the claims on mixup write out, against the library's rules and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.claims import evaluate
from theory.claims.registry import find
from theory.claims.settings.mixup import SPREAD, meeting_intercept, variance_factor
from theory.claims.zhong2024 import heavy_tails as heavy
from theory.fairness import mixup
from theory.rules.intercept import optimal_shift


def _grid(name):
    axes = find(name).axes
    grids = np.meshgrid(*(axis.grid(axis.default) for axis in axes), indexing="ij")
    return {axis.name: grid.ravel() for axis, grid in zip(axes, grids, strict=True)}


@pytest.mark.slow
def test_the_intercept_of_the_gaussian_claims_is_the_librarys():
    rng = np.random.default_rng(1)
    margin, coefficient = rng.uniform(-1.5, 3, 300), rng.uniform(0, 1, 300)
    ratio = np.where(margin < 0.5, 1.0, np.exp(rng.uniform(-0.6, 2, 300)))
    scales = jnp.tile(jnp.asarray([1.0, SPREAD]), (300, 1))
    shift = jax.jit(mixup.mixed_shift)(margin, scales, ratio, coefficient)
    mine = meeting_intercept(jnp.asarray(margin), jnp.asarray(ratio), variance_factor(coefficient))
    assert not np.any(shift.trivial)
    np.testing.assert_allclose(mine, shift.beta, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heavy-tails", "separated"])
def test_the_intercept_of_the_heavy_tailed_claims_is_the_librarys_and_no_constant_rule_wins(name):
    points = _grid(f"mixup-shrinks-disparity-{name}")
    margin, coefficient = points["margin"], points["coefficient"]
    if name == "heavy-tails":
        alpha, spread, ratio = points["alpha"], SPREAD, heavy.HEAVY_RATIO
    else:
        alpha, spread, ratio = np.full_like(margin, heavy.LIGHT_INDEX), 1.0, heavy.LIGHT_RATIO
    factor = mixup.scale_factor(jnp.asarray(coefficient), jnp.asarray(alpha))
    scales = jnp.stack([factor, factor * spread], -1)
    shift = optimal_shift(margin, scales, np.full_like(margin, ratio), alpha)
    mine = jax.jit(jax.vmap(lambda *v: heavy._intercept(v[0], spread, ratio, *v[1:])))(
        jnp.asarray(margin), jnp.asarray(alpha), factor
    )
    assert not np.any(shift.trivial)
    np.testing.assert_allclose(mine, shift.beta, rtol=1e-9)


@pytest.mark.slow
def test_under_heavy_tails_the_sentence_fails_where_it_is_said_to():
    claim = find("mixup-shrinks-disparity-heavy-tails")
    points = _grid(claim.name)
    fields = [jnp.asarray(points[name]) for name in ("margin", "alpha", "coefficient")]
    after = jax.jit(
        lambda margin, alpha, coefficient: heavy.mixed_disparity(
            margin, SPREAD, heavy.HEAVY_RATIO, alpha, coefficient
        )
    )(*fields)
    before = evaluate.closed_form(claim, points)[:, 0]
    np.testing.assert_array_equal(
        after > before * (1 + 1e-9), evaluate.failing(claim, points)[:, 0]
    )
    cauchy = points["alpha"] == 1
    np.testing.assert_allclose(after[cauchy], before[cauchy], rtol=1e-12)
