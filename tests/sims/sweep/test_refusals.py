"""What a sweep refuses before any draw, in one line that names argument, value and range."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sims.projection.explore import explore
from sims.rare import claims as rare
from sims.sweep import file as sweep_file
from sims.sweep.plan import make_plan, parse_grid, require_seed
from sims.sweep.run import prepare_sweep
from sims.sweep.single_precision import require_fields, require_simulable
from support.small import CLAIM
from theory.claims.claim import Axis, Problem, Source
from theory.claims.registry import collect, registered
from theory.domain import NON_NEGATIVE, InvalidInput
from theory.problem import GaussianMixture, LinearClassifier

UNSOUND = [
    (
        {"source": Source("hu2023acuracydisparity", "T1")},
        "source of claim small = 'hu2023acuracydisparity': unknown; "
        "did you mean hu2023accuracydisparity",
    ),
    ({"source": Source("", "T1")}, "source of claim small = '': unknown"),
    (
        {"axes": (Axis("radius", "perturbation radius", (-1.0,), NON_NEGATIVE),)},
        "claim = 'small': by default radius = -1: perturbation radius must lie in",
    ),
    (
        {"axes": (CLAIM.axes[0],) * 2},
        "axes \\['radius', 'radius'\\] must be at least one, each once",
    ),
    ({"axes": ()}, "must be at least one"),
    ({"relation": "<"}, "relation '<' must be ==, <=, >="),
]


@pytest.mark.parametrize(("changed", "message"), UNSOUND)
def test_an_unsound_claim_is_refused_when_it_is_registered_and_when_it_is_planned(changed, message):
    claim = dataclasses.replace(CLAIM, **changed)
    for refuses in (lambda: collect([claim]), lambda: make_plan(claim)):
        with pytest.raises(InvalidInput, match=message) as caught:
            refuses()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("claim", [None, 3, "gaussian-robust-risk-l2", [CLAIM]])
def test_what_is_no_claim_is_refused(claim):
    for refuses in (lambda: collect([claim]), lambda: make_plan(claim)):
        with pytest.raises(InvalidInput, match="must be a Claim"):
            refuses()


@pytest.mark.parametrize(
    ("predict", "got"),
    [
        (lambda radius, mean: (radius,), r"shapes \[\(\)\]"),
        (lambda radius, mean: (radius, mean, mean), r"shapes \[\(\), \(\), \(\)\]"),
        (lambda radius, mean: (radius, jnp.ones(2)), r"shapes \[\(\), \(2,\)\]"),
        (lambda radius, mean: radius, "no tuple"),
    ],
)
def test_a_claim_that_predicts_another_number_of_components_is_refused_undrawn(predict, got):
    plan = make_plan(dataclasses.replace(CLAIM, predict=predict))
    with pytest.raises(InvalidInput, match=f"'small': predict gives {got}; .*: negative, positive"):
        prepare_sweep(plan)


TOO_MUCH = [
    ({"radius": (1e308,)}, r"radius = 1e\+308: perturbation radius must be 0 or of a size in "),
    ({"radius": (0, 1e38)}, r"radius = 1e\+38: perturbation radius must be .* that float32"),
    ({"radius": (1e19,)}, r"radius = 1e\+19"),
    ({"radius": (1e-300,)}, "radius = 1e-300: .*1.2e-38, 1e\\+18"),
    ({"mean": (1e-40,)}, "mean = 1e-40: class mean must be"),
]


@pytest.mark.parametrize(("grid", "message"), TOO_MUCH)
def test_what_float32_does_not_hold_is_refused_before_any_draw(grid, message, monkeypatch):
    for module in ("sims.sweep.devices.count_all", "sims.rare.risks.rare_class_risks"):
        monkeypatch.setattr(module, None)
    for refuses in (
        lambda: prepare_sweep(make_plan(CLAIM, grid)),
        lambda: rare.require_checkable(CLAIM, grid, trials=2**14, seed=0),
        lambda: explore(CLAIM, grid, trials=100),
    ):
        with pytest.raises(InvalidInput, match=message):
            refuses()


def _problem(scale=1.0, weight=1.0, mean=1.0):
    mixture = GaussianMixture([[-mean], [mean]], [1.0, scale], 0.5)
    return Problem(mixture, LinearClassifier([weight], 0.0), None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 1e-300}, "claim small: scales = 1e-300: must be 0 or of a size"),
        ({"scale": 1e200}, r"claim small: scales = 1e\+200"),
        ({"weight": -1e39}, r"claim small: weight = -1e\+39"),
        ({"mean": 1e39}, r"claim small: means = -1e\+39"),
    ],
)
def test_fields_of_problems_are_checked_whatever_the_axes(fields, message):
    with pytest.raises(InvalidInput, match=message):
        require_fields("small", _problem(**fields))
    require_fields("small", _problem(weight=1e30))  # not finite draws forbid a verdict
    require_fields("small", _problem(weight=1e-300))  # next to others it does not matter


@pytest.mark.parametrize("name", sorted(registered()))
def test_every_default_grid_can_be_simulated_as_far_as_its_axes_say(name):
    claim = registered()[name]
    for axis in claim.axes:
        sizes = np.abs(axis.grid(axis.default))
        assert np.all((sizes == 0) | ((sizes > 1e-38) & (sizes < 1e18)))


def test_the_largest_and_smallest_that_are_allowed_pass():
    plan = make_plan(CLAIM, {"radius": (0, 1.2e-38, 1e18), "mean": (2.0,)})
    require_simulable(CLAIM, plan.points)


GRIDS = [
    ("radius=0:1:1000000000", "count = 1000000000: of values, must lie in \\[1, 10000000\\]"),
    ("radius=0:1:0", "count = 0: of values"),
    ("radius=0:1:-3", "count = -3: of values"),
    ("radius=0:1:" + "9" * 5000, "grid = 'radius=0:1:9999.*must look like"),
    ("radius=0:1:2.5", "must look like"),
    ("radius=1:0:5", "low = 1: must be at most high = 0"),
    ("radius=nan:1:3", "must look like"),
    ("radius=0:inf:3", "must look like"),
    ("radius=nan", "must look like"),
    ("radius=1e999", "must look like"),
    ("radius=\u0663", "must look like"),
    ("radius=0:1:\u0663", "must look like"),
    ("radius=", "must look like"),
    ("radius", "must look like"),
    ("", "must look like"),
    ("radius=0:1", "must look like"),
    ("radius=8/0", "must look like"),
]


@pytest.mark.parametrize(("text", "message"), GRIDS)
def test_words_that_are_no_grid_are_refused_at_once(text, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        parse_grid(text)
    assert len(str(caught.value)) < 250


def test_grids_take_the_numbers_of_all_commands():
    assert parse_grid("radius=8/255,1e-3,.5") == ("radius", (8 / 255, 1e-3, 0.5))
    assert parse_grid("radius=0:8/255:3") == ("radius", (0.0, 4 / 255, 8 / 255))
    assert parse_grid("radius=0:1:1e1")[1] == tuple(np.linspace(0, 1, 10).tolist())
    assert parse_grid("radius=2:2:1") == ("radius", (2.0,))


def test_a_product_of_axes_that_no_file_holds_is_refused():
    grid = {"radius": np.arange(4000) / 1000, "mean": np.arange(1, 2602) / 1000}
    with pytest.raises(InvalidInput, match="grid: has 10404000 points; must have at most 10000000"):
        make_plan(CLAIM, grid)


@pytest.mark.parametrize("value", [None, 1.5, "3", True, np.nan, [1], 1j])
@pytest.mark.parametrize("name", ["trials", "seed", "chunk"])
def test_whole_numbers_are_whole(name, value):
    with pytest.raises(InvalidInput, match=f"{name} = .*: must be a whole number"):
        make_plan(CLAIM, **{name: value})
    with pytest.raises(InvalidInput, match="seed = "):
        require_seed(value)


@pytest.mark.parametrize(
    ("relation", "words"),
    [("==", "closed form of the"), (">=", "lower bound of the"), ("<=", "upper bound of the")],
)
def test_a_result_file_says_whether_theory_is_a_bound(relation, words):
    plan = make_plan(dataclasses.replace(CLAIM, relation=relation), {"radius": (0.5,)})
    assert sweep_file.empty(plan)["theory"].attrs["long_name"] == f"{words} class-wise risk"
