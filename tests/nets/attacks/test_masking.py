"""A zoo of networks that mask their gradients, each raised by name, and honest ones, not raised."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks import losses, masking
from nets.attacks.attack import Target
from support import quick, small_networks
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall

RADIUS, POINTS = 0.1, 100


def _honest(radius=0.0, hidden=small_networks.HIDDEN):
    return functools.partial(
        small_networks.logits, small_networks.train(hidden=hidden, radius=radius)
    )


def _stochastic():
    numbers, fn = itertools.count(), _honest()

    def logits(x):
        key = jax.random.key(next(numbers))
        return fn(x + 0.1 * jax.random.normal(key, x.shape, x.dtype))

    return logits


def _saturating():
    first, last = small_networks.train()
    weight, bias = 1000 * first[0], 1000 * first[1]
    return lambda x: jax.nn.sigmoid(x @ weight + bias[None]) @ last[0] + last[1][None]


def _over(change):
    """A network behind something that changes its inputs or outputs."""
    return lambda: change(_honest())


def _shattered(fn):
    return lambda x: fn(x + 0.03 * jnp.sin(3000 * x))


def _backwards(fn):
    """Its derivative has the wrong sign, as that of a faulty layer of one's own."""

    @jax.custom_jvp
    def same(x):
        return x

    same.defjvp(lambda x, t: (x[0], -t[0]))
    return lambda x: fn(same(x))


def _batch_statistics(fn):
    return lambda x: fn(x - jnp.mean(x, 0, keepdims=True) + 0.5)


def _dividing(fn):
    return lambda x: fn(x) / jnp.where(x[:, :1] > 0.45, 1, 0).astype(x.dtype)


ZOO = {
    "logits times 1000": (_over(lambda fn: lambda x: 1000 * fn(x)), "zero_gradients"),
    "quantised input": (_over(lambda fn: lambda x: fn(jnp.round(x * 8) / 8)), "zero_gradients"),
    "stochastic layer": (_stochastic, "changed"),
    "softmax output": (_over(lambda fn: lambda x: jax.nn.softmax(fn(x))), "probabilities"),
    "saturating sigmoid": (_saturating, "zero_gradients"),
    "shattered gradient": (_over(_shattered), "black_box_only"),
    "backward derivative": (_over(_backwards), "stuck"),
    "batch statistics": (_over(_batch_statistics), "batch"),
    "division by zero": (_over(_dividing), "nonfinite"),
}
HONEST = {
    "linear": functools.partial(_honest, hidden=0),
    "trained": _honest,
    "adversarially trained": functools.partial(_honest, radius=0.1),
}


EVERYONE = [make() for make, _ in ZOO.values()] + [make() for make in HONEST.values()]


@quick.jit
def _measure(threat, number):
    """One executable for all networks; compiling it takes longer than running it."""
    x, y = small_networks.points(POINTS, 1)

    def chosen(x):
        # Fresh functions, or JAX would remember what the stochastic one did the last time.
        return jax.lax.switch(number, [lambda x, fn=fn: fn(x) for fn in EVERYONE], x)

    return masking.measure(jax.random.key(0), chosen, Target(x, y, threat))


def _report(name, threat):
    return masking.masking_report(_measure(threat, [*ZOO, *HONEST].index(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_v9_the_zoo_is_raised(name):
    report, sign = _report(name, LinfBall(RADIUS)), ZOO[name][1]
    assert sign in report.raised, report
    assert sign in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("threat", [LinfBall(RADIUS), L2Ball(0.25), L1Ball(0.6)])
def test_v9_honest_networks_are_not(threat):
    for name in HONEST:
        report = _report(name, threat)
        assert report.raised == (), report
        assert str(report) == "no sign of gradient masking"
        names = [check.name for check in report.checks]
        assert [*names, "correct"] == list(masking.MaskingMeasurements._fields)


def test_nan_raises_a_check():
    measured = masking.MaskingMeasurements(*([jnp.zeros(())] * 10))
    assert masking.masking_report(measured).raised == ()
    assert masking.masking_report(measured._replace(stuck=jnp.nan)).raised == ("stuck",)


@pytest.mark.slow
def test_the_search_stays_inside_and_finds_what_a_linear_network_has():
    fn = _honest(hidden=0)
    x, y = small_networks.points(POINTS, 1)
    target = Target(x, y, LinfBall(RADIUS))
    found = jax.jit(lambda k: masking.random_search(k, fn, target, queries=300))(jax.random.key(0))
    wrong = np.asarray(losses.misclassified(fn(x), y))
    assert np.all(np.abs(np.asarray(found.x_adv - x)) <= RADIUS + 1e-6)
    assert np.all((found.x_adv >= 0) & (found.x_adv <= 1))
    np.testing.assert_array_equal(np.asarray(found.x_adv)[wrong], np.asarray(x)[wrong])
    lead = np.asarray(losses.margin(fn(found.x_adv), y))
    np.testing.assert_allclose(found.loss, lead, atol=1e-5)
    assert float(np.mean(found.success)) > np.mean(wrong) + 0.05


def test_bad_input_is_refused():
    x, y = small_networks.points(4, 1)
    with pytest.raises(InvalidInput, match="perhaps 8/255 is meant"):
        masking.measure(jax.random.key(0), _honest(), Target(x, y, LinfBall(8.0)))
