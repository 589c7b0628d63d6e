"""Training objectives on linear networks, where the worst perturbation is known, by NumPy."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks import ball, gradient
from nets.attacks.attack import keys_of
from nets.objectives import inner_attack
from nets.objectives import losses as objectives
from sims.training import step as training_step
from sims.training.setup import Lanes, Rule, Settings
from theory.domain import InvalidInput
from theory.problem import L2Ball, LinfBall

pytestmark = pytest.mark.slow

FREE = (-math.inf, math.inf)
SIZE, COUNT = 6, 24


def linear(variables, x, train):
    """A linear network, (d, K) weights and (K,) biases."""
    del train
    weight, bias = variables["params"]
    return jnp.matmul(x, weight, precision="highest") + jnp.expand_dims(bias, 0), variables


def problem(classes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    params = rng.normal(size=(SIZE, classes)), rng.normal(size=classes)
    x, y = rng.uniform(0, 1, (COUNT, SIZE)), rng.integers(0, classes, COUNT)
    floats = [a.astype(dtype) for a in (*params, x)]
    return (floats[0], floats[1]), floats[2], y.astype(np.int32)


def weighed(label, divergence=None):
    """Terms that do not depend on the logits."""

    def weigh(logits, y, beta):
        del logits, y
        other = np.full(COUNT, beta) if divergence is None else divergence
        return objectives.Terms(jnp.asarray(label), jnp.asarray(other))

    return weigh


@functools.partial(jax.jit, static_argnames=("objective", "attack"))
def run(objective, attack, params, x, y, radius, label, divergence, seed=0):
    """Loss, outcome and gradient of one batch; `attack` is a function of the radii."""
    weigh = weighed(label, divergence)

    def loss(params):
        key = jax.random.key(seed)
        variables = {"params": params}
        return objective(key, linear, variables, x, y, attack(radius), weigh=weigh)

    (value, outcome), slope = jax.value_and_grad(loss, has_aux=True)(params)
    return value, outcome.points, outcome.clean, outcome.adversarial, slope


def free(builder, **settings):
    """An inner attack without bounds, one object for one compilation."""
    return lambda radius: builder(LinfBall(radius), **settings)._replace(bounds=FREE)


PGD, NEAR, FAST = (
    free(inner_attack.pgd_inner),
    free(inner_attack.near_inner),
    free(inner_attack.fgsm_rs_inner),
)
NO_ATTACK = {"objective": objectives.natural, "attack": lambda radius: None}


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sides(y):
    return 2.0 * np.asarray(y) - 1


def weights_and_radii(seed=3):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.3, 2, COUNT), rng.uniform(0.3, 2, COUNT), rng.uniform(0.02, 0.2, COUNT)


def test_natural_loss_and_gradient_are_those_of_the_formula():
    params, x, y = problem(3)
    label, other, radius = weights_and_radii()
    value, points, clean, attacked, slope = run(
        **NO_ATTACK, params=params, x=x, y=y, radius=radius, label=label, divergence=other
    )
    z = np.asarray(x) @ params[0] + params[1]
    p, one_hot = softmax(z), np.eye(3)[np.asarray(y)]
    assert value == pytest.approx(np.mean(label * -np.log(p[np.arange(COUNT), y])), rel=1e-13)
    residual = label[:, None] * (p - one_hot) / COUNT
    np.testing.assert_allclose(slope[0], np.asarray(x).T @ residual, atol=1e-14)
    np.testing.assert_allclose(slope[1], residual.sum(0), atol=1e-14)
    np.testing.assert_array_equal(points, x)
    np.testing.assert_allclose(clean, z, rtol=1e-13)
    assert attacked is None


def test_pgd_on_a_binary_linear_rule_is_the_exact_adversarial_loss():
    """Every sample its own radius and weight; in linf the worst case is in closed form."""
    params, x, y = problem(2, seed=1)
    label, other, radius = weights_and_radii()
    value, points, _, _, slope = run(
        objectives.adversarial, PGD, params, x, y, radius, label, other
    )
    w, b = np.asarray(params[0][:, 1] - params[0][:, 0]), float(params[1][1] - params[1][0])
    lead = sides(y) * (np.asarray(x) @ w + b) - radius * np.abs(w).sum()
    assert value == pytest.approx(np.mean(label * np.log1p(np.exp(-lead))), rel=1e-12)
    worst = np.asarray(x) - radius[:, None] * sides(y)[:, None] * np.sign(w)
    np.testing.assert_allclose(points, worst, atol=1e-14)
    pull = -label * sides(y) / (1 + np.exp(lead)) / COUNT
    np.testing.assert_allclose(slope[0][:, 1], worst.T @ pull, atol=1e-13)
    np.testing.assert_allclose(slope[0][:, 0], -worst.T @ pull, atol=1e-13)
    np.testing.assert_allclose(slope[1], [-pull.sum(), pull.sum()], atol=1e-14)
    # A loss that forgets the radii, or gives them to the wrong samples, is not this one.
    for wrong in (np.full(COUNT, radius.mean()), np.roll(radius, 1)):
        lead = sides(y) * (np.asarray(x) @ w + b) - wrong * np.abs(w).sum()
        assert abs(value - np.mean(label * np.log1p(np.exp(-lead)))) > 1e-4


def test_pgd_has_the_gradient_that_sims_trains_linear_models_with():
    params, x, y = problem(2, seed=2)
    classes = np.array([0.7, 1.6])
    ones, eps = np.ones(COUNT), 0.1
    found = run(objectives.adversarial, PGD, params, x, y, np.full(COUNT, eps), classes[y], ones)
    one = jnp.ones(1)
    lanes = Lanes(one, eps * one, np.inf * one, one, classes[0] * one, classes[1] * one)
    rule = Rule(params[0][:, 1:] - params[0][:, :1], params[1][1:] - params[1][:1])
    share = jnp.full((COUNT, 1), 1 / COUNT)
    slope = training_step.gradient(Settings(), lanes, rule, [x], sides(y)[:, None], share)
    np.testing.assert_allclose(found[4][0][:, 1:], slope.weight, atol=1e-13)
    np.testing.assert_allclose(found[4][1][1:], slope.bias, atol=1e-13)


def test_one_fast_step_goes_from_a_uniform_start_and_ends_in_the_ball():
    params, x, y = problem(2, seed=4)
    label, other, radius = weights_and_radii()
    value, points, *_ = run(
        objectives.adversarial, FAST, params, x, y, radius, label, other, seed=5
    )
    keys = keys_of(jax.random.key(5), COUNT)
    start = ball.random_start(LinfBall(jnp.asarray(radius)), keys, x, FREE) - x
    assert np.unique(np.asarray(start)).size == start.size
    w = np.asarray(params[0][:, 1] - params[0][:, 0])
    size = radius[:, None]
    delta = np.clip(start - 1.25 * size * sides(y)[:, None] * np.sign(w), -size, size)
    np.testing.assert_allclose(points, x + delta, atol=1e-15)
    inside = np.abs(delta) < 0.999 * size
    assert 0.2 < inside.mean() < 0.6  # one step does not reach the corner from everywhere
    lead = sides(y) * (np.asarray(x + delta) @ w + float(params[1][1] - params[1][0]))
    assert value == pytest.approx(np.mean(label * np.log1p(np.exp(-lead))), rel=1e-12)


def published(name, params, x, points, y, label, other):
    """TRADES and MART as the papers write them, for given points, at (params)."""
    each = np.arange(COUNT)
    z, moved = (np.asarray(v) @ params[0] + params[1] for v in (x, points))
    p, q = softmax(z), softmax(moved)
    divergence = np.sum(p * np.log(p / q), 1)
    if name == "trades":
        return np.mean(-label * np.log(p[each, y]) + other * divergence)
    rivals = np.where(np.eye(q.shape[1])[y] > 0, -1, q).max(1)
    boosted = -np.log(q[each, y]) - np.log(1 - rivals)
    return np.mean(label * boosted + other * divergence * (1 - p[each, y]))


@pytest.mark.parametrize("name", ["trades", "mart"])
def test_trades_and_mart_are_the_published_losses_of_their_points(name):
    params, x, y = problem(3, seed=6)
    label, other, radius = weights_and_radii()
    objective = getattr(objectives, name)
    value, points, clean, attacked, slope = run(objective, NEAR, params, x, y, radius, label, other)
    arrays = [np.asarray(p) for p in params]
    reference = functools.partial(published, name, x=x, points=points, y=np.asarray(y))
    assert value == pytest.approx(reference(arrays, label=label, other=other), rel=1e-12)
    # The points do not move with the parameters: the gradient is that of the loss at them.
    rng = np.random.default_rng(7)
    for _ in range(3):
        along = [rng.normal(size=p.shape) for p in arrays]
        h = 1e-5
        ends = [
            reference(
                [p + s * h * a for p, a in zip(arrays, along, strict=True)],
                label=label,
                other=other,
            )
            for s in (1, -1)
        ]
        there = sum(np.sum(np.asarray(g) * a) for g, a in zip(slope, along, strict=True))
        assert there == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7)
    # The weights belong to their own terms.
    assert abs(value - reference(arrays, label=other, other=label)) > 1e-3
    assert abs(value - reference(arrays, label=label, other=label * other)) > 1e-4
    np.testing.assert_allclose(attacked, np.asarray(points) @ arrays[0] + arrays[1], rtol=1e-12)
    assert np.abs(np.asarray(points - x)).max(1) == pytest.approx(radius, rel=1e-9)
    assert clean.shape == (COUNT, 3)


def test_the_trades_attack_finds_an_end_of_the_segment_of_logits():
    """With two classes the divergence is convex in the logit and largest at an end of its range."""
    params, x, y = problem(2, seed=8)
    ones, radius = np.ones(COUNT), np.full(COUNT, 0.1)
    points = np.asarray(run(objectives.trades, NEAR, params, x, y, radius, ones, ones)[1])
    w = np.asarray(params[0][:, 1] - params[0][:, 0])
    moved = (points - x) @ w / np.abs(w).sum()
    np.testing.assert_allclose(np.abs(moved), radius, rtol=1e-9)
    # From a start near x, both ends are found by some.
    assert 2 < np.sum(moved > 0) < COUNT - 2


def test_float32_gives_float32_and_beta_reaches_the_divergence():
    params, x, y = problem(3, dtype=np.float32)
    attack = inner_attack.near_inner(LinfBall(0.1))

    @functools.partial(jax.jit, static_argnames="name")
    def call(name, beta):
        objective = getattr(objectives, name)
        return objective(jax.random.key(0), linear, {"params": params}, x, y, attack, beta=beta)

    for name in ("trades", "mart"):
        losses = [call(name, b)[0] for b in (0.0, 1.0, 6.0)]
        assert float(call(name, 6.0)[1].losses.mean()) == pytest.approx(float(losses[2]), rel=1e-5)
        assert losses[0].dtype == jnp.float32
        losses = [float(loss) for loss in losses]
        assert losses[2] - losses[0] == pytest.approx(6 * (losses[1] - losses[0]), rel=1e-4)
        assert losses[1] > losses[0] + 1e-4
    terms = objectives.equal_terms(jnp.ones((2, 3), jnp.float32), y[:2], 6.0)
    np.testing.assert_array_equal(terms, [[1, 1], [6, 6]])


def test_divergence_and_rival_loss_stay_finite_where_naive_formulas_do_not():
    sure = jnp.asarray([[300.0, 0.0, 0.0], [0.0, 300.0, 0.0]], jnp.float32)
    y = jnp.asarray([0, 0], jnp.int32)
    np.testing.assert_allclose(objectives.rival_loss(sure, y), [0, 300 - np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(objectives.divergence(sure, sure[::-1]), [300, 300], rtol=1e-6)
    slope = jax.grad(lambda z: jnp.sum(objectives.rival_loss(z, y)))(sure)
    np.testing.assert_allclose(slope, [[0, 0, 0], [-0.5, 1, -0.5]], atol=1e-6)


class Normalised(nn.Module):
    """A hidden layer with batch normalisation."""

    @nn.compact
    def __call__(self, x, train=False):
        with jax.numpy_dtype_promotion("standard"):
            x = nn.Dense(5, param_dtype=x.dtype)(x)
            x = nn.BatchNorm(not train, momentum=0.9, param_dtype=x.dtype, dtype=x.dtype)(x)
            return nn.Dense(3, param_dtype=x.dtype)(jax.nn.tanh(x))


@functools.partial(jax.jit, static_argnames=("train", "steps"))
def by_hand(variables, x, y, key, train, store, steps):
    """PGD-AT step by step, each forward pass written out; returns points and statistics."""
    points = ball.random_start(LinfBall(0.1), keys_of(key, COUNT), x, (0.0, 1.0))
    stats = variables["batch_stats"]

    def total(points, stats, train):
        here = {"params": variables["params"], "batch_stats": stats}
        logits, changed = Normalised().apply(here, points, train=train, mutable=["batch_stats"])
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        return -jnp.sum(picked), changed["batch_stats"]

    for _ in range(steps):
        slope, after = jax.grad(total, has_aux=True)(points, stats, train)
        points = jnp.clip(points + 0.025 * jnp.sign(slope), x - 0.1, x + 0.1)
        points = jnp.clip(points, 0, 1)
        stats = jax.tree.map(lambda a, b: jnp.where(store, a, b), after, stats)
    return points, total(points, stats, True)[1]


def test_the_attack_sees_batch_normalisation_as_it_is_told():
    _, x, y = problem(3, seed=9)
    module = Normalised()
    variables = jax.jit(module.init)(jax.random.key(1), x)
    variables = jax.tree.map(lambda v: v.astype(x.dtype), variables)
    apply, key = inner_attack.apply_of(module), jax.random.key(2)
    found = {}
    for mode in ("eval", "batch", "train"):
        attack = inner_attack.pgd_inner(LinfBall(0.1), steps=2, batch_norm=mode)
        call = jax.jit(lambda v, attack=attack: objectives.adversarial(key, apply, v, x, y, attack))
        outcome = call(variables)[1]
        points, stats = by_hand(variables, x, y, key, mode != "eval", mode == "train", 2)
        np.testing.assert_allclose(outcome.points, points, atol=1e-14)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
            outcome.variables["batch_stats"],
            stats,
        )
        assert outcome.variables["params"] is not None
        found[mode] = outcome
    # Nothing moves while held-out images are measured, and training mode is never entered.
    still = objectives.natural(key, inner_attack.evaluating(apply), variables, x, y)[1]
    jax.tree.map(np.testing.assert_array_equal, still.variables, variables)
    np.testing.assert_array_equal(still.clean, apply(variables, x, False)[0])
    # The three differ where they should, and nowhere else.
    np.testing.assert_array_equal(found["batch"].points, found["train"].points)
    assert np.abs(found["eval"].points - found["batch"].points).max() > 0.01
    mean = [jax.tree.leaves(found[m].variables["batch_stats"])[0] for m in ("batch", "train")]
    assert np.abs(mean[0] - mean[1]).max() > 1e-3


def _products(jaxpr, inside=False):
    """Number of matrix products in the loops of a program, and outside of them."""
    counts = np.zeros(2, int)
    for equation in jaxpr.eqns:
        counts[int(not inside)] += equation.primitive.name == "dot_general"
        loop = inside or equation.primitive.name in ("scan", "while")
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(part):
                counts += _products(getattr(part, "jaxpr", part), loop)
    return counts


def _is_program(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def test_the_attack_takes_no_gradient_of_the_parameters():
    """On a linear network a step is one product forward and one back to the inputs, no third.

    In l2: the sign that linf takes has no gradient anyway.
    """
    params, x, y = problem(3)

    def loss(params):
        variables = {"params": params}
        return objectives.trades(
            jax.random.key(0), linear, variables, x, y, inner_attack.near_inner(L2Ball(0.1))
        )[0]

    program = jax.make_jaxpr(jax.grad(loss))(params)
    # Outside: the goal; the clean and the attacked batch, forward and back to the weights.
    np.testing.assert_array_equal(_products(program.jaxpr), [2, 5])


def test_two_moves_share_one_gradient_and_one_move_is_the_plain_ascent():
    params, x, y = problem(2, seed=10)
    w = params[0][:, 1] - params[0][:, 0]
    moves = (gradient.Move(LinfBall(0.2), 0.1), gradient.Move(L2Ball(0.1), 0.1))
    seen = gradient.ascend_with(
        lambda points, count: (points @ w, count + 1), jnp.asarray(0), x, x, moves, FREE, steps=3
    )
    assert seen[1] == 3
    point = np.asarray(x)
    for _ in range(3):
        point = point + np.clip(0.02 * np.sign(w), -0.2, 0.2)
        point = point + 0.01 * np.asarray(w) / np.linalg.norm(w)
        delta = point - x
        size = np.linalg.norm(delta, axis=1, keepdims=True)
        point = x + delta * np.minimum(1, 0.1 / size)
    np.testing.assert_allclose(seen[0], point, atol=1e-14)
    plain = gradient.ascend(lambda points: points @ w, x, x, LinfBall(0.2), FREE, steps=3, step=0.1)
    np.testing.assert_allclose(plain, x + 0.06 * np.sign(w), atol=1e-15)
    del y


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inner_attack.pgd_inner(LinfBall(0.1), steps=0), "steps = 0"),
        (lambda: inner_attack.pgd_inner(LinfBall(0.1), step=-1.0), "step = -1"),
        (
            lambda: inner_attack.near_inner(LinfBall(0.1), batch_norm="frozen"),
            "batch_norm = 'frozen'",
        ),
    ],
)
def test_bad_settings_of_the_inner_attack_are_refused(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()


def test_every_recipe_names_an_objective_and_its_attack():
    for name, recipe in objectives.RECIPES.items():
        assert callable(recipe.objective)
        if name != "natural":
            assert recipe.inner is not None
            attack = recipe.inner(LinfBall(0.1))
            assert attack.steps == (1 if name == "fgsm-rs" else 10)
            assert attack.batch_norm == ("eval" if name in ("trades", "mart") else "train")
