"""What fairness methods do to the attack and the loss of a batch, and what they refuse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks.attack import keys_of
from nets.attacks.gradient import Move, at_input
from nets.fairness import dafa, methods
from nets.fairness.method import inner, require_data, scaled, update_fairness_state, weigh
from nets.fairness.statistics import Statistics
from nets.objectives import inner_attack
from nets.objectives import losses as objectives
from theory.domain import InvalidInput
from theory.problem import LinfBall

FREE = (-math.inf, math.inf)
CLASSES, COUNT, SIZE = 3, 12, 4
WEIGHTS = np.array([0.4, 1.0, 1.6])


def linear(variables, x, train):
    del train
    weight = variables["params"]
    return jnp.matmul(x, weight, precision="highest"), variables


def problem(seed=0):
    rng = np.random.default_rng(seed)
    weight, x = rng.normal(size=(SIZE, CLASSES)), rng.uniform(0, 1, (COUNT, SIZE))
    return weight, x, rng.permutation(np.repeat(np.arange(CLASSES), COUNT // CLASSES))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def dafa_state(dtype=np.float64):
    return dafa.DafaState(jnp.asarray(WEIGHTS, dtype), jnp.asarray(False))


def attack_by_hand(weight, x, goal, start, moves, steps):
    """Ascent in NumPy of the divergence from `goal`, which for a one-hot goal is the cross entropy.

    `moves` are (radii, lengths), (n, 1) each.
    """
    points = start.copy()
    for _ in range(steps):
        slope = (softmax(points @ weight) - goal) @ weight.T
        for radius, length in moves:
            points = np.clip(points + length * np.sign(slope), x - radius, x + radius)
    return points


@pytest.mark.parametrize("attack", ["scaled", "reference-pgd"])
def test_dafa_in_pgd_has_its_margins_in_the_paper_and_loses_them_in_the_code(attack):
    weight, x, y = problem()
    radius, steps = 0.2, 7
    plain = inner_attack.pgd_inner(LinfBall(radius), steps)._replace(start=at_input, bounds=FREE)
    method = methods.build("dafa", attack=attack)

    @jax.jit
    def call(state, x, y):
        found = inner(method, state, plain, y)
        terms = weigh(method, state)
        variables = {"params": jnp.asarray(weight)}
        key = jax.random.key(0)
        return objectives.adversarial(key, linear, variables, x, y, found, weigh=terms)

    loss, outcome = call(dafa_state(), x, y)
    own = WEIGHTS[y][:, None]
    moves = [(own * radius, own * radius * 0.25)]
    if attack == "reference-pgd":
        moves.append((np.full_like(own, radius), np.full_like(own, radius * 0.25)))
    points = attack_by_hand(weight, x, np.eye(CLASSES)[y], x, moves, steps)
    np.testing.assert_allclose(outcome.points, points, atol=1e-14)
    p = softmax(points @ weight)[np.arange(COUNT), y]
    assert float(loss) == pytest.approx(np.mean(WEIGHTS[y] * -np.log(p)), rel=1e-12)
    reach = np.abs(points - x).max(1)
    if attack == "scaled":
        np.testing.assert_allclose(reach, WEIGHTS[y] * radius, rtol=1e-12)
    else:  # min(W eps + step, eps), which is the plain radius for hard classes
        expected = np.minimum(WEIGHTS[y] * radius + 0.25 * radius, radius)
        np.testing.assert_allclose(reach, expected, rtol=1e-12)


def test_dafa_in_trades_weighs_the_label_and_scales_the_attack_and_no_other_version_does():
    weight, x, y = problem(1)
    radius, beta = 0.15, 6.0
    plain = inner_attack.near_inner(LinfBall(radius))._replace(bounds=FREE)
    method, key = methods.build("dafa"), jax.random.key(3)

    @jax.jit
    def call(state, x, y):
        found, terms = inner(method, state, plain, y), weigh(method, state)
        variables = {"params": jnp.asarray(weight)}
        return objectives.trades(key, linear, variables, x, y, found, beta=beta, weigh=terms)

    loss, outcome = call(dafa_state(), x, y)

    def published(own, both=False, factor=WEIGHTS[y]):
        """The paper's loss after NumPy's own attack from the same noise."""
        reach, p = (factor * radius)[:, None], softmax(x @ weight)
        keys = keys_of(key, COUNT)
        noise = np.stack([jax.random.normal(k, (SIZE,), jnp.float64) for k in keys])
        start = x + np.clip(0.001 * noise, -reach, reach)
        points = attack_by_hand(weight, x, p, start, [(reach, 0.25 * reach)], 10)
        q = softmax(points @ weight)
        kl = np.sum(p * np.log(p / q), 1)
        label = -np.log(p[np.arange(COUNT), y])
        return np.mean(own * label + beta * (own if both else 1) * kl), points

    right, points = published(WEIGHTS[y])
    np.testing.assert_allclose(outcome.points, points, atol=1e-13)
    assert float(loss) == pytest.approx(right, rel=1e-10)
    shifted = WEIGHTS[(y + 1) % CLASSES]
    wrong = {
        "the divergence weighed too": published(WEIGHTS[y], both=True),
        "one radius for all": published(WEIGHTS[y], factor=np.ones(COUNT)),
        "radii of the next class": published(WEIGHTS[y], factor=shifted),
        "weights of the next class": published(shifted),
        "no weights": published(np.ones(COUNT)),
    }
    for name, (value, _) in wrong.items():
        assert abs(value - right) > 1e-3, name


def test_weights_that_follow_from_the_batch_carry_no_gradient():
    weight, x, y = problem(2)
    method = methods.build("faal")
    terms = weigh(method, method.start(jnp.asarray([4, 4, 4]), np.float64))
    attack = inner_attack.pgd_inner(LinfBall(0.1))

    @jax.jit
    @jax.value_and_grad
    def with_method(weight):
        variables = {"params": weight}
        key = jax.random.key(4)
        return objectives.adversarial(key, linear, variables, x, y, attack, weigh=terms)[0]

    @jax.jit
    def points(weight):
        variables = {"params": weight}
        return objectives.adversarial(jax.random.key(4), linear, variables, x, y, attack)[1].points

    loss, slope = with_method(weight)
    moved = np.asarray(points(weight))
    p = softmax(moved @ weight)
    each = np.asarray(terms(jnp.asarray(moved @ weight), jnp.asarray(y), 0.0).label)
    assert np.ptp(each) > 0.1
    assert float(loss) == pytest.approx(np.mean(-each * np.log(p[np.arange(COUNT), y])), rel=1e-12)
    pull = each[:, None] * (p - np.eye(CLASSES)[y]) / COUNT
    np.testing.assert_allclose(slope, moved.T @ pull, atol=1e-13)


@pytest.mark.parametrize("steps", ["own", "plain", "largest"])
@pytest.mark.parametrize("radius", [0.3, np.array([0.1, 0.2, 0.3, 0.4])])
def test_steps_where_radii_differ(steps, radius):
    factors = jnp.asarray([0.5, 1.0, 2.5, 0.0])
    (move,) = scaled(Move(LinfBall(radius), 0.25), factors, steps)
    np.testing.assert_allclose(move.threat.radius, radius * factors)
    length = np.broadcast_to(move.step, 4) * np.asarray(move.threat.radius)
    plain = 0.25 * radius * np.ones(4)
    expected = {"own": plain * factors, "plain": plain, "largest": plain * 2.5}[steps]
    np.testing.assert_allclose(length, np.where(factors > 0, expected, 0))


def test_a_method_without_radii_leaves_the_attack_alone():
    plain = inner_attack.pgd_inner(LinfBall(0.1))
    for name in ("none", "wat", "faal", "ldam", "frl"):
        method = methods.build(name)
        state = method.start(jnp.asarray([3, 4, 5]))
        assert inner(method, state, plain, jnp.asarray([0, 1])) is plain
    cfa = methods.build("cfa")
    assert cfa.steps == "plain"
    assert methods.build("frl", variant="both").steps == "largest"
    found = inner(cfa, cfa.start(jnp.asarray([3, 4])), plain, jnp.asarray([0, 1, 1]))
    np.testing.assert_allclose(found.moves[0].threat.radius, np.full(3, 0.1), rtol=1e-6)


NAMES = ("cat", "deer", "ship")
FULL = np.array([0, 1, 2, 1])


@pytest.mark.parametrize("name", ["frl", "wat"])
def test_a_method_that_learns_from_held_out_images_wants_all_classes_there(name):
    method = methods.build(name)
    require_data(method, FULL, FULL, NAMES)
    for held in (None, np.array([], int)):
        with pytest.raises(InvalidInput, match=r"held_out = .*must be held out of training"):
            require_data(method, FULL, held, NAMES)
    with pytest.raises(InvalidInput, match=r"held-out images.*none of 'deer'"):
        require_data(method, FULL, np.array([0, 2]), NAMES)


def test_every_method_wants_its_classes_in_training_and_none_wants_nothing():
    few = np.array([0, 1, 0])
    for name in methods.METHODS:
        method = methods.build(name)
        if name == "none":
            require_data(method, few, None, NAMES)
            continue
        with pytest.raises(InvalidInput, match=r"training images.*none of 'ship'"):
            require_data(method, few, FULL, NAMES)
    require_data(methods.build("dafa"), FULL, None, NAMES)
    with pytest.raises(InvalidInput, match="labels = 3: must be below the 3 classes"):
        require_data(methods.build("dafa"), np.array([0, 1, 2, 3]), None, NAMES)


def test_statistics_that_are_missing_or_were_not_measured_are_named():
    method = methods.build("dafa")
    state = method.start(jnp.asarray([5, 5]))
    with pytest.raises(InvalidInput, match="similarity = None: dafa learns from it"):
        update_fairness_state(method, state, Statistics())
    rows = np.array([[0.6, 0.4], [np.nan, np.nan]])
    with pytest.raises(InvalidInput, match="not finite for class 1; dafa needs samples"):
        update_fairness_state(method, state, Statistics(similarity=rows))
    with pytest.raises(InvalidInput, match="must sum to 1"):
        update_fairness_state(method, state, Statistics(similarity=np.full((2, 2), 0.4)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dafta", {}, "method = 'dafta': unknown; did you mean dafa"),
        ("dafa", {"warmup": 3}, "option of dafa = 'warmup': unknown; did you mean warm_up"),
        ("dafa", {"warm_up": 0}, "warm_up = 0"),
        ("dafa", {"strength": -1.0}, "strength = -1"),
        (None, {}, "method = null: must be a text"),
        ("dafa", {"warm_up": None}, "warm_up = null: must be an integer"),
        ("dafa", {"warm_up": True}, "warm_up = True: must be an integer"),
        ("dafa", {"warm_up": 1.5}, "warm_up = 1.5: must be an integer"),
        ("dafa", {"floor": "no"}, "floor = 'no': must be a number or null"),
        ("dafa", {"ties": 3}, "ties = 3: must be a text"),
        ("frl", {"rate": [0.1]}, r"rate = \[0.1\]: must be a number"),
        ("wat", {"rate": "fast"}, "rate = 'fast': must be a number"),
        ("class-balanced", {"overlap": 1.0}, "option of class-balanced = 'overlap'"),
        ("dafa", {"floor": 1.0}, "floor = 1"),
        ("dafa", {"ties": "first"}, "ties = 'first'"),
        ("dafa", {"attack": "double"}, "attack = 'double'"),
        ("frl", {"variant": "all"}, "variant = 'all'"),
        ("frl", {"means": "none"}, "means = 'none'"),
        ("frl", {"limit": 1.0}, "limit = 1"),
        ("frl", {"rate": -0.1}, "rate = -0.1"),
        ("frl", {"halve_every": 0}, "halve_every = 0"),
        ("cfa", {"begin": 0}, "begin = 0"),
        ("cfa", {"base": -0.5}, "base = -0.5"),
        ("wat", {"rate": np.inf}, "rate = inf"),
        ("faal", {"radius": -0.5}, "radius = -0.5"),
        ("faal", {"margins": "worst"}, "margins = 'worst'"),
        ("effective-number", {"overlap": 1.5}, "overlap = 1.5"),
        ("logit-adjusted", {"temperature": np.nan}, "temperature = nan"),
        ("ldam", {"largest": 0.0}, "largest = 0"),
        ("ldam", {"scale": 0.0}, "scale = 0"),
    ],
)
def test_options_without_a_meaning_are_refused(name, options, message):
    with pytest.raises(InvalidInput, match=message):
        methods.build(name, **options)
