"""Auto-PGD against the authors' results, a NumPy oracle with switches, and linear closed forms."""

import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks import linear, losses
from nets.attacks.apgd import apgd, apgd_targeted, rival, starting_points
from nets.attacks.ascent import ascend_adaptively, evaluate, windows
from nets.attacks.attack import Target
from nets.attacks.ball import norm
from nets.attacks.sparse_ascent import ascend_sparsely
from support import quick
from support.oracles import apgd as apgd_oracle
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearScores, LinfBall, LpBall

FILE = np.load(pathlib.Path(__file__).parents[2] / "support/references/attack_reference.npz")
REFERENCE = {name: FILE[name] for name in FILE.files}
BALLS = {"Linf": LinfBall(0.08), "L2": L2Ball(0.5), "L1": L1Ball(2.0)}
Y = jnp.asarray(REFERENCE["y"], jnp.int32)
X = jnp.asarray(REFERENCE["x"])
LOSSES = {
    "ce": losses.cross_entropy,
    "dlr": losses.dlr,
    "dlr-targeted": functools.partial(
        losses.targeted_dlr, target_class=jnp.asarray(REFERENCE["target"], jnp.int32)
    ),
}


def network(x):
    w1, b1, w2, b2 = (jnp.asarray(REFERENCE[name], x.dtype) for name in ("w1", "b1", "w2", "b2"))
    flat = x.reshape(x.shape[0], -1)
    return jax.nn.relu(flat @ w1 + b1[None]) @ w2 + b2[None]


@functools.cache
def found(kind, loss):
    """One run of 20 steps from the starting points of the file."""
    ascend = ascend_sparsely if kind == "L1" else ascend_adaptively
    x = X * float(kind != "L1")
    start = jnp.asarray(REFERENCE[f"start_{kind}"])
    target = Target(x, Y, BALLS[kind])
    run = functools.partial(ascend, network, LOSSES[loss], target, steps=20)
    return jax.tree.map(np.asarray, quick.jit(run)(start))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", BALLS)
def test_it_finds_what_the_authors_code_finds(kind, loss):
    mine, name = found(kind, loss), f"{kind}_{loss}"
    keep = REFERENCE[f"{name}_keep"]
    assert keep.sum() >= 9
    best, adversarial = REFERENCE[f"{name}_best"], REFERENCE[f"{name}_adversarial"]
    assert np.abs(mine.best - best)[keep].max() <= 1e-12
    assert np.abs(mine.adversarial - adversarial)[keep].max() <= 1e-10
    assert np.abs(mine.loss - REFERENCE[f"{name}_loss"])[keep].max() <= 1e-12
    assert (mine.broken == REFERENCE[f"{name}_broken"]).all()


def by_oracle(without=(), step_dtype=np.float64):
    """Best and adversarial points of the oracle, from starts where a step first goes downhill."""
    judge, start = apgd_oracle.network(REFERENCE), REFERENCE["Linf_ce_best"]
    run = functools.partial(
        apgd_oracle.run, judge, radius=0.1, steps=8, without=without, step_dtype=step_dtype
    )
    x, y = REFERENCE["x"], REFERENCE["y"]
    return np.array([run(x[i], y[i], start[i]) for i in range(len(x))])


@functools.cache
def from_the_same_starts():
    start = jnp.asarray(REFERENCE["Linf_ce_best"])
    target = Target(X, Y, LinfBall(0.1))
    run = functools.partial(ascend_adaptively, network, losses.cross_entropy, target, steps=8)
    return quick.jit(run)(start)


def differs_from_oracle(**switches):
    mine = from_the_same_starts()
    own = np.stack([mine.best, mine.adversarial], 1)
    return np.abs(by_oracle(**switches) - own).max((1, 2)) > 1e-12


def _test_that_it_matters(peculiarity):
    assert differs_from_oracle(without=(peculiarity,)).sum() >= 1


def test_the_first_window_compares_its_first_loss_with_zero():
    _test_that_it_matters(apgd_oracle.PECULIARITIES[0])


def test_momentum_points_to_the_best_point_from_the_point_before_the_return():
    _test_that_it_matters(apgd_oracle.PECULIARITIES[1])


def test_the_last_misclassified_point_is_kept_not_the_one_of_largest_loss():
    _test_that_it_matters(apgd_oracle.PECULIARITIES[2])
    mine = from_the_same_starts()
    assert (mine.adversarial_loss < mine.loss)[mine.broken].any()


def test_no_step_is_stuck_at_the_first_check():
    _test_that_it_matters(apgd_oracle.PECULIARITIES[3])


