"""Logits times any power of two, and inputs of 16 bits: no attack may know of either."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.attacks import gradient, losses
from nets.attacks.apgd import apgd, apgd_targeted, starting_points
from nets.attacks.attack import Target, keys_of
from nets.attacks.ball import norm, project, random_start, steepest_ascent
from nets.attacks.linear import exact
from nets.attacks.masking import random_search
from nets.attacks.scale import over_length, ratio, units
from nets.attacks.square import square
from support import quick
from theory.problem import L1Ball, L2Ball, LinearScores, LinfBall

BALLS = {"linf": LinfBall, "l2": L2Ball, "l1": L1Ball}
RADII = {"linf": 0.06, "l2": 0.3, "l1": 1.0}
# Squares overflow float32 from 2^64 on and are lost below 2^-64.
POWERS = (66, 100, -66, -100)
RNG = np.random.default_rng(4)
COUNT, SHAPE, CLASSES = 12, (5, 5, 1), 5
X = RNG.uniform(0.1, 0.9, (COUNT, *SHAPE)).astype(np.float32)
INNER = (RNG.normal(size=(25, 6)) / 3).astype(np.float32)
OUTER = RNG.normal(size=(6, CLASSES)).astype(np.float32)


def network(x):
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) @ jnp.asarray(INNER, x.dtype))
    return hidden @ jnp.asarray(OUTER, x.dtype)


Y = np.asarray(jnp.argmax(network(jnp.asarray(X)), 1), np.int32)
KEY = jax.random.key(2)


def linear(key, logits_fn, target):
    del key
    # The linear network that it attacks has the scale of the other.
    scale = logits_fn(target.x)[0, 0] / network(target.x)[0, 0]
    weights = jnp.asarray((INNER @ OUTER).T) * scale
    return exact(LinearScores(weights, jnp.zeros_like(weights[:, 0])), target)


ATTACKS = {
    "fgsm": functools.partial(gradient.fgsm, loss=losses.margin),
    "pgd": functools.partial(gradient.pgd, steps=5, loss=losses.margin),
    "pgd-dlr": functools.partial(gradient.pgd, steps=5, loss=losses.dlr),
    "apgd": functools.partial(apgd, steps=12, loss=losses.margin),
    "apgd-dlr": functools.partial(apgd, steps=12, loss=losses.dlr),
    "apgd-t": functools.partial(apgd_targeted, steps=12, targets=2),
    "square": functools.partial(square, queries=15),
    "search": functools.partial(random_search, queries=15),
    "linear": linear,
}
# Not all pairs: what the norms do not share is tried in each of them.
CASES = [
    *((name, "linf") for name in ("pgd-dlr", "linear")),
    *((name, "l2") for name in ("fgsm", "pgd", "apgd", "apgd-dlr", "apgd-t", "square", "linear")),
    *((name, "l1") for name in ("apgd", "search", "linear")),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_logits_times_a_power_of_two_change_no_bit(name, kind):
    target = Target(X, Y, BALLS[kind](np.float32(RADII[kind])))

    @quick.jit
    def run(factor):
        return ATTACKS[name](KEY, lambda x: factor * network(x), target)

    plain = run(jnp.float32(1))
    assert 0 < plain.success.sum() < COUNT
    for power in POWERS:
        other = run(jnp.float32(2.0**power))
        np.testing.assert_array_equal(other.x_adv, plain.x_adv, err_msg=f"2^{power}")
        np.testing.assert_array_equal(other.success, plain.success)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_are_powers_of_two_and_exact(dtype):
    least, most = np.finfo(dtype).tiny, np.finfo(dtype).max
    size = np.array([0, least / 8, least, 0.3, 1, 1.999, 2, most], dtype)
    unit, inverse = map(np.asarray, units(jnp.asarray(size)))
    assert (np.frexp(unit)[0] == 0.5).all()
    np.testing.assert_array_equal(unit * inverse, 1)
    inner = slice(2, 7)
    assert (unit[inner] <= size[inner]).all()
    assert (size[inner] < 2 * unit[inner]).all()
    assert np.isfinite(size[-1] * inverse[-1])


def test_at_ordinary_scales_every_bit_is_that_of_the_reference():
    rng = np.random.default_rng(1)
    for dtype in (jnp.float32, jnp.float64):
        v = jnp.asarray(rng.normal(size=(200, 30)) * np.geomspace(1e-4, 1e4, 200)[:, None], dtype)
        lead, spread = v[:, 0], jnp.abs(v[:, 1]) + jnp.asarray(2.0**-13, dtype)
        length = jnp.sqrt(jnp.sum(v**2, 1, keepdims=True))
        keep = np.asarray(length[:, 0]) >= 2.0**-13
        np.testing.assert_array_equal(over_length(v)[0][keep], (v / (length + 1e-12))[keep])
        np.testing.assert_array_equal(over_length(v)[1], length)

        def plain(lead, spread):
            return lead / (spread + 1e-12)

        np.testing.assert_array_equal(ratio(lead, spread), plain(lead, spread))
        slopes = (jax.grad(lambda *a, f=f: f(*a).sum(), (0, 1)) for f in (ratio, plain))
        jax.tree.map(np.testing.assert_array_equal, *(slope(lead, spread) for slope in slopes))


def test_a_row_of_zeros_has_no_direction_in_any_type():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64):
        zeros = jnp.zeros((2, 3), dtype)
        assert over_length(zeros)[0].tolist() == zeros.tolist()
        assert ratio(zeros[:, 0], zeros[:, 0]).tolist() == [0, 0]
        assert ratio(zeros[:, 0], zeros[:, 0]).dtype == dtype


@pytest.mark.parametrize(
    ("name", "kind"),
    [("apgd", "l2"), ("apgd", "l1"), ("pgd", "l1"), ("square", "l2")],
)
def test_in_16_bits_points_are_finite_and_found_as_in_32(name, kind):
    """Squares of 1e-4 are lost in float16, sums stop at 65504, and 1e-12 there is zero."""

    def run(dtype, factor):
        x = jnp.asarray(X, dtype)
        target = Target(x, Y, BALLS[kind](np.float32(RADII[kind])))
        return x, ATTACKS[name](KEY, lambda x: factor * network(x), target)

    x, half = quick.jit(functools.partial(run, jnp.float16, 2.0**-10))()
    _, full = quick.jit(functools.partial(run, jnp.float32, 1.0))()
    assert half.x_adv.dtype == jnp.float16
    assert jnp.isfinite(half.x_adv).all()
    assert ((half.x_adv >= 0) & (half.x_adv <= 1)).all()
    moved = half.x_adv.astype(jnp.float32) - x.astype(jnp.float32)
    size = norm(BALLS[kind](1.0), moved)
    # Half a unit in the last place for each of 25 coordinates.
    assert (size <= RADII[kind] + 25 * 2.0**-11).all()
    found = np.asarray(half.success), np.asarray(full.success)
    assert (found[0] != found[1]).sum() <= 2
    assert found[1].any()


def test_lengths_of_many_small_numbers_are_not_lost_in_16_bits():
    many = jnp.full((1, 70_000), 2.0**-14, jnp.float16)
    length = 2.0**-14 * 70_000**0.5
    key, x = keys_of(KEY, 1), jnp.full((1, 70_000), 0.5, jnp.float16)
    assert norm(L2Ball(1.0), many)[0] == pytest.approx(length, rel=1e-3)
    for points in (steepest_ascent(L2Ball(1.0), many), over_length(many)[0]):
        assert float(points[0, 0]) == pytest.approx(70_000**-0.5, rel=1e-3)
    wide = L2Ball(np.float32(40.0))
    for start in (random_start, starting_points):
        moved = np.asarray(start(wide, key, x, (0.0, 1.0)) - x, np.float32)
        assert np.linalg.norm(moved) == pytest.approx(40, rel=0.02)
    nearer = np.asarray(project(L2Ball(np.float32(0.01)), x + many, x, (0.0, 1.0)) - x, np.float32)
    assert np.linalg.norm(nearer) <= 0.011
