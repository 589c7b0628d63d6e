"""Directions at the boundary of the margin, and one unit of the last place on either side."""

import jax
import numpy as np
import pytest

from theory.problem import LinfBall, StableMixture
from theory.rules import direction_independent
from theory.rules.direction import optimal_direction

HALVES = [(1.3, -1.3, 0.7), (0.7, 0.0, 0.0), (1.0, 1.0, 1.0)]


def _beside(value):
    return [np.nextafter(value, value.dtype.type(0)), value, np.nextafter(value, np.inf)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.8, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("half", HALVES)
def test_the_margin_is_known_and_continuous_at_the_largest_half_difference(half, alpha, dtype):
    half = np.array(half, dtype)
    mixture = StableMixture(np.stack([-half, half]), np.ones(2, dtype), dtype(0.5), dtype(alpha))
    for radius in _beside(np.abs(half).max()):
        best = optimal_direction(mixture, LinfBall(radius))
        assert np.isfinite(best.weight).all()
        assert np.any(np.asarray(best.weight) != 0)
        assert abs(float(best.margin)) < 4 * np.finfo(dtype).eps
        assert int(best.flag) == 0


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.8])
def test_a_lack_that_is_rounded_in_two_ways_leaves_weights_finite(alpha):
    """As on processors whose fused products make a size of one unit more than the radius."""
    above, below = np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)
    for sizes in ([1.0, below], [above, 1.0], [below, below]):
        weight = direction_independent._beyond_cube(np.array(sizes), np.array(1.0), alpha)
        assert np.isfinite(weight).all()
    assert np.all(np.asarray(direction_independent._any_left(np.zeros(3))) == np.False_)


@pytest.mark.parametrize("alpha", [0.5, 1.5])
def test_slopes_in_the_radius_are_finite_at_the_boundary(alpha):
    half = np.array(HALVES[0])

    def margin(radius):
        mixture = StableMixture(np.stack([-half, half]), np.ones(2), 0.5, alpha)
        return optimal_direction(mixture, LinfBall(radius)).margin

    slopes = [float(jax.grad(margin)(radius)) for radius in _beside(np.float64(1.3))]
    assert np.isfinite(slopes).all()
    assert max(slopes) < 0
