"""Claims on three and four classes by roads that share no code with them, and their pictures."""

import itertools

import numpy as np
import pytest
import xarray as xr
from scipy import integrate, optimize

from figures.papers.lee2024.classes import class_variance, near_share
from figures.papers.moayeri2022.classification import angles_left
from sims.stats.interval import clopper_pearson
from sims.sweep import file as sweep_file
from sims.sweep import verdict
from sims.sweep.plan import make_plan
from sims.sweep.run import sweep
from support.oracles import normal
from theory.claims import evaluate
from theory.claims.lee2024.classes import HUB, NEAR
from theory.claims.registry import find

Q = normal.sf


def _grid(**axes):
    values = np.array(list(itertools.product(*axes.values())))
    return dict(zip(axes, values.T, strict=True))


def _middle_error(radius, far):
    return 1 - max(normal.cdf(NEAR / 2 - radius) - normal.cdf(radius - far / 2), 0)


@pytest.mark.slow
def test_line_claims_are_tails_of_one_coordinate():
    points = _grid(radius=(0.0, 0.7, 1.6, 2.4), far_distance=(3.0, 4.0, 6.0))
    errors = find("line-class-errors")
    expected = [
        [Q(far / 2 - r), _middle_error(r, far), Q(NEAR / 2 - r)]
        for r, far in zip(*points.values(), strict=True)
    ]
    np.testing.assert_allclose(evaluate.closed_form(errors, points), expected, rtol=1e-12)
    # What is simulated lies in four dimensions and goes through the bivariate normal.
    np.testing.assert_allclose(evaluate.simulated(errors, points), expected, rtol=1e-11)
    reached = evaluate.simulated(find("nearest-class-is-most-reachable"), points)[:, 0]
    np.testing.assert_allclose(reached, [e[0] for e in expected], rtol=1e-12)


def test_the_gap_peaks_where_the_middle_class_vanishes_and_the_claim_fails_past_it():
    claim = find("radius-raises-class-gap")
    for far in (4.0, 6.0):
        radius = np.linspace(0.4, 4.003, 361)
        points = {"radius": radius, "far_distance": np.full(361, far)}
        gap = evaluate.simulated(claim, points)[:, 0]
        assert radius[gap.argmax()] == pytest.approx((NEAR + far) / 4, abs=0.011)
        failing = evaluate.failing(claim, points)[:, 0]
        # The gap is back at its value 0.4 before: a root of two closed forms.
        back = optimize.brentq(
            lambda r, far=far: (
                _middle_error(r, far)
                - Q(far / 2 - r)
                - _middle_error(r - 0.4, far)
                + Q(far / 2 - r + 0.4)
            ),
            (NEAR + far) / 4,
            (NEAR + far) / 4 + 0.4,
        )
        assert np.array_equal(failing, radius > back)


def test_the_variance_falls_until_the_far_error_is_half_the_near_one():
    far = np.linspace(NEAR, 8, 2001)
    errors = evaluate.closed_form(
        find("line-class-errors"), {"radius": np.full(2001, 0.6), "far_distance": far}
    )
    variance, near = errors.var(-1), Q(NEAR / 2 - 0.6)
    one, two = near, Q(far / 2 - 0.6)
    np.testing.assert_allclose(variance, 2 / 9 * (one**2 - one * two + two**2), rtol=1e-12)
    least = far[variance.argmin()]
    assert Q(least / 2 - 0.6) == pytest.approx(near / 2, rel=2e-3)
    assert 1 < variance[0] / variance.min() < 1.4
    gap = evaluate.closed_form(
        find("near-neighbour-sets-class-gap"), {"radius": np.full(2001, 0.6), "far_distance": far}
    )
    np.testing.assert_allclose(gap[:, 0], errors.max(-1) - errors.min(-1), rtol=1e-12)


def test_the_near_share_falls_with_the_radius_and_stays_above_a_half():
    radius = np.linspace(0, 6, 200)
    near, far = Q(NEAR / 2 - radius), Q(2 - radius)
    share = near / (near + far)
    assert (np.diff(share) < 0).all()
    assert (share > 0.5).all()
    claim = find("attacks-dilute-the-similar-class")
    points = {"radius": radius, "far_distance": np.full(200, 4.0)}
    # The claim's bound is the share at radius zero, put as a bound on the far class.
    np.testing.assert_allclose(
        evaluate.closed_form(claim, points)[:, 0] / near, far[0] / near[0], rtol=1e-12
    )
    assert (
        evaluate.simulated(claim, points)[1:, 0] > evaluate.closed_form(claim, points)[1:, 0]
    ).all()


