"""The ensemble: the same attacks run one by one on everything, and who fell to which."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from nets.attacks import linear
from nets.attacks.apgd import apgd
from nets.attacks.attack import Target
from nets.attacks.losses import misclassified
from nets.evaluation.ensemble import ensemble, method, standard
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearClassifier, LinearScores, LinfBall, LpBall
from theory.rules.risk import dual_norm

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(3)
W1 = RNG.normal(size=(36, 12)).astype(np.float32) / 3
W2 = RNG.normal(size=(12, 5)).astype(np.float32)
X = RNG.uniform(size=(11, 6, 6, 1)).astype(np.float32)


def network(weights, x):
    flat = x.reshape(x.shape[0], -1)
    return jnp.tanh(flat @ weights[0]) @ weights[1]


MODEL = Partial(network, (jnp.asarray(W1), jnp.asarray(W2)))
Y = np.asarray(jnp.argmax(MODEL(jnp.asarray(X)), 1), np.int32)
Y[2] = (Y[2] + 1) % 5
RADII = np.linspace(0, 0.06, 11).astype(np.float32)
SALT = np.uint32(zlib.crc32(b"apgd-ce"))
SETTINGS = {"steps": 6, "queries": 12, "block": 4}


@pytest.fixture(scope="module")
def found():
    return ensemble(jax.random.key(0), MODEL, Target(X, Y, LinfBall(RADII)), **SETTINGS)


def test_it_says_who_fell_to_what_and_which_attacks_ran(found):
    assert found.attacks == ("clean", "apgd-ce", "apgd-t", "square")
    assert found.fell_to[2] == 0
    assert found.fell_to[0] == -1
    assert {0, -1, 1} <= set(found.fell_to.tolist())
    wrong = misclassified(MODEL(jnp.asarray(found.x_adv)), jnp.asarray(Y))
    assert (np.asarray(wrong) == ~found.correct[-1]).all()
    assert (found.x_adv[found.correct[-1]] == X[found.correct[-1]]).all()
    assert (np.abs(found.x_adv - X).max((1, 2, 3)) <= RADII + 1e-6).all()
    fractions = [flags.mean() for flags in found.correct]
    assert fractions == sorted(fractions, reverse=True)


def test_order_blocks_and_company_make_no_difference(found):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(11))
    order = RNG.permutation(11)[:7]
    ball = LinfBall(RADII[order])
    other = ensemble(keys[order], MODEL, Target(X[order], Y[order], ball), **SETTINGS)
    assert (other.fell_to == found.fell_to[order]).all()
    assert (other.x_adv == found.x_adv[order]).all()


def test_the_first_attack_is_apgd_on_every_sample(found):
    @jax.jit
    def alone(x, y, radii):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(11))
        folded = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(k, SALT), 0))(keys)
        return apgd(folded, MODEL, Target(x, y, LinfBall(radii)), steps=6)

    got = alone(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(RADII))
    assert (np.asarray(got.success) == ~found.correct[1]).all()


def test_few_classes_get_the_margin_and_say_so():
    assert standard(2) == standard(3) == ("apgd-ce", "apgd-margin", "square")
    assert standard(4) == ("apgd-ce", "apgd-t", "square")
    assert standard(4, LpBall(1.0, 1)) == ("apgd-ce", "pgd-margin", "apgd-t", "square")


def test_on_a_linear_problem_with_bounds_nothing_is_missed():
    rng = np.random.default_rng(2)
    scores = LinearScores(rng.normal(size=(2, 12)), 0.1 * rng.normal(size=2))
    model = Partial(linear.logits, scores)
    x = jnp.asarray(rng.uniform(size=(40, 12)))
    y = jnp.argmax(model(x), 1).astype(jnp.int32)
    target = Target(x, y, L1Ball(0.5))
    worst = linear.exact(scores, target)
    attacks = ("apgd-ce", "pgd-margin")
    got = ensemble(jax.random.key(0), model, target, attacks=attacks, steps=100, block=40)
    assert (got.correct[-1] == ~np.asarray(worst.success)).all()
    assert 5 < got.correct[-1].sum() < 35
    assert (got.fell_to == 2).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacks": ("fab",)}, "attack = 'fab'"),
        ({"attacks": ("square", "square")}, "different names"),
        ({"attacks": ()}, "different names"),
        ({"model": lambda x: MODEL(x)[:, :3], "attacks": ("apgd-t",)}, "'apgd-t': needs 4 classes"),
        ({"model": lambda x: MODEL(x)[:, :2], "attacks": ("apgd-dlr",)}, "'apgd-dlr': needs 3"),
        ({"targets": 5}, "targets = 5"),
        ({"block": 0}, "block = 0"),
        ({"x": X.reshape(11, -1)}, "Square needs images"),
        ({"threat": LpBall(1.0, 3)}, "p = 3"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(settings, message):
    model, x = settings.pop("model", MODEL), settings.pop("x", X)
    threat = settings.pop("threat", LinfBall(0.1))
    with pytest.raises(InvalidInput, match=message):
        ensemble(jax.random.key(0), model, Target(x, Y % 2, threat), **settings)


def test_l1_has_its_own_number_of_turns():
    turns = {name: method(name, 10, L1Ball(1.0)).turns for name in standard(10, L1Ball(1.0))}
    assert turns == {"apgd-ce": 5, "pgd-margin": 5, "apgd-t": 5, "square": 1}
    assert method("apgd-t", 10, LinfBall(1.0)).turns == 9
    assert method("apgd-t", 5, LinfBall(1.0)).turns == 4


@pytest.mark.parametrize(
    ("kind", "names", "radius"),
    [
        (LinfBall, ("pgd", "apgd-ce", "square"), 0.007),
        (L2Ball, ("pgd-margin", "apgd-ce"), 0.035),
        (L1Ball, ("pgd", "apgd-margin"), 0.08),
    ],
)
def test_a_linear_network_falls_to_each_attack_alone_where_the_closed_form_says(
    kind, names, radius
):
    """Sample by sample the robust margin of theory.rules.risk; no image is so near a bound that it
    matters, and none so near the edge that rounding does."""
    rng = np.random.default_rng(4)
    rule = LinearClassifier(rng.normal(size=36), 0.0)
    x = rng.uniform(0.41, 0.59, (60, 6, 6, 1))
    rule = rule._replace(bias=-float(np.median(x.reshape(60, -1) @ np.asarray(rule.weight))))
    threat = kind(radius)
    scores = np.asarray(x.reshape(60, -1) @ np.asarray(rule.weight) + rule.bias)
    y = np.asarray(scores > 0, np.int32)
    y[:5] = 1 - y[:5]
    margins = (2 * y - 1) * scores - radius * float(dual_norm(threat, rule.weight))
    assert np.abs(margins).min() > 1e-6
    assert 0.3 < np.mean(margins <= 0) < 0.8
    model = Partial(linear.logits, linear.two_classes(rule))
    target = Target(x, y, threat)
    for name in names:
        found = ensemble(jax.random.key(1), model, target, attacks=(name,), queries=2000, block=60)
        np.testing.assert_array_equal(~found.correct[-1], margins <= 0, err_msg=name)