def test_the_start_is_no_step_but_may_be_the_best_point():
    def bowl(x):
        return jnp.stack([jnp.zeros_like(x[:, 0]), 1 - jnp.abs(x[:, 0] - 0.5)], 1)

    x, start = jnp.full((1, 1), 0.4), jnp.full((1, 1), 0.5)
    y = jnp.ones(1, jnp.int32)
    target = Target(x, y, LinfBall(0.3))
    run = functools.partial(ascend_adaptively, bowl, lambda z, y: z[:, 1], target, steps=3)
    lowest = quick.jit(run)(start)
    assert lowest.best.tolist() == [[0.5]]
    assert lowest.loss.tolist() == [1.0]


def test_the_step_of_a_float64_run_is_in_float64():
    assert differs_from_oracle(step_dtype=np.float32).any()


def test_windows_are_those_of_the_paper():
    closes = windows(100)
    assert (np.flatnonzero(closes) + 1).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert closes[closes > 0].tolist() == [22, 19, 16, 13, 10, 7, 6, 6]
    assert windows(1).tolist() == [1]
    for steps in (2, 7, 20, 50, 1000):
        closes = windows(steps)
        at = {i + 1: int(closes[i]) for i in np.flatnonzero(closes)}
        assert at == apgd_oracle.checks(steps)


def linear_problem(classes, size=12, count=40):
    rng = np.random.default_rng(classes)
    scores = LinearScores(rng.normal(size=(classes, size)), 0.1 * rng.normal(size=classes))
    x = jnp.asarray(rng.uniform(size=(count, size)))
    return scores, x, jnp.argmax(linear.logits(scores, x), 1).astype(jnp.int32)


FREE = (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("ball", "bounds", "bar"),
    [
        (LinfBall(0.1), (0.0, 1.0), 0.0),
        (L2Ball(0.3), FREE, 1e-9),
        (L1Ball(0.5), FREE, 1e-9),
        # The reference scales into the ball and then clips, which is not the nearest point.
        (L2Ball(0.5), (0.0, 1.0), 4e-3),
    ],
)
def test_it_solves_linear_problems_as_the_closed_form_does(ball, bounds, bar):
    scores, x, y = linear_problem(2)
    target = Target(x, y, ball, bounds)
    worst = linear.exact(scores, target)
    logits_fn = functools.partial(linear.logits, scores)
    ascend = ascend_sparsely if isinstance(ball, L1Ball) else ascend_adaptively
    run = functools.partial(ascend, logits_fn, losses.margin, target, steps=100)
    mine = quick.jit(run)(x)
    gap = np.asarray(worst.loss - mine.loss)
    assert gap.min() >= -min(bar, 1e-12)
    assert gap.max() <= bar
    far = np.abs(worst.loss) > bar
    assert (np.asarray(mine.broken) == np.asarray(worst.success))[far].all()
    assert 0 < worst.success.sum() < len(y)


@pytest.mark.parametrize("ball", [LpBall(0.06, math.inf), L2Ball(0.3), L1Ball(0.7)])
def test_points_lie_in_ball_and_box_and_flags_hold(ball):
    x, y = X, Y.at[:3].set((Y[:3] + 1) % 5)
    target = Target(x, y, ball)
    got = quick.jit(lambda key: apgd(key, network, target, steps=7))(jax.random.key(1))
    assert (norm(ball, got.x_adv - x) <= ball.radius * (1 + 1e-12)).all()
    assert ((got.x_adv >= 0) & (got.x_adv <= 1)).all()
    assert (got.success == losses.misclassified(network(got.x_adv), y)).all()
    assert got.success[:3].all()
    assert (got.x_adv[:3] == x[:3]).all()
    value = losses.cross_entropy(network(got.x_adv), y)
    np.testing.assert_allclose(got.loss, value, atol=1e-12)
    stands = ~np.asarray(got.success)
    assert (got.loss >= losses.cross_entropy(network(x), y))[stands].all()
    assert 0 < stands.sum() < len(y)


def test_a_sample_does_not_depend_on_its_batch_and_radii_are_its_own():
    radii, keys = jnp.linspace(0, 0.1, len(X)), jax.random.split(jax.random.key(2), len(X))

    @jax.jit
    def attack(keys, x, y, radii):
        return apgd(keys, network, Target(x, y, LinfBall(radii)), steps=8, restarts=2)

    whole = attack(keys, X, Y, radii)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = attack(keys[order], X[order], Y[order], radii[order])
    alone = attack(keys[5:8], X[5:8], Y[5:8], radii[5:8])
    for mine, mixed, few in zip(whole, shuffled, alone, strict=True):
        assert (mine[order] == mixed).all()
        assert (mine[5:8] == few).all()
    assert (whole.x_adv[0] == X[0]).all()
    assert (jnp.max(jnp.abs(whole.x_adv - X), 1) <= radii + 1e-12).all()


