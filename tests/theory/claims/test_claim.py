"""Claims and their registry; and every registered claim against simulation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sims.sweep.run import sweep
from sims.sweep.verdict import summarise
from support.small import CLAIM
from theory.claims import evaluate
from theory.claims.claim import CLASS_RISKS, Axis
from theory.claims.evaluate import row_by_row
from theory.claims.registry import bibtex, collect, find, registered
from theory.domain import NON_NEGATIVE, Interval, InvalidInput

NAMES = sorted(registered())
# The family of all claims' intervals misses any risk with probability at most this.
FALSE_ALARM = 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_simulation_does_not_contradict_the_claim(name):
    """An equality that is off by 0.03 at any point, or by 0.015 at the sharpest, would be seen;
    for squared risks, by 0.08 and 0.04 of the largest one."""
    dataset = sweep(find(name), trials=40_000, seed=2, level=FALSE_ALARM / len(NAMES))
    summary, unit = summarise(dataset), 1.0
    assert summary.agrees, summary.text
    if "losses" in dataset:
        largest = np.abs(dataset["weights"]) * (dataset["losses"] / dataset["trials"])
        unit = 8 / 3 * float(largest.sum("label").max())
    assert summary.sharpest < 0.015 * unit
    if summary.relation == "==":
        assert summary.bluntest < 0.03 * unit


@pytest.mark.slow
def test_the_failing_region_of_a_published_form_is_shown_to_fail():
    refuted = [
        summarise(sweep(claim, trials=40_000, seed=2, level=FALSE_ALARM)).refuted
        for claim in registered().values()
        if claim.fails
    ]
    assert refuted
    assert all(refuted)


def test_every_relation_is_exercised():
    assert {claim.relation for claim in registered().values()} == {"==", "<=", ">="}


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_is_documented_and_its_source_is_in_the_bibliography(name):
    claim = find(name)
    assert name == name.lower().replace(" ", "-")
    assert claim.statement.endswith(".")
    entry = bibtex(claim.source.key)
    assert entry.startswith("@")
    assert entry.endswith("}")
    assert entry.count("{") == entry.count("}")
    for axis in claim.axes:
        assert axis.meaning
        assert axis.domain.contains(np.array(axis.default)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_theory_is_finite_in_range_and_alike_in_float32(name):
    claim = find(name)
    grids = np.meshgrid(*(axis.grid(axis.default) for axis in claim.axes))
    points = {a.name: g.ravel() for a, g in zip(claim.axes, grids, strict=True)}
    values = evaluate.closed_form(claim, points)
    within = Interval.parse(claim.estimand.range.replace("∞", "inf").replace("−", "-"))
    assert values.dtype == np.float64
    assert within.contains(values).all()
    rows = {name: jnp.asarray(column, jnp.float32) for name, column in points.items()}
    single = row_by_row(lambda row: jnp.stack(claim.predict(**row)), rows)
    assert single.dtype == np.float32
    # The problem mixes no types either. Tracing shows it; compiling it again would take long.
    jax.eval_shape(claim.problem, **{name: rows[name][0] for name in rows})
    # Rounding a parameter moves a risk by at most its slope times the rounding.
    np.testing.assert_allclose(single, values, rtol=2e-5, atol=2e-5)


def test_unknown_names_list_the_nearest():
    with pytest.raises(InvalidInput, match="did you mean gaussian-robust-risk-l2"):
        find("gausian-robust-risk-l2")
    with pytest.raises(InvalidInput, match="did you mean radius"):
        CLAIM.axis("raduis")
    with pytest.raises(InvalidInput, match="did you mean hu2023accuracydisparity"):
        bibtex("hu2023")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-1.0,), "radius = -1: perturbation radius must lie in"),
        ((np.nan,), "radius = nan"),
        ((), "needs at least one value"),
        ((0.5, 0.5), "holds a value twice"),
    ],
)
def test_bad_grids_are_refused(values, message):
    with pytest.raises(InvalidInput, match=message):
        Axis("radius", "perturbation radius", (0.0,), NON_NEGATIVE).grid(values)


def test_a_name_is_taken_once():
    taken = dataclasses.replace(CLAIM, name=NAMES[0])
    with pytest.raises(InvalidInput, match="the name is taken"):
        collect([*registered().values(), taken])


@pytest.mark.slow
def test_class_weights_of_estimands():
    assert np.array_equal(CLASS_RISKS.weights(0.3), np.eye(2))