def _twin_excess(closeness, radius):
    """Robust error of a twin minus the hub's, by integrating over the plane along one axis."""
    half = closeness / 2
    far = np.sqrt(1 - half**2)
    means = HUB * np.array([[0, 0], [-1, 0], [far, half], [far, -half]])
    errors = []
    for y in (2, 0):
        others = [means[j] - means[y] for j in range(4) if j != y]

        def inside(z, others=others):
            low, high = -np.inf, np.inf
            for gap in others:
                size = np.hypot(*gap)
                level = size / 2 - radius - z * gap[0] / size
                slope = gap[1] / size
                if slope == 0:
                    if level < 0:
                        return 0.0
                elif slope > 0:
                    high = min(high, level / slope)
                else:
                    low = max(low, level / slope)
            return normal.pdf(z) * max(normal.cdf(high) - normal.cdf(low), 0)

        kinks = [s * (HUB / 2 - radius) for s in (-1, 1)]
        errors.append(1 - integrate.quad(inside, -9, 9, points=kinks, limit=400, epsabs=1e-11)[0])
    return errors[0] - errors[1]


@pytest.mark.slow
def test_neither_the_average_nor_the_nearest_distance_orders_twin_and_hub():
    average, nearest = (find(f"{n}-distance-orders-errors") for n in ("average", "nearest"))
    points = _grid(closeness=(0.3, 0.8, 0.95), radius=(0.0, 0.8))
    exact = [_twin_excess(c, r) for c, r in zip(*points.values(), strict=True)]
    np.testing.assert_allclose(evaluate.simulated(average, points)[:, 0], exact, atol=1e-8)
    assert evaluate.failing(average, points)[:, 0].tolist() == [e > 0 for e in exact]
    assert evaluate.failing(nearest, points)[:, 0].tolist() == [e < 0 for e in exact]
    assert {e > 0 for e in exact} == {True, False}
    # At every closeness the twin's average distance is the larger and its nearest the smaller one.
    c = np.linspace(0.001, 0.999, 999)
    opposite = np.sqrt((1 + np.sqrt(1 - c**2 / 4)) ** 2 + c**2 / 4)
    assert ((c + 1 + opposite) / 3 > 1).all()
    assert (np.minimum(c, opposite) < 1).all()


@pytest.mark.slow
def test_labels_of_a_sweep_are_those_of_the_estimand_and_share_the_level():
    claim = find("attacks-dilute-the-similar-class")
    dataset = sweep(claim, {"radius": [0.8], "far_distance": [4.0]}, trials=20_000, level=1e-6)
    assert dataset["label"].values[3] == "middle to near"
    assert dataset["errors"].shape == (1, 1, 6)
    low, high = clopper_pearson(dataset["errors"].values[0, 0, 2], 20_000, 1e-6 / 6)
    assert dataset["low"].item() == low
    assert dataset["high"].item() == high
    assert dataset["weights"].values.ravel().tolist() == [0, 0, 1, 0, 0, 0]


def _judged(name, grid, errors, trials=10_000):
    """Counts made by hand, judged at level 1e-3."""
    claim = find(name)
    dataset = sweep_file.empty(make_plan(claim, grid, trials=trials))
    dataset["trials"][:] = trials
    dataset["errors"][:] = np.asarray(errors).reshape(dataset["errors"].shape)
    return verdict.judge(dataset, claim, 1e-3)


def test_drawn_shares_and_variances_are_those_of_the_counts():
    grid = {"radius": [0.5], "far_distance": [4.0]}
    middle, low, high = near_share(
        _judged("attacks-dilute-the-similar-class", grid, [0, 0, 1000, 3000, 0, 0])
    )
    ends = clopper_pearson(np.array([1000, 3000]), 10_000, 1e-3 / 6)
    assert middle.item() == pytest.approx(0.75, rel=1e-15)
    assert low.item() == pytest.approx(ends.low[1] / (ends.low[1] + ends.high[0]), rel=1e-12)
    assert high.item() == pytest.approx(ends.high[1] / (ends.high[1] + ends.low[0]), rel=1e-12)

    grid = {"radius": [0.3], "far_distance": [4.0]}
    for counts in ((300, 5000, 1200), (1000, 1010, 1020), (1000, 1010, 4000)):
        middle, low, high = class_variance(_judged("near-neighbour-sets-class-gap", grid, counts))
        box = clopper_pearson(np.array(counts), 10_000, 1e-3 / 3)
        sides = [np.linspace(a, b, 41) for a, b in zip(*box, strict=True)]
        every = np.stack(np.meshgrid(*sides), -1).var(-1)
        assert middle.item() == pytest.approx(np.var(np.array(counts) / 10_000), rel=1e-12)
        assert high.item() == pytest.approx(every.max(), rel=1e-12)
        assert low.item() <= every.min() <= low.item() + 2e-5


def test_angles_left_are_between_the_nearest_worse_ones():
    low = np.array([[3, 2.0, 1, 2, 3], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 1, 1, 1, 1]])
    dataset = xr.Dataset(
        {
            "low": (("radius", "angle", "component"), low[..., None]),
            "high": (("radius", "angle", "component"), low[..., None] + 0.5),
        },
        coords={"angle": [0.0, 10, 20, 50, 90], "component": ["risk"]},
    )
    assert angles_left(dataset).tolist() == [[10, 50], [0, 10], [50, 90], [0, 90]]
