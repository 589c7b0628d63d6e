"""The grid of optimal risks against the rule and the risks of each cell alone."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from theory.problem import LinfBall, StableMixture, prior_of_ratio
from theory.rules.grid import optimal_risk_grid
from theory.rules.optimal import optimal_classifier
from theory.rules.risk import class_risks


@pytest.mark.slow
def test_cells_are_the_risks_of_the_optimal_rule_of_each_alone():
    half_gap = np.array([3.0, 1.0, 0.5])
    axes = ([1.0, 1.5, 2.0], [0.7, 1.0], [0.0, 1.0, 3.5], [0.5, 4.0])
    grid = optimal_risk_grid(jnp.asarray(half_gap), LinfBall, *map(jnp.asarray, axes))
    means = np.stack([-half_gap, half_gap])
    for place in itertools.product(*(range(len(axis)) for axis in axes)):
        alpha, scale, radius, ratio = (axis[i] for axis, i in zip(axes, place, strict=True))
        mixture = StableMixture(means, [1.0, scale], prior_of_ratio(ratio), alpha)
        rule = optimal_classifier(mixture, LinfBall(radius))
        for found, threat in ((grid.natural, None), (grid.robust, LinfBall(radius))):
            alone = class_risks(mixture, rule, threat)
            cell = [float(side[place]) for side in found]
            np.testing.assert_allclose(cell, [float(r) for r in alone], atol=1e-9)
        assert bool(grid.trivial[place]) == (not np.any(rule.weight))
