"""FGSM and PGD on small networks: exact worst cases, invariances, what happens at the edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks import attack, ball, gradient, losses
from support import quick, small_networks
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall, LpBall

pytestmark = pytest.mark.slow

BALLS = {1: L1Ball, 2: L2Ball, np.inf: LinfBall}
RADII = {1: 1.0, 2: 0.6, np.inf: 0.1}
ORACLE_RADIUS, POINTS = 0.1, 120
TOLERANCE = 1e-7


@functools.partial(quick.jit, static_argnames="loss")
def _five_restarts(params, x, y, loss):
    """PGD on one loss, or, for None, on the margin towards every other class in turn."""
    run = functools.partial(
        gradient.pgd,
        jax.random.key(0),
        functools.partial(small_networks.logits, params),
        attack.Target(x, y, LinfBall(ORACLE_RADIUS)),
        steps=40,
        restarts=5,
    )
    if loss is not None:
        return jax.tree.map(lambda leaf: leaf[None], run(loss=loss))

    def towards(shift):
        other = (y + shift) % small_networks.CLASSES
        return run(loss=functools.partial(losses.targeted_margin, target_class=other))

    return jax.lax.map(towards, jnp.arange(1, small_networks.CLASSES, dtype=y.dtype))


@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_v6_no_attack_beats_the_exact_worst_case_and_the_union_meets_it(radius):
    params = jax.tree.map(lambda a: a.astype(jnp.float64), small_networks.train(radius=radius))
    x, y = small_networks.points(POINTS, 1, np.float64)
    rows = zip(np.asarray(x), np.asarray(y), strict=True)
    exact = np.array([small_networks.exact_margin(params, *row, ORACLE_RADIUS) for row in rows])
    reached, bound = exact.T
    # The two sides of the oracle agree, and say the same of every sample.
    # The solver takes 1e-6 for an integer, which moves its value by a little more than that.
    assert np.max(np.abs(bound - reached)) < 1e-5
    assert np.min(np.abs(bound)) > 1e-5
    broken = bound > 0
    assert 0.1 < broken.mean() < 0.9
    every, wrong = [], np.asarray(losses.misclassified(small_networks.logits(params, x), y))
    for loss in (losses.cross_entropy, losses.margin, losses.dlr, None):
        found = _five_restarts(params, x, y, loss)
        for x_adv, success in zip(found.x_adv, found.success, strict=True):
            lead = np.asarray(losses.margin(small_networks.logits(params, x_adv), y))
            assert np.max(lead - bound) <= TOLERANCE
            assert np.all(np.abs(x_adv - x) <= ORACLE_RADIUS + 1e-15)
            assert np.all((x_adv >= 0) & (x_adv <= 1))
            np.testing.assert_array_equal(x_adv[wrong], x[wrong])
            np.testing.assert_array_equal(np.asarray(success), lead >= 0)
            every.append(np.asarray(success))
    missed = broken & ~np.any(every, 0)
    assert missed.mean() <= 0.01


@functools.partial(jax.jit, static_argnames=("steps", "restarts", "start", "loss"))
def _pgd(keys, params, x, y, threat, steps=8, restarts=2, start=ball.random_start, **settings):
    fn = functools.partial(small_networks.logits, params)
    target = attack.Target(x, y, threat)
    return gradient.pgd(keys, fn, target, steps=steps, restarts=restarts, start=start, **settings)


@pytest.mark.parametrize("p", BALLS)
def test_v8_a_sample_does_not_know_its_batch(p):
    """At one block shape, in float32: another order, and padding in place of the other samples."""
    params, count = small_networks.train(), 32
    x, y = small_networks.points(count, 2)
    keys = attack.keys_of(jax.random.key(4), count)
    radius = jnp.asarray(np.linspace(0.1, 1, count) * RADII[p], jnp.float32)
    first = _pgd(keys, params, x, y, BALLS[p](radius))
    order = np.random.default_rng(0).permutation(count)
    second = _pgd(keys[order], params, x[order], y[order], BALLS[p](radius[order]))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(np.asarray(one)[order], two)
    half = count // 2
    zeros = jnp.zeros_like(x[half:])
    padded = jnp.concatenate([x[:half], zeros]), y.at[half:].set(0)
    third = _pgd(keys.at[half:].set(keys[0]), params, *padded, BALLS[p](radius.at[half:].set(0)))
    for one, two in zip(first, third, strict=True):
        np.testing.assert_array_equal(one[:half], two[:half])
    assert 0.1 < np.mean(first.success) < 0.9
    # Ball and box, a radius for each sample.
    size = np.asarray(ball.norm(BALLS[p](radius), first.x_adv - x))
    assert np.all(size <= np.asarray(radius) + 16 * np.finfo(np.float32).eps)
    assert np.all((first.x_adv >= 0) & (first.x_adv <= 1))
    assert np.unique(np.asarray(first.x_adv)[~np.asarray(first.success)]).size > 100


def test_the_best_point_is_kept_whatever_comes_later():
    params = small_networks.train()
    x, y = small_networks.points(64, 3)
    few, many = (_pgd(jax.random.key(1), params, x, y, LinfBall(0.05), restarts=r) for r in (1, 2))
    clean = losses.cross_entropy(small_networks.logits(params, x), y)
    wrong = np.asarray(losses.misclassified(small_networks.logits(params, x), y))
    assert np.all(few.loss >= clean - 1e-6)
    assert np.all(many.success | ~few.success)
    same = np.asarray(many.success == few.success)
    assert np.all(np.asarray(many.loss >= few.loss)[same])
    # A length of step that overshoots loses nothing that was found before.
    far = _pgd(jax.random.key(1), params, x, y, LinfBall(0.05), restarts=1, step=1e6)
    assert np.all(far.success[wrong])
    assert np.all(far.loss >= clean - 1e-6)
    moved = np.asarray(far.success & ~wrong)
    lead = losses.margin(small_networks.logits(params, far.x_adv), y)
    assert np.all(np.asarray(lead)[moved] >= -1e-5)


def test_the_starts_are_what_they_say():
    params = small_networks.train()
    x, y = small_networks.points(32, 5)
    wrong = np.asarray(losses.misclassified(small_networks.logits(params, x), y))
    start = functools.partial(_pgd, jax.random.key(2), params, x, y, LinfBall(0.1), steps=0)
    np.testing.assert_array_equal(start(start=gradient.at_input).x_adv, x)
    keys = attack.keys_of(jax.random.key(2), 32)
    noise = np.asarray(gradient.near_input(LinfBall(0.1), keys, x, (0.0, 1.0)) - x)[~wrong]
    # 5 standard deviations of the mean square of about 450 squares; false alarm below 1e-6.
    spread = np.mean(noise**2) / 1e-6 - 1
    assert abs(spread) < 5 * (2 / noise.size) ** 0.5 + 0.02


def test_an_ascent_forgets_and_ends_in_the_corner_of_a_linear_objective():
    x, _ = small_networks.points(4, 6)
    slope = jnp.where(jnp.arange(16) % 2 == 0, 1, -1).astype(x.dtype)

    def objective(points):
        return jnp.sum(points * slope[None], -1)

    end = gradient.ascend(objective, x, x, LinfBall(0.1), steps=5)
    radius = np.float32(0.1)
    corner = np.clip(np.asarray(x) + radius * np.sign(slope)[None], 0, 1)
    np.testing.assert_array_equal(end, corner.astype(np.float32))


def test_logits_that_are_not_finite_count_as_success_and_spoil_nothing():
    x, y = small_networks.points(16, 7)

    def broken(points):
        good = jnp.stack([points[:, 0] - 2, -points[:, 0]], 1)
        return jnp.where(points[:, 1:2] > 0.55, jnp.nan, good)

    y = jnp.ones_like(y)
    x = x.at[:, 1].set(jnp.linspace(0.3, 0.7, 16, dtype=x.dtype))
    found = jax.jit(
        lambda target: gradient.pgd(jax.random.key(0), broken, target, steps=5, step=1.0)
    )(attack.Target(x, y, LinfBall(0.1)))
    start = np.asarray(x[:, 1])
    assert np.all(found.success[start > 0.55])
    assert not np.any(np.asarray(found.success)[start < 0.44])
    assert np.all(np.isfinite(found.x_adv))
    np.testing.assert_array_equal(found.x_adv[start > 0.55], x[start > 0.55])
    assert np.all(np.isfinite(np.asarray(found.loss)[start < 0.44]))


def test_fgsm_is_one_steepest_step():
    params = small_networks.train()
    x, y = small_networks.points(32, 8)
    fn = functools.partial(small_networks.logits, params)
    slope = jax.grad(lambda x: jnp.sum(losses.cross_entropy(fn(x), y)))(x)
    wrong = np.asarray(losses.misclassified(fn(x), y))
    found = gradient.fgsm(jax.random.key(0), fn, attack.Target(x, y, LinfBall(0.1)))
    wanted = np.clip(np.asarray(x) + np.float32(0.1) * np.sign(slope), 0, 1)
    np.testing.assert_array_equal(found.x_adv, np.where(wrong[:, None], x, wanted))
    np.testing.assert_array_equal(found.success, wrong | losses.misclassified(fn(wanted), y))
    other = gradient.fgsm(jax.random.key(0), fn, attack.Target(x, y, LpBall(0.3, 3)))
    size = np.asarray(ball.norm(LpBall(0.3, 3), other.x_adv - x))
    assert np.all(size <= 0.3 + 1e-6)
    assert np.median(size[~wrong]) > 0.29


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "steps = -1: must be at least 0"),
        ({"restarts": 0}, "restarts = 0: must be at least 1"),
        ({"step": 0.0}, r"step = 0: the step in units of the radius must lie in \(0, inf\)"),
        ({"share": 0.0}, r"share = 0.0: must lie in \(0, 1\]"),
        ({"threat": LinfBall(8.0)}, "perhaps 8/255 is meant"),
        ({"threat": LpBall(0.1, 3)}, "p = 3"),
        ({"key": jax.random.PRNGKey(0)}, "typed key"),
        ({"y": jnp.full(3, 4)}, "y = 4: labels must lie between 0 and 3"),
        ({"logits_fn": lambda x: x[:, 0]}, r"logits.shape = \(3,\)"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    good = {
        "key": jax.random.key(0),
        "logits_fn": lambda x: x[:, :4],
    }
    target = attack.Target(jnp.full((3, 5), 0.5), jnp.zeros(3, jnp.int32), LinfBall(0.1))
    fields = {name: change[name] for name in change if name in attack.Target._fields}
    others = {name: change[name] for name in change if name not in fields}
    with pytest.raises(InvalidInput, match=message):
        gradient.pgd(**(good | others), target=target._replace(**fields))
