"""Reports on groups and reliance against plain counts, hand-made cases and refitted lines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.domain import InvalidInput
from theory.spurious.report import (
    background_gap,
    effective_robustness,
    group_report,
    weight_reliance,
)
from theory.spurious.risk import SpuriousAttribute, group_accuracies

PAIRS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]


def _plain(right, y, a):
    """The report by loops over the images, with None for a group without any."""
    rows = list(zip(right, y, a, strict=True))

    def mean(values):
        values = [v for v in values if v is not None]
        return sum(values) / len(values) if values else None

    groups = [mean([r for r, *pair in rows if tuple(pair) == g]) for g in PAIRS]
    present = {g: v for g, v in zip(PAIRS, groups, strict=True) if v is not None}
    aligned, conflicting = (
        mean([r for r, yy, aa in rows if (yy == aa) == same]) for same in (True, False)
    )
    return {
        "groups": groups,
        "worst": min(present.values()),
        "worst_group": min(present, key=present.get),
        "average": mean(list(right)),
        "balanced": mean(groups),
        "aligned": aligned,
        "conflicting": conflicting,
        "balanced_sides": (mean([groups[0], groups[3]]), mean([groups[1], groups[2]])),
    }


@pytest.mark.slow
@pytest.mark.parametrize("absent", [None, (1, -1), (-1, 1)])
def test_a_report_is_what_loops_count(absent):
    rng = np.random.default_rng(3)
    y, a = rng.choice([-1, 1], (2, 90))
    if absent:
        a[(y == absent[0]) & (a == absent[1])] *= -1
    right = rng.random((4, 90)) < 0.7
    reports = group_report(right, y, a)
    for k in range(4):
        found, plain = jax.tree.map(lambda leaf, k=k: leaf[k], reports), _plain(right[k], y, a)
        groups = [np.nan if v is None else v for v in plain["groups"]]
        np.testing.assert_allclose(found.accuracies.ravel(), groups, rtol=1e-14)
        assert tuple(found.worst_group.tolist()) == plain["worst_group"]
        for name in ("worst", "average", "balanced", "aligned", "conflicting"):
            assert float(getattr(found, name)) == pytest.approx(plain[name], rel=1e-14)
        same, other = plain["balanced_sides"]
        assert float(found.gap_balanced) == pytest.approx(same - other, rel=1e-13)
        gap = plain["aligned"] - plain["conflicting"]
        assert float(found.gap_pooled) == pytest.approx(gap, rel=1e-13)
        assert found.counts.ravel().tolist() == [((y == p) & (a == q)).sum() for p, q in PAIRS]


def test_pooled_and_balanced_gaps_differ_where_groups_do():
    """Waterbirds' group sizes: three of four rare images wrong hardly move the average."""
    sizes, hits = (3498, 184, 56, 1057), (3498, 184, 14, 1057)
    y, a = np.repeat(PAIRS, sizes, 0).T
    right = np.concatenate([np.arange(n) < h for n, h in zip(sizes, hits, strict=True)])
    found = group_report(right, y, a)
    assert found.worst_group.tolist() == [1, -1]
    assert float(found.worst) == 0.25
    assert float(found.average) == pytest.approx(4753 / 4795, rel=1e-14)
    assert float(found.gap_pooled) == pytest.approx(1 - 198 / 240, rel=1e-13)
    assert float(found.gap_balanced) == pytest.approx(1 - 1.25 / 2, rel=1e-13)


def test_a_side_without_images_has_no_gap():
    found = group_report([1.0, 0.5], [1, -1], [1, -1])
    assert float(found.aligned) == 0.75
    assert np.isnan([found.conflicting, found.gap_pooled, found.gap_balanced]).all()
    assert float(found.balanced) == 0.75


@pytest.mark.slow
def test_probabilities_of_a_closed_form_may_be_reported():
    model = SpuriousAttribute(1.5, 1.2, 0.9, 0.8)
    exact = group_accuracies(model, 0.7)
    values = jnp.stack([exact.aligned, exact.conflicting, exact.conflicting, exact.aligned])
    found = jax.jit(group_report)(values, *(jnp.asarray(side) for side in np.array(PAIRS).T))
    assert float(found.gap_balanced) == pytest.approx(float(exact.aligned - exact.conflicting))
    single = group_report(np.float32([1, 0]), [1, 1], [1, -1])
    assert single.average.dtype == jnp.float32


@pytest.mark.slow
def test_reliance_is_the_ratio_of_norms_at_every_scale():
    rng = np.random.default_rng(0)
    w, core = rng.normal(size=(5, 7)), np.arange(7) < 3
    for scale in (1.0, 1e-200, 1e200):
        found = weight_reliance(w * scale, core)
        share = np.abs(w[:, ~core]).sum(1) / np.abs(w).sum(1)
        ratio = np.linalg.norm(w[:, ~core], axis=1) / np.linalg.norm(w[:, core], axis=1)
        np.testing.assert_allclose(found.share, share, rtol=1e-13)
        np.testing.assert_allclose(found.ratio, ratio, rtol=1e-13)
    ends = weight_reliance([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]], [True, False])
    np.testing.assert_array_equal(ends.share, [1, 0, np.nan])
    np.testing.assert_array_equal(ends.ratio, [np.inf, 0, np.nan])
    slopes = jax.jacobian(lambda w: weight_reliance(w, jnp.asarray([True, False])))
    for point in ([1.0, 0.0], [0.0, 0.0], [0.3, 0.4]):
        assert all(np.isfinite(g).all() for g in slopes(jnp.asarray(point)))


@pytest.mark.slow
def test_effective_robustness_is_the_residual_of_a_refitted_line():
    rng = np.random.default_rng(1)
    x, y = np.sort(rng.uniform(0.4, 0.95, (2, 9)))
    slope, offset = np.polyfit(np.log(x / (1 - x)), np.log(y / (1 - y)), 1)
    clean, shifted = np.array([0.5, 0.7, 0.9]), np.array([0.6, 0.5, 0.8])
    expected = 1 / (1 + np.exp(-(slope * np.log(clean / (1 - clean)) + offset)))
    found = effective_robustness(clean, shifted, x, y)
    np.testing.assert_allclose(found, shifted - expected, rtol=1e-11)
    for references in ([], [0.7], [0.7, 0.7]):
        one = effective_robustness(0.8, 0.7, np.array(references), np.array(references))
        assert np.isnan(one)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_report([1.5], [1], [1]), r"correct = 1.5: what is right must lie in \[0, 1"),
        (lambda: group_report([1.0], [0], [1]), "labels: must be -1 or \\+1 everywhere"),
        (lambda: group_report([1.0], [1], [2]), "attributes: must be -1 or \\+1"),
        (lambda: group_report([1.0, 0.0], [1], [1, 1]), r"labels.shape = \(1,\): must be \(2,\)"),
        (lambda: group_report(np.zeros(0), [], []), "correct.shape"),
        (lambda: weight_reliance([1.0, 2.0], [True]), r"core.shape = \(1,\)"),
        (lambda: background_gap(1.2, 0.3), "same_class = 1.2"),
        (lambda: effective_robustness(0.5, -0.1, [0.5, 0.6], [0.5, 0.6]), "shifted = -0.1"),
        (
            lambda: effective_robustness(0.5, 0.1, [0.5, 0.6], [0.5]),
            "reference_shifted.shape",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
