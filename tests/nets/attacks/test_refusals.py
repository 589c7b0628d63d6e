"""What is no network, no sample or no number is refused by every attack, in one line."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks.apgd import apgd, apgd_targeted
from nets.attacks.attack import Target
from nets.attacks.gradient import fgsm, pgd
from nets.attacks.linear import exact
from nets.attacks.masking import measure, random_search
from nets.attacks.square import square
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearScores, LinfBall

WEIGHTS = np.random.default_rng(0).normal(size=(25, 5)).astype(np.float32)
X = np.full((2, 5, 5, 1), 0.5, np.float32)
Y = np.zeros(2, np.int32)
GOOD = Target(X, Y, LinfBall(np.float32(0.1)))
ATTACKS = {
    "fgsm": fgsm,
    "pgd": functools.partial(pgd, steps=1),
    "apgd": functools.partial(apgd, steps=1),
    "apgd-t": functools.partial(apgd_targeted, steps=1, targets=1),
    "square": functools.partial(square, queries=1),
    "search": functools.partial(random_search, queries=1),
    "measure": functools.partial(measure, steps=1, queries=1),
}


def network(x):
    return x.reshape(x.shape[0], -1) @ WEIGHTS


NO_NETWORKS = {
    "a numpy function": (lambda x: jnp.asarray(np.asarray(x).reshape(2, -1) @ WEIGHTS), "JAX func"),
    "a branch": (lambda x: network(x) if x.sum() > 0 else -network(x), "must be a JAX function"),
    "an array": (lambda x: np.zeros((2, 5)), "returned a numpy.ndarray, must return one JAX array"),
    "a dict": (lambda x: {"logits": network(x)}, "returned a dict of logits"),
    "no classes": (lambda x: network(x)[:, 0], r"logits.shape = \(2,\): must be \(2, K\)"),
    "one class": (
        lambda x: network(x)[:, :1],
        r"logits.shape = \(2, 1\): must be \(2, K\), K >= 2",
    ),
    "integers": (lambda x: network(x).astype(int), "logits.dtype = int64: must be floating"),
    "nothing": (None, "logits_fn = None: must be a function"),
}


def refused(attack, logits_fn=network, target=GOOD, message=""):
    # As users do: inside of jit, where a network sees no numbers.
    with pytest.raises(InvalidInput, match=message) as error:
        jax.eval_shape(lambda x: attack(jax.random.key(0), logits_fn, target._replace(x=x)), X)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", NO_NETWORKS)
def test_what_is_no_network_is_refused(attack, name):
    logits_fn, message = NO_NETWORKS[name]
    refused(ATTACKS[attack], logits_fn, GOOD, message)


def test_a_network_that_raises_is_heard():
    def broken(x):
        raise KeyError("kernel")

    for attack in ATTACKS.values():
        with pytest.raises(KeyError, match="kernel"):
            attack(jax.random.key(0), broken, GOOD)


@pytest.mark.parametrize("attack", [*ATTACKS.values(), lambda k, f, t: exact(SCORES, t)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X[:0], "y": Y[:0]}, r"x.shape = \(0, 5, 5, 1\): must be .* B >= 1"),
        ({"x": X[:, :0]}, r"x.shape = \(2, 0, 5, 1\): must be"),
        ({"x": np.where(X > 0, np.nan, X)}, "x = nan: every entry must lie in"),
        ({"x": np.inf * X, "bounds": (-np.inf, np.inf)}, "x = inf: every entry must .* be finite"),
        ({"x": (255 * X).astype(np.uint8)}, "x.dtype = uint8"),
        ({"y": Y[:, None]}, r"y = int32\(2, 1\): must be integer labels"),
        ({"y": Y + 5}, "y = 5: labels must lie between 0 and 4"),
        ({"y": Y - 1}, r"y = -1: labels must lie in \[0, K\)"),
        ({"threat": L2Ball(128.0)}, "radius = 128: must be at most 5, .*perhaps 128/255"),
        ({"threat": L1Ball(2000.0)}, "radius = 2000: must be at most 25, .*perhaps 2000/255"),
        ({"bounds": 1.0}, r"bounds = 1.0: must be two numbers"),
        ({"bounds": ("a", "b")}, "must be two numbers"),
    ],
)
def test_what_makes_no_sense_as_a_target_is_refused(attack, change, message):
    with pytest.raises(InvalidInput, match=message):
        attack(jax.random.key(0), network, GOOD._replace(**change))


SCORES = LinearScores(jnp.asarray(WEIGHTS.T), jnp.zeros(5, jnp.float32))


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None, [1]])
@pytest.mark.parametrize(
    ("attack", "name"),
    [(pgd, "restarts"), (apgd, "steps"), (square, "queries"), (random_search, "queries")],
)
def test_a_number_of_steps_is_a_positive_integer(attack, name, value):
    with pytest.raises(InvalidInput, match=f"{name} = "):
        attack(jax.random.key(0), network, GOOD, **{name: value})


def test_a_list_will_do_for_bounds():
    listed = fgsm(jax.random.key(0), network, GOOD._replace(bounds=[0, 1]))
    np.testing.assert_array_equal(listed.x_adv, fgsm(jax.random.key(0), network, GOOD).x_adv)
