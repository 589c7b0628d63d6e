"""Perturbations: inside the ball, and as bad for the rule as any point of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from sims.simulate import attack
from support.oracles import closed_forms
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearClassifier, LinfBall, LpBall

BALLS = {
    1: (L1Ball, lambda r: LpBall(r, 1)),
    1.2: (lambda r: LpBall(r, 1.2),),
    2: (L2Ball, lambda r: LpBall(r, 2)),
    3: (lambda r: LpBall(r, 3),),
    np.inf: (LinfBall, lambda r: LpBall(r, np.inf)),
}
CASES = [(p, ball) for p, balls in BALLS.items() for ball in balls]


@pytest.mark.parametrize(("p", "ball"), CASES)
@pytest.mark.parametrize("weight", [[3.0, -1, 0.5], [1e-20, 0, -1e-20], [0.0, 0, 0], [-7.0, 0, 0]])
def test_the_step_stays_in_the_ball_and_moves_the_score_by_the_dual_norm(p, ball, weight):
    weight = np.array(weight)
    rule, radius = LinearClassifier(weight, 0.1), 0.7
    x, y = (
        jnp.asarray(np.random.default_rng(0).normal(size=(5, 3))),
        jnp.asarray([1.0, -1, 1, 1, -1]),
    )
    step = np.asarray(attack.perturb(ball(radius), rule, x, y) - x)
    assert np.all(np.linalg.norm(step, p, axis=-1) <= radius * (1 + 1e-15) + 1e-15)
    expected = -np.asarray(y) * radius * float(closed_forms.dual_norm(weight, p))
    size = max(np.abs(weight).max(), 1e-300)
    np.testing.assert_allclose((step @ weight) / size, expected / size, atol=1e-14)


@pytest.mark.parametrize(("p", "ball"), CASES)
def test_no_random_point_of_the_ball_is_worse(p, ball):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=4)
    tried = rng.normal(size=(20_000, 4))
    tried /= np.linalg.norm(tried, p, axis=1, keepdims=True)
    assert (tried @ weight).max() <= weight @ np.asarray(attack.steepest(ball(1.0), weight)) + 1e-14


def test_no_threat_leaves_the_points():
    x = jnp.ones((2, 3))
    rule = LinearClassifier(np.ones(3), 0.0)
    assert attack.perturb(None, rule, x, jnp.ones(2)) is x


def test_a_score_of_zero_is_an_error_for_both_classes():
    rule = LinearClassifier([1.0, -1.0], 0.0)
    x, y = jnp.asarray([[2.0, 2.0], [2.0, 2.0], [3.0, 1.0]]), jnp.asarray([-1.0, 1.0, 1.0])
    assert attack.errs(attack.score(rule, x), y).tolist() == [True, True, False]


def test_foreign_threats_are_refused():
    with pytest.raises(InvalidInput, match="threat = 'far'"):
        attack.steepest("far", jnp.ones(2))
