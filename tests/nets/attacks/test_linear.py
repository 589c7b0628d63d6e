"""Linear networks: the exact attack against other solvers, every attack against the exact one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from nets.attacks import ball, gradient, linear, losses
from nets.attacks.attack import Target
from sims.simulate import attack as sims_attack
from support import quick
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearClassifier, LinearScores, LinfBall, LpBall
from theory.rules.risk import dual_norm

BALLS = {1: L1Ball, 2: L2Ball, np.inf: LinfBall}
RADII = {1: 1.0, 2: 0.3, np.inf: 0.08}
OPEN = (-np.inf, np.inf)
ROWS, SIZE, CLASSES = 60, 20, 4


def _problem(classes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (ROWS, SIZE))
    x[:, 0], x[:, 1] = 1, 0
    scores = LinearScores(
        jnp.asarray(rng.normal(size=(classes, SIZE)), dtype),
        jnp.asarray(rng.normal(size=classes), dtype),
    )
    x = jnp.asarray(x, dtype)
    # One label in ten is wrong.
    best = jnp.argmax(linear.logits(scores, x), 1)
    y = jnp.where(jnp.arange(ROWS) % 10 == 0, (best + 1) % classes, best)
    return scores, x, y.astype(jnp.int32)


def _radius(p, dtype=np.float64):
    return BALLS[p](jnp.asarray(np.linspace(0.2, 1.8, ROWS) * RADII[p], dtype))


@pytest.mark.parametrize("p", BALLS)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-np.inf, 1.0)])
def test_the_worst_perturbation_is_that_of_a_linear_program_or_cone(p, bounds):
    scores, x, _ = _problem(2)
    x, g = x[:6], jnp.stack([scores.weights[0] - scores.weights[1]] * 6)
    radius = np.array([0.0, 0.3, 0.7, 1.0, 1.5, 40.0]) * RADII[p]
    delta = quick.jit(linear.worst, static_argnums=3)(BALLS[p](radius), g, x, bounds)
    slope = np.asarray(g[0])
    for row in range(6):
        low, high = np.maximum(bounds[0] - x[row], -99.0), np.asarray(bounds[1] - x[row])
        limits, cost = list(zip(low, high, strict=True)), -slope
        if p == np.inf:
            limits = list(
                zip(np.maximum(low, -radius[row]), np.minimum(high, radius[row]), strict=True)
            )
            value = -scipy.optimize.linprog(cost, bounds=limits).fun
        elif p == 1:
            split = [(0, h) for h in high] + [(0, -b) for b in low]
            cost = np.concatenate([cost, -cost])
            ones = np.ones((1, 2 * SIZE))
            value = -scipy.optimize.linprog(cost, ones, [radius[row]], bounds=split).fun
        else:
            value = _dual_l2(slope, radius[row], low, high)
        np.testing.assert_allclose(float(g[row] @ delta[row]), value, rtol=1e-9, atol=1e-9)


def _dual_l2(slope, radius, low, high):
    """min over m > 0 of m r^2 / 2 + sum_i max over the box of g_i d_i - m d_i^2 / 2."""

    def dual(log_m):
        m = np.exp(log_m)
        d = np.clip(slope / m, low, high)
        return m * radius**2 / 2 + np.sum(slope * d - m * d**2 / 2)

    if radius == 0:
        return 0.0
    return scipy.optimize.minimize_scalar(dual, bounds=(-25, 12), options={"xatol": 1e-10}).fun


@pytest.mark.slow
def test_without_bounds_it_is_the_step_of_sims_bit_for_bit():
    scores, x, _ = _problem(2)
    classifier = LinearClassifier(scores.weights[1], scores.biases[1])
    for threat in (*(kind(0.3) for kind in BALLS.values()), LpBall(0.3, 1.5)):
        g = jnp.broadcast_to(classifier.weight, x.shape)
        theirs = sims_attack.perturb(threat, classifier, x, -jnp.ones(ROWS))
        np.testing.assert_array_equal(x + linear.worst(threat, g, x, OPEN), theirs)


@functools.partial(quick.jit, static_argnames=("bounds", "kind", "share"))
def _all_attacks(scores, x, y, threat, bounds, kind, share=0.05):
    """The exact attack, and PGD towards every other class, its results stacked."""
    fn = functools.partial(linear.logits, scores)
    classes, target = scores.weights.shape[0], Target(x, y, threat, bounds)

    def towards(shift):
        loss = functools.partial(losses.targeted_margin, target_class=(y + shift) % classes)
        key = jax.random.key(1)
        step = jnp.asarray(2.0, x.dtype)
        return gradient.pgd(key, fn, target, steps=60, step=step, loss=loss, share=share)

    found = jax.lax.map(towards, jnp.arange(1, classes, dtype=y.dtype))
    exact = linear.exact(scores, target)
    return exact, found, gradient.fgsm(jax.random.key(0), fn, target)


def _assert_inside(threat, x_adv, x, bounds):
    low, high = bounds
    assert np.all((x_adv >= low) & (x_adv <= high))
    eps = float(jnp.finfo(x.dtype).eps)
    rounding = 4 * eps * (SIZE if isinstance(threat, L1Ball) else SIZE**0.5)
    sizes = np.asarray(ball.norm(threat, x_adv - x))
    assert np.all(sizes <= np.asarray(threat.radius) * (1 + 10 * eps) + rounding)


@pytest.mark.slow
@pytest.mark.parametrize("p", BALLS)
def test_v1_pgd_reaches_the_closed_form_with_bounds(p):
    """Towards each class the lead is linear, and its worst point is found."""
    scores, x, y = _problem(CLASSES)
    threat, bounds = _radius(p), (0.0, 1.0)
    exact, found, once = _all_attacks(scores, x, y, threat, bounds, p)
    for x_adv in (exact.x_adv, *found.x_adv, once.x_adv):
        _assert_inside(threat, x_adv, x, bounds)
    reached = np.max(losses_of(scores, found.x_adv, y), 0)
    wrong = np.asarray(losses.misclassified(linear.logits(scores, x), y))
    gap = np.asarray(exact.loss) - reached
    assert wrong.sum() == 6
    assert 0.2 < np.mean(exact.success) < 0.95
    tolerance = 0 if p == np.inf else 1e-9
    assert np.max(np.abs(gap)) <= tolerance
    np.testing.assert_array_equal(np.any(np.asarray(found.success), 0), exact.success)
    assert np.all(losses_of(scores, once.x_adv[None], y)[0] <= np.asarray(exact.loss) + 1e-12)
    for result in (exact, once):
        np.testing.assert_array_equal(result.x_adv[wrong], x[wrong])


def losses_of(scores, many, y):
    return np.asarray([losses.margin(linear.logits(scores, x), y) for x in many])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "dtype"), [(1, np.float64), (2, np.float64), (2, np.float32), (np.inf, np.float32)]
)
def test_every_attack_agrees_with_the_closed_form_sample_by_sample(p, dtype):
    """Two classes without bounds: the robust margin is y (w . x + b) - radius ||w||_q."""
    scores, x, y = _problem(2, dtype)
    rule = LinearClassifier(
        scores.weights[1] - scores.weights[0], scores.biases[1] - scores.biases[0]
    )
    threat = _radius(p, dtype)
    sign = 2 * y.astype(dtype) - 1
    margins = np.asarray(
        sign * sims_attack.score(rule, x) - threat.radius * dual_norm(threat, rule.weight)
    )
    # No sample so near the edge that rounding could decide.
    assert np.abs(margins).min() > 100 * np.finfo(dtype).eps
    exact, found, once = _all_attacks(linear.two_classes(rule), x, y, threat, OPEN, p)
    broken = margins <= 0
    assert 0.2 < broken.mean() < 0.95
    for result in (exact.success, found.success[0], once.success):
        np.testing.assert_array_equal(result, broken)
    tolerance = 1e-12 if dtype == np.float64 else 1e-4
    clean = sign * sims_attack.score(rule, x) <= 0
    np.testing.assert_allclose(exact.loss[~clean], -margins[~clean], atol=tolerance)


def test_the_exact_attack_takes_the_worst_class():
    scores, x, y = _problem(CLASSES)
    threat, rng = _radius(2), np.random.default_rng(7)
    project = quick.jit(ball.project, static_argnums=3)
    exact = quick.jit(linear.exact)(scores, Target(x, y, threat))
    clean = np.asarray(losses.misclassified(linear.logits(scores, x), y))
    for _ in range(40):
        g = jnp.asarray(rng.normal(size=x.shape))
        tried = project(threat, x + 9 * g, x, (0.0, 1.0))
        tried_loss = np.asarray(losses.margin(linear.logits(scores, tried), y))
        assert np.all(clean | (tried_loss <= np.asarray(exact.loss) + 1e-12))


def test_bad_input_is_refused():
    scores, x, y = _problem(2)
    with pytest.raises(InvalidInput, match=r"weights.shape = \(2, 20\): must be \(K, 10\)"):
        linear.exact(scores, Target(x[:, :10], y, L2Ball(0.1)))
    with pytest.raises(InvalidInput, match="y = 2: labels must lie between 0 and 1"):
        linear.exact(scores, Target(x, y + 1, L2Ball(0.1)))
    with pytest.raises(InvalidInput, match=r"p = 1.5"):
        linear.exact(scores, Target(x, y, LpBall(0.1, 1.5)))
