"""Explicitly perturbed draws against the closed-form squared risk, also after a shift."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.simulate.regression import MOST_BLOCKS, plausible_range, squared_sums, steps
from sims.simulate.two_classes import BLOCK
from theory.problem import L1Ball, L2Ball, LinfBall, Regression
from theory.regression.fit import fit
from theory.regression.risk import deviation, squared_risk

FALSE_ALARM = 1e-7  # for each of a dozen comparisons: about one in a million together
BLOCKS = 128
SUMS = jax.jit(squared_sums)


def mean_loss(key, *arguments):
    """The mean squared loss of one arm over all blocks: its law, weight and ball."""
    true_weight, covariance, noise, weight, ball = jax.tree.map(
        lambda a: jnp.asarray(a)[None], arguments
    )
    law, step = (true_weight, covariance, noise, weight), steps(ball, weight)
    size = jnp.int32(MOST_BLOCKS * BLOCK)
    parts = [
        SUMS(key, *law, step, size, jnp.uint32(first)) for first in range(0, BLOCKS, MOST_BLOCKS)
    ]
    assert not any(int(part.nonfinite.sum()) for part in parts)
    return sum(float(part.losses.sum()) for part in parts) / (BLOCKS * BLOCK)


def law(correlation):
    covariance = jnp.asarray([[1.0, 0.3, correlation], [0.3, 1.5, 0.2], [correlation, 0.2, 2.0]])
    return Regression([1.0, -0.4, 0.0], covariance, 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("ball", [L1Ball, L2Ball, LinfBall])
def test_simulated_losses_are_the_closed_form(ball):
    train = law(0.9)
    threat = ball(0.25)
    weight = fit(train, threat).weight
    for i, (test, attacked) in enumerate(
        ((train, True), (law(-0.9), True), (law(-0.9), False), (law(0.0), True))
    ):
        # No attack is the same program with radius zero.
        used = threat if attacked else ball(0.0)
        found = mean_loss(jax.random.key(i), *test, weight, used)
        expected = float(squared_risk(test, weight, used))
        s = float(deviation(test, weight))
        low, high = plausible_range(expected, s, BLOCKS * BLOCK, FALSE_ALARM)
        assert low <= found <= high
        # An error of two and a half per cent would be seen.
        assert high - low < 0.05 * expected
        wrong = expected + 2 * 0.25 * s * float(jnp.abs(weight).max())
        assert not low <= wrong <= high


def test_the_range_holds_what_it_says():
    rng = np.random.default_rng(0)
    for push in (0.0, 0.4):
        risk = 1 + 2 * push * np.sqrt(2 / np.pi) + push**2
        means = np.mean((np.abs(rng.normal(size=(4000, 50))) + push) ** 2, -1)
        low, high = plausible_range(risk, 1.0, 50, 0.5)
        outside = np.mean((means < low) | (means > high))
        # Not more often than it says, by far more than six standard errors, but not never.
        assert 0 < outside < 0.45
