"""The Square attack: schedules and patterns by hand, points in ball and box, a black box found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks.attack import Target
from nets.attacks.ball import norm
from nets.attacks.losses import margin, misclassified
from nets.attacks.square import _window, square
from nets.attacks.square_pattern import bumps, patterns, stripes, window_sizes
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall

RNG = np.random.default_rng(5)
W = jnp.asarray(RNG.normal(size=(7 * 6 * 2, 3)))
X = jnp.asarray(RNG.uniform(size=(10, 7, 6, 2)))


def network(x):
    return jnp.sin(x.reshape(x.shape[0], -1) @ W)


Y = jnp.argmax(network(X), 1).astype(jnp.int32).at[0].add(1) % 3


def test_squares_shrink_as_in_the_authors_code():
    sizes = window_sizes(5000, 0.8, 32, 32, 1, rescale=False)
    starts = np.flatnonzero(np.diff(sizes)) + 1
    assert starts.tolist() == [11, 51, 201, 501, 1001, 2001, 4001]
    assert sizes[[0, 11, 51, 201, 501, 1001, 2001, 4001]].tolist() == [29, 20, 14, 10, 7, 5, 4, 3]
    odd = window_sizes(5000, 0.8, 32, 32, 3, rescale=False)
    assert np.unique(odd).tolist() == [3, 5, 7, 11, 15, 21, 29]
    assert window_sizes(100, 0.8, 32, 32, 1, rescale=True)[[0, 1, 99]].tolist() == [29, 14, 1]
    assert window_sizes(1, 1.0, 5, 9, 3, rescale=False).tolist() == [5]


def test_patterns_are_the_authors():
    # Nested rectangles of weight 1 / ring^2 around the middle of each half, the lower one negative.
    upper = np.array([[0.25, 1.25, 0.25]])
    lower = np.array([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]])
    expected = np.concatenate([upper / np.linalg.norm(upper), -lower / np.linalg.norm(lower)])
    np.testing.assert_allclose(bumps(3, 2), expected / np.sqrt(2), rtol=1e-14)
    for size in (1, 2, 5, 9):
        assert np.linalg.norm(bumps(size, 2)) == pytest.approx(1, rel=1e-14)
        assert np.abs(bumps(size, 1)).sum() == pytest.approx(1, rel=1e-14)
    table = patterns((3, 5), 7, 6, 2)
    assert table.shape == (2, 2, 7, 6)
    assert (table[0, 0, :3, :3] == bumps(3, 2)).all()
    assert (table[1, 1, :5, :5] == bumps(5, 2).T).all()
    assert not table[:, 0, 3:].any()
    upright, turned = stripes(28, 28, 2)
    assert upright.shape == (25, 28, 28)
    assert (np.count_nonzero(upright, (0, 2)) > 0).tolist() == [False] + 25 * [True] + 2 * [False]
    assert (turned.sum(0) == upright.sum(0).T).all()


def test_windows_lie_anywhere_and_nowhere_else():
    keys = jax.random.split(jax.random.key(0), 300)
    for size in (3, 6):
        window = jax.jit(_window)(keys, jnp.zeros((300, 7, 6, 1)), jnp.int32(size))
        assert (window.mask.sum((1, 2, 3)) == size**2).all()
        # Each of up to 20 places is missed by all of 300 draws with probability 20 exp(-15).
        assert len(set(zip(window.top.tolist(), window.left.tolist(), strict=True))) == (
            (7 - size + 1) * (6 - size + 1)
        )


@pytest.mark.slow
@pytest.mark.parametrize("ball", [LinfBall(0.02), L2Ball(0.15), L1Ball(0.8)], ids=["inf", "2", "1"])
def test_points_lie_in_ball_and_box_flags_hold_and_samples_are_on_their_own(ball):
    attack = jax.jit(lambda keys, x, y: square(keys, network, Target(x, y, ball), queries=60))
    keys = jax.random.split(jax.random.key(1), 10)
    got = attack(keys, X, Y)
    assert (norm(ball, got.x_adv - X) <= ball.radius * (1 + 1e-12)).all()
    assert ((got.x_adv >= 0) & (got.x_adv <= 1)).all()
    assert (got.success == misclassified(network(got.x_adv), Y)).all()
    np.testing.assert_allclose(got.loss, margin(network(got.x_adv), Y), atol=1e-12)
    assert (got.loss >= margin(network(X), Y))[~got.success].all()
    assert (got.x_adv[0] == X[0]).all()
    assert (got.loss > margin(network(X), Y))[1:].sum() >= 7
    order = RNG.permutation(10)
    mixed = attack(keys[order], X[order], Y[order])
    assert all((a[order] == b).all() for a, b in zip(got, mixed, strict=True))


@pytest.mark.slow
def test_more_queries_go_further_and_no_gradient_is_used():
    def steps(x):
        return jnp.round(8 * network(x)) / 8

    target = Target(X, Y, LinfBall(0.03))
    few, many = (
        jax.jit(lambda n=n: square(jax.random.key(2), steps, target, queries=n))() for n in (2, 150)
    )
    assert (few.success <= many.success).all()
    assert few.success.sum() < many.success.sum()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"x": X.reshape(10, -1)}, "must be images"),
        ({"x": X[:, :4], "threat": L2Ball(1.0)}, "at least 5"),
        ({"queries": 0}, "queries = 0"),
        ({"restarts": 0}, "restarts = 0"),
        ({"share": 0.0}, "share = 0.0"),
    ],
)
def test_bad_input_is_refused(settings, message):
    x, threat = settings.pop("x", X), settings.pop("threat", LinfBall(0.1))
    with pytest.raises(InvalidInput, match=message):
        square(jax.random.key(0), network, Target(x, Y, threat), **settings)
