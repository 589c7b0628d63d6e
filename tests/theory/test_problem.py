"""The nouns: what they convert, what they refuse, and how they travel through transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.domain import Interval, InvalidInput, require_known
from theory.problem import (
    EllipticalStableMixture,
    GaussianMixture,
    L1Ball,
    L2Ball,
    LinearClassifier,
    LinfBall,
    LpBall,
    StableMixture,
    imbalance_ratio,
    prior_of_ratio,
)

MEANS = [[-1.0, 0.0], [1.0, 0.0]]
ONES = [1.0, 1.0]
PAIR = np.stack([np.eye(2), 2 * np.eye(2)])

BAD = [
    (
        lambda: StableMixture(MEANS, ONES, 0.5, 0.0),
        "alpha = 0: the stability index must lie in [0.1, 2]",
    ),
    (lambda: StableMixture(MEANS, ONES, 0.5, 2.5), "alpha = 2.5: the stability index must lie in"),
    (lambda: StableMixture(MEANS, ONES, 0.5, np.nan), "alpha = nan"),
    (
        lambda: StableMixture(MEANS, ONES, 0.5, 0.05),
        "alpha = 0.05: the stability index must lie in [0.1, 2]",
    ),
    (
        lambda: EllipticalStableMixture(MEANS, ONES, 0.5, [1.5, 0.0999]),
        "alpha = 0.0999: the stability index must lie in [0.1, 2]",
    ),
    (
        lambda: GaussianMixture(MEANS, ONES, 0.5, PAIR),
        "covariance.shape = (2, 2, 2): must be (d, d), shared by both classes; one for each is for "
        "theory.rules.class_covariance.class_covariance_classifier",
    ),
    (
        lambda: EllipticalStableMixture(MEANS, ONES, 0.5, 1.5, PAIR),
        "dispersion.shape = (2, 2, 2): must be (d, d), shared by both classes",
    ),
    (
        lambda: GaussianMixture(np.array(MEANS, np.float16), ONES, 0.5),
        "means.dtype = float16: must be float32 or float64",
    ),
    (
        lambda: LinearClassifier(jnp.ones(2, jnp.bfloat16), 0),
        "weight.dtype = bfloat16: must be float32 or float64",
    ),
    (
        lambda: GaussianMixture(np.array(MEANS, complex), ONES, 0.5),
        "means.dtype = complex128: must be an array of real numbers",
    ),
    (lambda: L2Ball(np.complex64(1)), "radius.dtype = complex64: must be an array of real numbers"),
    (lambda: L2Ball(-0.1), "radius = -0.1: the perturbation radius must lie in [0, inf)"),
    (lambda: LinfBall(np.inf), "radius = inf"),
    (lambda: L1Ball("far"), "radius = 'far': must be an array of real numbers"),
    (lambda: LpBall(1.0, 0.5), "p = 0.5: the order of the norm must lie in [1, inf]"),
    (
        lambda: GaussianMixture(MEANS, [1.0, -2.0], 0.5),
        "scales = -2: every class scale must lie in",
    ),
    (lambda: GaussianMixture(MEANS, ONES, 1.0), "prior = 1: the class prior P(y = +1) must lie in"),
    (lambda: GaussianMixture(MEANS, ONES, 0.0), "prior = 0: the class prior"),
    (lambda: GaussianMixture([1.0, 2.0], ONES, 0.5), "means.shape = (2,): must be (..., 2, d)"),
    (lambda: GaussianMixture(MEANS, [1.0, 1.0, 1.0], 0.5), "scales.shape = (3,): must be (..., 2)"),
    (lambda: GaussianMixture([[np.nan, 0], [1, 0]], ONES, 0.5), "means = nan: every class mean"),
    (lambda: GaussianMixture(MEANS, ONES, 0.5, np.eye(3)), "covariance.shape = (3, 3): must be"),
    (lambda: GaussianMixture(MEANS, ONES, 0.5, [[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
    (lambda: GaussianMixture(MEANS, ONES, 0.5, [[1.0, 0.5], [0.0, 1.0]]), "must be symmetric"),
    (lambda: LinearClassifier([1.0, np.inf], 0.0), "weight = inf: every weight (finite)"),
    (lambda: LinearClassifier(1.0, 0.0), "weight.shape = (): must be (..., d)"),
    (lambda: Interval.parse("[2, 1]"), "interval = '[2, 1]': the lower end must be below"),
    (lambda: Interval.parse("0..1"), "interval = '0..1': must look like"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_input_is_one_line_that_names_argument_value_and_domain(make, message):
    with pytest.raises(InvalidInput) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("means", "scales", "prior"),
    [
        (np.stack([MEANS, MEANS]), ONES, 0.5),
        (MEANS, [ONES, ONES], 0.5),
        (MEANS, ONES, [0.5, 0.2]),
    ],
)
def test_two_covariances_of_two_problems_are_a_batch(means, scales, prior):
    assert GaussianMixture(means, scales, prior, PAIR).covariance.shape == (2, 2, 2)
    one = jax.vmap(lambda matrix: GaussianMixture(MEANS, ONES, 0.5, matrix).covariance)(
        jnp.asarray(PAIR)
    )
    assert one.shape == (2, 2, 2)
    three = np.stack([np.eye(2)] * 3)
    assert GaussianMixture(MEANS, ONES, 0.5, three).covariance.shape == (3, 2, 2)


def test_unknown_names_list_the_nearest():
    with pytest.raises(InvalidInput, match="did you mean radius"):
        require_known("axis", "raduis", ["radius", "alpha"])
    with pytest.raises(InvalidInput, match="known: alpha, radius"):
        require_known("axis", "zzz", ["radius", "alpha"])
    many = [f"claim-{letter}" for letter in "abcdefghijklmnop"]
    with pytest.raises(InvalidInput, match=r"nearest of 16: (claim-\w, ){4}claim-\w; x lists all$"):
        require_known("claim", "zzz", many, "x")


def test_constructors_convert_to_one_floating_dtype():
    mixture = GaussianMixture(np.array(MEANS, np.float32), [1, 2], 0.5)
    assert {leaf.dtype for leaf in jax.tree.leaves(mixture)} == {jnp.dtype("float32")}
    assert GaussianMixture([[-1, 0], [1, 0]], [1, 1], 0.5).means.dtype == jnp.float64


@pytest.mark.parametrize(
    "noun",
    [
        GaussianMixture(MEANS, ONES, 0.5),
        GaussianMixture(MEANS, ONES, 0.5, np.eye(2)),
        StableMixture(MEANS, ONES, 0.5, 1.5),
        LinearClassifier([1.0, 2.0], 0.0),
        LpBall(1.0, 3.0),
    ],
)
def test_nouns_are_pytrees_whose_rebuilding_checks_nothing(noun):
    leaves, treedef = jax.tree.flatten(noun)
    again = jax.tree.unflatten(treedef, leaves)
    assert type(again) is type(noun)
    assert all(bool(jnp.all(a == b)) for a, b in zip(leaves, jax.tree.leaves(again), strict=True))
    # None of these stand-ins is a valid field; transforms make such trees all the time.
    assert jax.tree.unflatten(treedef, ["not an array"] * len(leaves))
    shapes = jax.tree.map(jnp.shape, noun)
    assert jax.tree.structure(shapes, is_leaf=lambda x: type(x) is tuple) == treedef


def test_static_norm_order_is_part_of_the_type_and_the_radius_is_traced():
    out = jax.jit(lambda ball: LpBall(ball.radius * 2, ball.p))(LpBall(1.5, 3.0))
    assert out.p == 3.0
    assert float(out.radius) == 3.0


def test_inside_jit_shapes_are_checked_and_values_are_not():
    assert jax.jit(lambda r: L2Ball(r).radius)(-1.0) == -1.0
    with pytest.raises(InvalidInput, match=r"scales.shape = \(3,\)"):
        jax.jit(lambda s: GaussianMixture(MEANS, s, 0.5).prior)(jnp.ones(3))


@pytest.mark.parametrize("prior", [0.01, 0.2, 0.5, 0.99])
def test_prior_and_imbalance_ratio_are_inverse(prior):
    assert abs(prior_of_ratio(imbalance_ratio(prior)) - prior) < 1e-15