def test_float32_stays_float32_and_restarts_do_not_lose():
    x = X.astype(jnp.float32)

    @quick.jit
    def attack(ball):
        key = jax.random.key(3)
        run = functools.partial(apgd, key, network, Target(x, Y, ball), steps=1)
        return run(), run(restarts=3)

    one, three = attack(L2Ball(jnp.float32(0.2)))
    assert {one.x_adv.dtype, one.loss.dtype} == {jnp.dtype("float32")}
    assert (one.success <= three.success).all()
    assert (three.loss >= one.loss)[~three.success].all()
    assert (three.loss > one.loss)[~three.success].any()


def test_targets_are_the_likeliest_rivals():
    logits = jnp.asarray([[4.0, 1.0, 3.0, 2.0], [0.0, 5.0, 7.0, 1.0]])
    places = [rival(logits, jnp.asarray([0, 1]), i).tolist() for i in range(3)]
    assert places == [[2, 2], [3, 3], [1, 0]]


def test_a_target_beyond_the_first_is_tried_where_it_is_needed():
    # Class 1 is likelier at x but does not depend on it; only class 2 can be reached.
    def logits_fn(x):
        flat = jnp.ones_like(x[:, 0])
        return jnp.stack([flat, 0.9 * flat, 0.5 + 2 * x[:, 0], -flat], 1)

    target = Target(jnp.full((2, 3), 0.2), jnp.zeros(2, jnp.int32), LinfBall(0.1))
    got = quick.jit(
        lambda n: apgd_targeted(jax.random.key(0), logits_fn, target, targets=n),
        static_argnums=0,
    )
    assert not got(1).success.any()
    assert got(2).success.all()


def test_starts_lie_on_the_sphere():
    keys = jax.random.split(jax.random.key(5), 4)
    x = jnp.full((4, 30), 0.5)
    for ball in (LinfBall(0.1), L1Ball(0.4)):
        start = quick.jit(lambda k, b=ball: starting_points(b, k, x, (0.0, 1.0)))(keys)
        np.testing.assert_allclose(norm(ball, start - x), ball.radius, rtol=1e-12)


def test_a_gradient_that_is_lost_or_not_finite_is_mended():
    def logits_fn(x):
        return jnp.stack([jnp.ones_like(x[:, 0]), 2.0**-66 * x[:, 0], jnp.sqrt(x[:, 1]) * 0], 1)

    x, y = jnp.asarray([[0.2, 0.0]]), jnp.zeros(1, jnp.int32)
    gradient, _, wrong = evaluate(logits_fn, losses.margin, x, y)
    assert not wrong[0]
    assert gradient.tolist() == [[1.0, 0.0]]


def test_a_logit_that_is_not_finite_is_a_success_at_a_finite_point():
    def logits_fn(x):
        return jnp.stack([6 - 9 * x[:, 0], jnp.sqrt(0.5 - x[:, 0]) - 1], 1)

    x, y = jnp.asarray([[0.4, 0.5]]), jnp.zeros(1, jnp.int32)
    target, start = Target(x, y, LinfBall(0.2)), jnp.asarray([[0.45, 0.6]])
    mine = ascend_adaptively(logits_fn, losses.margin, target, start, steps=3)
    assert mine.broken.all()
    assert mine.adversarial[0, 0] > 0.5
    for points in (mine.best, mine.best_gradient, mine.adversarial):
        assert jnp.isfinite(points).all()


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        (apgd, {"steps": 0}, "steps = 0"),
        (apgd, {"restarts": 0}, "restarts = 0"),
        (apgd, {"threat": L1Ball(1.0), "steps": 2}, "steps = 2"),
        (apgd, {"threat": LpBall(1.0, 3)}, "p = 3"),
        (apgd, {"x": X - 1}, "x = "),
        (apgd, {"logits_fn": lambda x: network(x)[:, :2], "loss": losses.dlr}, "K >= 3"),
        (apgd_targeted, {"logits_fn": lambda x: network(x)[:, :3]}, "K = 3"),
        (apgd_targeted, {"targets": 5}, "targets = 5"),
    ],
)
def test_bad_input_is_refused(attack, settings, message):
    threat = settings.pop("threat", LinfBall(0.1))
    x, logits_fn = settings.pop("x", X), settings.pop("logits_fn", network)
    with pytest.raises(InvalidInput, match=message):
        attack(jax.random.key(0), logits_fn, Target(x, Y % 2, threat), **settings)
