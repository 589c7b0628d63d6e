"""Synthetic Waterbirds: what the images are, and that rules on them follow the closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sims.stats.interval import clopper_pearson
from sims.waterbirds import images as waterbirds
from sims.waterbirds.images import (
    GROUPS,
    WATERBIRDS,
    add_noise,
    draw_groups,
    draw_images,
    make_scene,
)
from sims.waterbirds.rules import BLOCK, is_right, paired_errors, rule_at
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinfBall
from theory.spurious.report import group_report
from theory.spurious.risk import (
    NoiseAccuracies,
    SpuriousAttribute,
    attribute_risk,
    group_accuracies,
    noise_accuracies,
    relative_foreground_sensitivity,
    spurious_angle,
)

SCENE = make_scene(1.5, 1.2, 0.9)
MOVING = make_scene(1.5, 1.2, 0.9, moving=True)
AGREEMENT = 0.8
MODEL = SpuriousAttribute(1.5, 1.2, 0.9, AGREEMENT, *SCENE.pixels)
BALLS = {"l1": L1Ball(3.0), "l2": L2Ball(0.8), "linf": LinfBall(0.05)}
KEY = jax.random.key(11)
DRAW = jax.jit(draw_images, static_argnames=("scene", "count", "agreement", "dtype"))
RIGHT = jax.jit(is_right)
NOISY = jax.jit(add_noise, static_argnames=("where", "rescaled"))
IN_GROUPS = jax.jit(draw_groups, static_argnames=("scene", "sizes", "dtype"))
FALSE_ALARM = 1e-6
COUNT = 50_000


def _single(threat):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), threat)


def _clean(scene, images):
    """The images without noise, from the flat templates of norm one."""
    disc, rest = scene.pixels
    y, a = (np.asarray(v, float)[:, None, None] for v in (images.labels, images.attributes))
    return np.where(
        np.asarray(images.foreground),
        y * scene.core / np.sqrt(disc),
        a * scene.spurious / np.sqrt(rest),
    )


@pytest.mark.parametrize("scene", [SCENE, MOVING], ids=["centred", "moving"])
def test_images_are_two_templates_and_independent_noise(scene):
    """Mean and variance of a million pixels, false alarm 1e-6; an error of 1 % would be seen."""
    images = DRAW(KEY, scene, 4096, AGREEMENT)
    residual = (np.asarray(images.images, float) - _clean(scene, images)) / scene.noise
    size = residual.size
    assert abs(residual.sum()) <= stats.norm.isf(FALSE_ALARM / 4) * np.sqrt(size)
    low, high = stats.chi2.ppf([FALSE_ALARM / 4, 1 - FALSE_ALARM / 4], size)
    assert low <= (residual**2).sum() <= high
    assert high - low < 0.02 * size
    # Neighbouring pixels: the sum of products of n independent pairs has variance n.
    pairs = np.sum(residual[:, :, ::2] * residual[:, :, 1::2])
    assert abs(pairs) <= 6 * np.sqrt(size / 2)
    assert np.asarray(images.foreground).sum((1, 2)).tolist() == [scene.pixels[0]] * 4096


def test_labels_and_attributes_agree_as_often_as_said():
    """Three exact intervals; an agreement that is off by 0.05 would be seen."""
    images = DRAW(KEY, SCENE, COUNT, AGREEMENT)
    y, a = np.asarray(images.labels), np.asarray(images.attributes)
    assert set(y) == set(a) == {-1, 1}
    for count, probability in (
        ((y == 1).sum(), 0.5),
        ((y == a).sum(), 0.9),
        (((y == a) & (y == 1)).sum(), 0.45),
    ):
        low, high = clopper_pearson(count, COUNT, FALSE_ALARM / 3)
        assert low <= probability <= high
        assert high - low < 0.025
    sure = DRAW(KEY, SCENE, 1000, 1.0)
    assert np.array_equal(sure.labels, sure.attributes)


def test_a_moving_disc_is_anywhere_inside_the_frame_and_uniform():
    images = DRAW(KEY, MOVING, COUNT, AGREEMENT)
    masks = np.asarray(images.foreground)
    places = np.stack([masks.any(2).argmax(1), masks.any(1).argmax(1)], -1)
    assert masks.any(2).sum(1).tolist() == masks.any(1).sum(1).tolist() == [8] * COUNT
    counts = np.bincount(places @ [9, 1], minlength=81)
    low, high = clopper_pearson(counts, COUNT, FALSE_ALARM / 81)
    assert len(counts) == 81
    assert ((low <= 1 / 81) & (high >= 1 / 81)).all()
    assert (high - low).max() < 1 / 81 / 2  # half of the probability of a place would be seen


def test_groups_have_the_sizes_asked_for():
    images = IN_GROUPS(KEY, SCENE, WATERBIRDS)
    pairs = np.stack([images.labels, images.attributes], -1)
    assert [int((pairs == g).all(1).sum()) for g in np.array(GROUPS)] == list(WATERBIRDS)
    assert len(pairs) == 4795
    large = IN_GROUPS(KEY, make_scene(1.0, 1.0, 1.0, size=32), (0, 2, 0, 1))
    assert large.attributes.tolist() == [1, 1, 1]
    assert large.labels.tolist() == [-1, -1, 1]
    assert large.images.shape == (3, 32, 32)


def test_draws_depend_on_the_key_and_the_place_alone():
    many, few = DRAW(KEY, MOVING, 600, AGREEMENT), DRAW(KEY, MOVING, 17, AGREEMENT)
    assert all(np.array_equal(m[:17], f) for m, f in zip(many, few, strict=True))
    other = DRAW(jax.random.key(12), MOVING, 17, AGREEMENT)
    assert not np.allclose(other.images, few.images)
    double = DRAW(KEY, MOVING, 17, AGREEMENT, dtype=jnp.float64)
    assert np.array_equal(double.labels, few.labels)
    assert double.images.dtype == jnp.float64


@pytest.mark.parametrize("name", [None, *BALLS])
def test_group_accuracies_are_the_closed_form(name):
    """Sixteen exact intervals in all; an error of 0.05 in any group would be seen."""
    threat = None if name is None else BALLS[name]
    images = DRAW(KEY, SCENE, COUNT, AGREEMENT)
    for angle in (0.3, 0.9):
        weight = rule_at(SCENE, jnp.float32(angle))
        right = RIGHT(images, weight, _single(threat) if threat else None)
        report = group_report(right, images.labels, images.attributes)
        exact = group_accuracies(MODEL, angle, threat)
        wrong, missed = group_accuracies(MODEL, angle + 0.1, threat), 0
        for sign, attribute in ((1, "aligned"), (-1, "conflicting")):
            chosen = np.asarray(images.labels * images.attributes) == sign
            hits, size = int(np.asarray(right)[chosen].sum()), int(chosen.sum())
            low, high = clopper_pearson(hits, size, FALSE_ALARM / 16)
            assert low <= float(getattr(exact, attribute)) <= high
            missed += low <= float(getattr(wrong, attribute)) <= high
            assert high - low < 0.1
            assert float(getattr(report, attribute)) == pytest.approx(hits / size, abs=1e-12)
        assert missed < 2


@pytest.mark.slow
@pytest.mark.parametrize("name", BALLS)
def test_the_fitted_angle_is_the_closed_form(name):
    """Empirical robust risks of 26 angles on the same 262144 images, each attacked explicitly.

    With chance 1e-6 at most over the three norms, an exact interval misses a difference of risks,
    or an exact sign test calls an angle worse than the best one that is not.
    """
    threat, blocks = BALLS[name], 256
    best = float(spurious_angle(MODEL, threat))
    grid = np.linspace(0, np.pi / 2, 25)
    angles = np.concatenate([[best], grid])
    run = jax.jit(paired_errors, static_argnames=("scene", "agreement", "blocks"))
    counts = run(
        KEY, SCENE, AGREEMENT, jnp.asarray(angles, jnp.float32), _single(threat), blocks=blocks
    )
    errors, more, less = (np.asarray(count, np.int64) for count in counts)
    each = FALSE_ALARM / (3 * 26 * 4)
    (low_b, high_b), (low_c, high_c) = (
        clopper_pearson(count, blocks * BLOCK, each) for count in (more, less)
    )
    risks = np.asarray(attribute_risk(MODEL, jnp.asarray(angles), threat))
    assert (low_b - high_c <= risks - risks[0]).all()
    assert (risks - risks[0] <= high_b - low_c).all()
    worse = stats.binom.sf(more - 1, more + less, 0.5) < each
    better = stats.binom.sf(less - 1, more + less, 0.5) < each
    assert not better.any()
    # Every angle a quarter off is shown to be worse, so the fit is nearer than that.
    assert worse[np.abs(angles - best) > 0.25].all()
    assert abs(angles[np.argmin(errors)] - best) <= 0.25
    natural, other = (float(spurious_angle(MODEL, b)) for b in (L2Ball(0.0), LinfBall(0.08)))
    for wrong in (natural, other) if name == "linf" else (other,):
        nearest = 1 + np.argmin(np.abs(grid - wrong))
        assert worse[nearest]


@pytest.mark.parametrize("extra", [0.6, 2.0])
def test_noise_sensitivity_is_the_closed_form(extra):
    """Eight exact intervals in all; an error of 0.12 in the sensitivity would be seen."""
    images = DRAW(KEY, SCENE, COUNT, AGREEMENT)
    found = [
        NOISY(jax.random.key(k), images, jnp.float32(extra), where=where)
        for k, where in enumerate(("foreground", "background"))
    ]
    for angle in (0.3, 1.2):
        weight = rule_at(SCENE, jnp.float32(angle))
        bounds = [
            clopper_pearson(int(RIGHT(f, weight).sum()), COUNT, FALSE_ALARM / 8) for f in found
        ]
        exact = noise_accuracies(MODEL, angle, extra)
        for accuracy, (low, high) in zip(exact, bounds, strict=True):
            assert low <= float(accuracy) <= high
        front, back = bounds
        low, high = (
            float(relative_foreground_sensitivity(NoiseAccuracies(jnp.asarray(f), jnp.asarray(b))))
            for f, b in ((front.high, back.low), (front.low, back.high))
        )
        assert low <= float(relative_foreground_sensitivity(exact)) <= high
        assert high - low < 0.24
        swapped = relative_foreground_sensitivity(NoiseAccuracies(*exact[::-1]))
        assert not low <= float(swapped) <= high


def test_noise_falls_on_its_pixels_alone_and_may_have_a_given_norm():
    images = DRAW(KEY, MOVING, 17, AGREEMENT)
    for where, mask in (("foreground", images.foreground), ("background", ~images.foreground)):
        moved = NOISY(KEY, images, 2.5, where=where, rescaled=True).images - images.images
        assert not np.asarray(moved)[~np.asarray(mask)].any()
        norms = np.linalg.norm(np.asarray(moved, float).reshape(17, -1), axis=1)
        np.testing.assert_allclose(norms, 2.5, rtol=1e-5)
    empty = images._replace(foreground=jnp.zeros_like(images.foreground))
    kept = NOISY(KEY, empty, 2.5, where="foreground", rescaled=True)
    assert np.array_equal(kept.images, images.images)


def test_clipping_is_reported():
    images = DRAW(KEY, SCENE, 4096, AGREEMENT).images
    mapped, share = waterbirds.to_unit_interval(images, 1.0)
    assert float(mapped.min()) == 0
    assert float(mapped.max()) == 1
    assert float(share) == pytest.approx(np.mean(np.abs(np.asarray(images)) > 1), abs=1e-6)
    assert 0.1 < float(share) < 0.5
    assert float(waterbirds.to_unit_interval(images, 100.0)[1]) == 0


def test_a_score_of_zero_is_wrong():
    images = DRAW(KEY, MOVING, 17, AGREEMENT)
    assert not is_right(images, jnp.zeros((16, 16), jnp.float32)).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_scene(0.0, 1.0, 1.0), "core = 0.0: must be a positive number"),
        (lambda: make_scene(1.0, np.nan, 1.0), "spurious = nan"),
        (lambda: make_scene(1.0, 1.0, np.inf), "noise = inf"),
        (lambda: make_scene(1.0, 1.0, 1.0, size=20), r"size = 20: must be one of \(16, 32\)"),
        (lambda: make_scene(1.0, 1.0, 1.0, radius=8), r"radius = 8: must be in \[1, 7\] pixels"),
        (lambda: draw_images(KEY, SCENE, 0, 0.5), "count = 0: must be a whole number"),
        (lambda: draw_images(KEY, SCENE, 2.0, 0.5), "count = 2.0"),
        (lambda: draw_images(KEY, SCENE, 3, 1.2), r"agreement = 1.2: must be in \[0, 1\]"),
        (lambda: draw_groups(KEY, SCENE, (1, 2, 3)), r"sizes = \(1, 2, 3\): must be four counts"),
        (lambda: draw_groups(KEY, SCENE, (0, 0, 0, 0)), "not all zero"),
        (lambda: draw_groups(KEY, SCENE, (1, -1, 1, 1)), "four counts >= 0"),
        (lambda: waterbirds.to_unit_interval(jnp.zeros(3), 0.0), "reach = 0.0"),
        (
            lambda: add_noise(KEY, None, -1.0, where="foreground"),
            "level = -1.0: must be a number, at least 0",
        ),
        (
            lambda: add_noise(KEY, None, 1.0, where="sky"),
            "where = 'sky': must be 'foreground' or 'background'",
        ),
        (
            lambda: paired_errors(KEY, SCENE, 0.5, jnp.zeros(1), None, 0),
            r"blocks = 0: must be in \[1, 2\^20\]",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
