"""What an evaluation is given: the network that it is now, and in one line what is none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from nets.attacks.attack import AttackResult, Target
from nets.compute import compiler
from nets.evaluation.ensemble import ensemble
from nets.evaluation.masking import check_masking
from nets.evaluation.outcomes import AttackRun, evaluate
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall

KEY = jax.random.key(0)
LEVELS = np.arange(0, 240, 30, dtype=np.uint8)
IMAGES = np.tile(LEVELS[:, None, None, None], (1, 2, 2, 1))
X = IMAGES.astype(np.float32) / 255
SMALL = LinfBall(0.1)
WEIGHTS = np.array([[-1.0, 1.0]] * 4, np.float32)
BIAS = np.array([1.6, -1.6], np.float32)


def linear(variables, x):
    weights, bias = variables
    return x.reshape(x.shape[0], -1) @ weights + bias[None]


NETWORK = (jnp.asarray(WEIGHTS), jnp.asarray(BIAS))
Y = np.asarray(jnp.argmax(linear(NETWORK, jnp.asarray(X)), 1), np.int32)


def evaluated(apply=linear, variables=NETWORK, images=X, labels=Y, threat=SMALL, **more):
    settings = {"methods": {}, "classes": 2, "block": 4} | more
    methods = settings.pop("methods")
    return evaluate(KEY, apply, variables, images, labels, threat, methods, **settings)


def together(logits_fn, x=X, y=Y, threat=SMALL, bounds=(0.0, 1.0), **settings):
    settings = {"attacks": ("pgd",), "steps": 2, "block": 4} | settings
    return ensemble(KEY, logits_fn, Target(x, y, threat, bounds), **settings)


class Trained:
    """One object whose weights change, as those of a module that is trained on do."""

    def __init__(self):
        self.variables = NETWORK

    def __call__(self, x):
        return linear(self.variables, x)

    def closed(self):
        return lambda x: linear(self.variables, x)

    def inside_a_program(self):
        # Not seen from outside: a constant of a program inside the program.
        return lambda x: jax.jit(lambda x: linear(self.variables, x))(x)

    def in_a_rule(self):
        @jax.custom_vjp
        def logits(x):
            return linear(self.variables, x)

        def back(_, slope):
            return ((slope @ self.variables[0].T).reshape(-1, 2, 2, 1),)

        logits.defvjp(lambda x: (logits(x), None), back)
        return logits


@pytest.mark.parametrize("form", ["__call__", "closed", "inside_a_program", "in_a_rule"])
def test_the_present_weights_are_evaluated(form):
    model = Trained()
    called = getattr(model, form)
    held = called if form == "__call__" else called()
    first = together(held)
    model.variables = (-NETWORK[0], -NETWORK[1])
    second = together(held)
    assert first.correct[0].all()
    assert not second.correct.any()
    model.variables = NETWORK
    third = together(held)
    np.testing.assert_array_equal(third.correct, first.correct)
    np.testing.assert_array_equal(third.x_adv, first.x_adv)


def test_what_is_not_ours_counts_as_it_is_in_evaluate_too():
    step = [0.0]

    def moved(keys, logits_fn, target, turn):
        x = jnp.clip(target.x + step[0], 0, 1)
        return AttackResult(x, target.y == target.y, target.y)

    model, method = Trained(), {"moved": AttackRun(moved)}

    def apply(variables, x):
        return model(x)

    run = functools.partial(evaluated, apply, {}, methods=method, threat=LinfBall(0.3))
    assert run().correct.all()
    step[0] = 0.3
    assert run().correct.sum(1).tolist() == [8, 5]
    model.variables = (NETWORK[0], NETWORK[1] * 0.5)
    assert run().correct[0].sum() < 8


def test_a_program_is_compiled_once_for_all_weights(monkeypatch):
    compiled = []
    lower = jax.stages.Lowered.compile

    def counted(*arguments, **options):
        compiled.append(1)
        return lower(*arguments, **options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    monkeypatch.setattr(compiler, "_programs", type(compiler._programs)())
    for scale in (1, 2, 3):
        weights = (scale * NETWORK[0], scale * NETWORK[1])
        together(lambda x, w=weights: linear(w, x))
        together(Partial(linear, weights))
    # The clean images, and the attack.
    assert len(compiled) == 2


def test_the_methods_of_this_packages_networks_are_held():
    from nets.models.registry import build

    assert compiler.settled(build("logistic", 2).apply)
    for other in (linear, Trained(), Trained().closed(), functools.partial(linear, NETWORK), 3):
        assert not compiler.settled(other)


def in_numpy(x):
    return np.asarray(x).reshape(len(x), -1) @ WEIGHTS


def by_value(x):
    return linear(NETWORK, x) if x[0, 0, 0, 0] > 0.5 else -linear(NETWORK, x)


NO_NETWORKS = {
    "numpy": (in_numpy, "logits_fn: must be a JAX function"),
    "branch": (by_value, "logits_fn: must be a JAX function"),
    "array": (lambda x: np.zeros((x.shape[0], 2)), "returned a numpy.ndarray, must return one JAX"),
    "dict": (lambda x: {"logits": linear(NETWORK, x)}, "returned a dict of logits, must return"),
    "tuple": (lambda x: (linear(NETWORK, x), x), "returned a tuple, must return one JAX array"),
    "flat": (lambda x: linear(NETWORK, x)[:, 0], r"logits.shape = \(.,\): must be \(., K\)"),
    "one": (lambda x: linear(NETWORK, x)[:, :1], r"logits.shape = \(., 1\): must be .* K >= 2"),
    "rows": (lambda x: linear(NETWORK, x)[:1].T, r"logits.shape = \(2, 1\): must be"),
    "integers": (
        lambda x: linear(NETWORK, x).astype(int),
        "logits.dtype = int64: must be floating",
    ),
    "none": (None, "must be a function"),
}


@pytest.mark.parametrize("name", NO_NETWORKS)
@pytest.mark.parametrize("entry", [together, lambda f: evaluated(lambda v, x: f(x))])
def test_what_is_no_network_is_refused_in_one_line(name, entry):
    function, message = NO_NETWORKS[name]
    if function is None and entry is not together:
        return evaluated_none(message)
    with pytest.raises(InvalidInput, match=message) as refused:
        entry(function)
    assert "\n" not in str(refused.value)
    return None


def evaluated_none(message):
    with pytest.raises(InvalidInput, match=message):
        evaluated(None)


def test_another_number_of_classes_is_refused():
    with pytest.raises(InvalidInput, match=r"logits.shape = \(4, 2\): must be \(4, 3\)"):
        evaluated(classes=3)


BATCHED = {
    "statistics": lambda x: linear(NETWORK, x - jnp.mean(x, 0, keepdims=True) + 0.4),
    "order": lambda x: linear(NETWORK, x + 0.1 * jnp.arange(x.shape[0]).reshape(-1, 1, 1, 1)),
    "first row": lambda x: linear(NETWORK, x) + linear(NETWORK, x)[:1],
}


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("count", [2, 8])
def test_outputs_that_depend_on_the_batch_are_refused(name, count):
    with jax.numpy_dtype_promotion("standard"), pytest.raises(InvalidInput, match="its batch"):
        together(BATCHED[name], X[-count:], Y[-count:])


def test_classes_that_are_masked_without_end_are_refused():
    def masked(value):
        row = jnp.asarray([0.0, 0.0, value], jnp.float32)[None]
        return lambda x: jnp.pad(linear(NETWORK, x), ((0, 0), (0, 1))) + row

    with pytest.raises(InvalidInput, match=r"no sample has finite ones.*-1e4 in"):
        together(masked(-jnp.inf))
    assert together(masked(-1e4)).correct[0].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": IMAGES, "bounds": (0, 255), "threat": LinfBall(2)}, "N levels is N/255"),
        ({"images": IMAGES.astype(float), "bounds": (0, 1)}, "images: must be uint8, or floats in"),
        ({"bounds": [0, 255], "threat": LinfBall(2)}, "no entry of the images is above 0.82"),
        ({"bounds": (1, 0)}, r"bounds = \(1, 0\): must be \(low, high\) with low < high"),
        ({"bounds": 1}, r"bounds = 1: must be two numbers"),
        ({"bounds": (0, 1, 2)}, "must be two numbers"),
        ({"bounds": "01 "}, "must be two numbers"),
        ({"threat": L2Ball(128)}, "radius = 128: must be at most 2, .*perhaps 128/255"),
        ({"threat": L1Ball(20)}, "radius = 20: must be at most 4, .*perhaps 20/255"),
        ({"threat": LinfBall(0.1)._replace(radius=np.nan)}, "radius = nan"),
        ({"images": X[:0], "labels": Y[:0]}, "n >= 1"),
        ({"images": X[:, :0]}, r"images.shape = \(8, 0, 2, 1\)"),
        ({"images": X[:, 0, 0, 0]}, r"images.shape = \(8,\)"),
        ({"images": np.where(X > 0.5, np.nan, X)}, "images: must be uint8"),
        ({"images": X.astype(np.int64)}, "images: must be uint8"),
        ({"labels": Y + 1}, "labels = 2: must lie in"),
        ({"labels": Y - 1}, "labels = -1: must lie in"),
        ({"labels": Y.astype(float)}, "labels.dtype = float64"),
    ],
)
def test_numbers_whose_unit_or_kind_is_mistaken_are_refused(change, message):
    with pytest.raises(InvalidInput, match=message) as refused:
        evaluated(**change)
    assert "\n" not in str(refused.value)


def test_a_list_will_do_for_bounds_and_levels_for_pixels():
    plain = together(Trained())
    np.testing.assert_array_equal(together(Trained(), bounds=[0, 1]).correct, plain.correct)
    levels = together(Trained(), x=IMAGES)
    np.testing.assert_array_equal(levels.correct, plain.correct)
    assert levels.x_adv.dtype == np.float32
    with pytest.raises(InvalidInput, match="N levels is N/255"):
        together(Trained(), x=IMAGES, bounds=(0, 255))


def checked(apply=linear, variables=NETWORK, images=X, labels=Y, threat=SMALL, key=KEY):
    return check_masking(key, apply, variables, images, labels, threat)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threat": LinfBall(8)}, "radius = 8: .*perhaps 8/255"),
        ({"threat": LinfBall(0)}, "masking: the radius must be above 0"),
        ({"threat": LinfBall(np.full(8, 0.1))}, "one radius, has 8 and 8"),
        ({"images": X[:1], "labels": Y[:1]}, "needs 2 samples or more"),
        ({"images": X[:0], "labels": Y[:0]}, "n >= 1"),
        ({"images": 255 * X}, "images: must be uint8, or floats in"),
        ({"labels": Y + 1}, "labels = 2: must lie in"),
        ({"apply": lambda v, x: in_numpy(x)}, "logits_fn: must be a JAX function"),
        ({"key": jax.random.key(0, impl="rbg")}, "key: its generator is rbg"),
    ],
)
def test_the_checks_for_masking_refuse_it_too(change, message):
    with pytest.raises(InvalidInput, match=message):
        checked(**change)


@pytest.mark.slow
def test_the_checks_for_masking_are_of_the_present_weights():
    model = Trained()

    def apply(variables, x):
        return model(x)

    assert checked(apply, {}).correct == 8
    model.variables = (-NETWORK[0], -NETWORK[1])
    assert checked(apply, {}).correct == 0
