"""Losses against plain NumPy formulas, their gradients against finite differences."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from nets.attacks import losses
from theory.domain import InvalidInput

LOGITS = np.random.default_rng(0).normal(0, 3, (20, 5))
LABELS = np.random.default_rng(1).integers(0, 5, 20)
TARGETS = (LABELS + np.random.default_rng(2).integers(1, 5, 20)) % 5


def _cross_entropy(z, y):
    return float(mpmath.log(mpmath.fsum(mpmath.exp(v) for v in z)) - mpmath.mpf(z[y]))


def _margin(z, y):
    return np.delete(z, y).max() - z[y]


def _dlr(z, y):
    top = np.sort(z)[::-1]
    return _margin(z, y) / (top[0] - top[2] + 1e-12)


def _targeted_dlr(z, y, t):
    top = np.sort(z)[::-1]
    return (z[t] - z[y]) / (top[0] - (top[2] + top[3]) / 2 + 1e-12)


CASES = {
    "cross_entropy": (losses.cross_entropy, lambda z, y, t: _cross_entropy(z, y)),
    "margin": (losses.margin, lambda z, y, t: _margin(z, y)),
    "dlr": (losses.dlr, lambda z, y, t: _dlr(z, y)),
    "targeted_cross_entropy": (
        losses.targeted_cross_entropy,
        lambda z, y, t: -_cross_entropy(z, t),
    ),
    "targeted_margin": (losses.targeted_margin, lambda z, y, t: z[t] - z[y]),
    "targeted_dlr": (losses.targeted_dlr, _targeted_dlr),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_slopes(name, dtype):
    loss: Any
    loss, oracle = CASES[name]
    if name.startswith("targeted"):
        loss = functools.partial(loss, target_class=jnp.asarray(TARGETS, jnp.int32))
    z, y = jnp.asarray(LOGITS, dtype), jnp.asarray(LABELS, jnp.int32)
    rows = np.asarray(z, np.float64)

    def wanted(rows):
        return np.array([oracle(*row) for row in zip(rows, LABELS, TARGETS, strict=True)])

    ours, slopes = jax.value_and_grad(lambda z: jnp.sum(loss(z, y)))(z)
    assert loss(z, y).dtype == dtype
    rtol = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(loss(z, y), wanted(rows), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours, wanted(rows).sum(), rtol=10 * rtol)
    for k in range(5):
        move = 1e-5 * np.eye(5)[k]
        # Errors of central differences: h^2/6 times third derivatives, and eps/h.
        numeric = (wanted(rows + move) - wanted(rows - move)) / 2e-5
        np.testing.assert_allclose(slopes[:, k], numeric, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "lead"), [(np.float32, 80.0), (np.float64, 700.0)])
def test_cross_entropy_still_slopes_where_its_usual_form_is_flat(dtype, lead):
    z, y = jnp.asarray([[lead, 0.0]], dtype), jnp.asarray([0])
    slope = jax.grad(lambda z: losses.cross_entropy(z, y)[0])(z)[0]
    np.testing.assert_allclose(slope, np.exp(-lead) * np.array([-1.0, 1]), rtol=1e-5)
    assert float(losses.cross_entropy(z, y)[0]) > 0


def test_ties_and_logits_that_are_not_finite_count_as_errors():
    z = [[2.0, 1, 0], [2, 2, 0], [1, 2, 0], [np.nan, 0, 0], [2, np.nan, 0], [9, -np.inf, 0]]
    wrong = losses.misclassified(jnp.asarray(z), jnp.zeros(6, jnp.int32))
    assert wrong.tolist() == [False, True, True, True, True, True]


def test_the_ratio_does_not_see_shifts_and_scales():
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    np.testing.assert_allclose(losses.dlr(1000 * z + 7, y), losses.dlr(z, y), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, y: losses.dlr(z[:, :2], y % 2), r"logits.shape = \(20, 2\).*K >= 3"),
        (lambda z, y: losses.targeted_dlr(z[:, :3], y % 3, y % 3), r"K >= 4"),
        (lambda z, y: losses.margin(z[:, :1], 0 * y), r"K >= 2"),
        (lambda z, y: losses.margin(z[:3], y), r"logits.shape = \(3, 5\): must be \(20, K\)"),
        (lambda z, y: losses.cross_entropy(z, y + 5), r"y = 9: labels must lie between 0 and 4"),
        (lambda z, y: losses.cross_entropy(z, y - 9), r"y = -9: labels"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InvalidInput, match=message):
        call(jnp.asarray(LOGITS), jnp.asarray(LABELS))
