"""Arguments that are lists, numbers or nothing: taken as arrays, or refused by name."""

import jax
import numpy as np
import pytest

from theory import stable
from theory.domain import InvalidInput
from theory.problem import GaussianMixture, L2Ball, LinearClassifier
from theory.rules.direction import optimal_direction
from theory.rules.intercept import critical_ratio, fair_shift
from theory.rules.risk import class_risks, disparity, log_class_risks, risk

MIXTURE = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [1.0, 1.5], 0.3)
RULE = LinearClassifier([1.0, 0.5], 0.1)
NO_ARRAYS = [None, "l2", 1j, object(), [[1.0], [2.0, 3.0]], np.zeros(2, complex)]


def test_lists_are_arrays():
    assert stable.sf([0.0, 1.0], 1.0).tolist() == stable.sf(np.array([0.0, 1.0]), 1.0).tolist()
    assert float(fair_shift(3.0, [1.0, 2.0])) == float(fair_shift(3.0, np.array([1.0, 2.0])))


@pytest.mark.parametrize("value", NO_ARRAYS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x", lambda value: stable.sf(value, 1.5)),
        ("alpha", lambda value: stable.sf(1.0, alpha=value)),
        ("p", lambda value: stable.isf(value, 1.5)),
        ("margin", lambda value: fair_shift(value, np.ones(2))),
        ("scales", lambda value: critical_ratio(1.0, value)),
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused_by_name(name, call, value):
    with pytest.raises(InvalidInput, match=f"{name}.*: must be an array of real numbers"):
        call(value)


@pytest.mark.parametrize("function", [class_risks, log_class_risks, risk, disparity])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MIXTURE, RULE, "l2"), "threat = 'l2': must be an L1Ball, L2Ball, LinfBall or LpBall"),
        ((MIXTURE, RULE, 0.5), "threat = 0.5: must be"),
        ((MIXTURE, [1.0, 0.5], None), r"classifier = \[1.0, 0.5\]: must be a LinearClassifier"),
        ((None, RULE, None), "mixture = None: must be a GaussianMixture"),
        ((RULE, MIXTURE, None), "mixture = .*is a LinearClassifier"),
        (
            (MIXTURE, LinearClassifier(np.ones(3), 0.0), L2Ball(0.1)),
            r"weight.shape = \(3,\): must be \(..., d\) with d = 2, as means say",
        ),
    ],
)
def test_risks_name_the_argument_that_is_wrong(function, arguments, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    # Types and shapes are known inside `jit` too.
    with pytest.raises(InvalidInput, match=message):
        jax.jit(lambda: function(*arguments))()


def test_directions_name_the_threat():
    with pytest.raises(InvalidInput, match="threat = 'l2'"):
        optimal_direction(MIXTURE, "l2")
