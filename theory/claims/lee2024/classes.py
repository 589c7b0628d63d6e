"""Claims of Lee et al. (DAFA, ICLR 2024) on more than two classes: who is hit, and by whom.

The paper argues with distances between classes. Its theorems could not be read in full, so
`Source.result` says which result of the theory document proves the sentence; readings of the
abstract and of its published reviews are marked as such.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from theory.claims.claim import (
    Axis,
    Claim,
    Estimand,
    Failure,
    MulticlassProblem,
    Source,
    TargetedProblem,
)
from theory.claims.lee2024.two_classes import ALONG, KEY
from theory.claims.settings.two_classes import radius_axis
from theory.domain import Interval
from theory.multiclass.distances import line_accuracies
from theory.multiclass.risk import isotropic_classes, nearest_mean_scores
from theory.problem import L2Ball

NEAR, HUB = 3.0, 5.0
# By how much the radius grows from one gap to the one that it is compared with.
STEP = 0.4
LINE = ("far", "middle", "near")
PAIRS = tuple(f"{y} to {j}" for y in LINE for j in LINE if j != y)
RING = ("hub", "opposite", "twin", "other twin")
SHAPE = "Gaussian classes of unit variance, nearest-mean rule, l_2 threat"
ON_LINE = "three class means on a line, the middle one 3 sds from its near neighbour"
AROUND = "a hub 5 sds from three classes, two of them twins, the third opposite"
RADIUS = radius_axis(0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4)
FAR = Axis(
    "far_distance",
    "distance from the middle class to its far neighbour, sds",
    (4.0, 6.0),
    Interval(NEAR, np.inf, False, True),
)
CLOSENESS = Axis(
    "closeness",
    "distance between the twins over that to the hub",
    (0.2, 0.35, 0.5, 0.65, 0.8, 0.9),
    Interval(0.0, 1.0, True, True),
)


def _estimand(
    name: str,
    component: str,
    labels: tuple[str, ...],
    weights: dict[str, float],
    span: str = "[0, 1]",
) -> Estimand:
    """Returns one combination of what is counted under these labels; others have weight zero."""
    row = np.array([[weights.get(label, 0.0) for label in labels]])
    return Estimand(name, (component,), lambda _: row, span, labels)


LINE_ERRORS = Estimand("robust class error", LINE, lambda _: np.eye(3), labels=LINE)
# The middle class has both neighbours, so its error is the largest, and the far one's the smallest.
GAP = _estimand(
    "largest minus smallest robust class error", "gap", LINE, {"middle": 1.0, "far": -1.0}
)
FAR_REACH = _estimand(
    "chance that an attack reaches the far class",
    "far",
    PAIRS,
    {"middle to far": 1.0},
)
TWIN_EXCESS = _estimand(
    "robust error of a twin minus that of the hub",
    "twin − hub",
    RING,
    {"twin": 1.0, "hub": -1.0},
    "[-1, 1]",
)


def _problem(means: jax.Array, radius: jax.Array) -> MulticlassProblem:
    classes = isotropic_classes(means, jnp.ones(len(means), means.dtype))
    return MulticlassProblem(classes, nearest_mean_scores(means), L2Ball(radius))


def _places(far_distance: jax.Array) -> jax.Array:
    near = jnp.full_like(far_distance, NEAR)
    return jnp.stack([-far_distance, jnp.zeros_like(far_distance), near])


def _on_line(radius: jax.Array, far_distance: jax.Array) -> MulticlassProblem:
    direction = jnp.asarray(ALONG, far_distance.dtype)
    return _problem(_places(far_distance)[:, None] * direction[None, :], radius)


def _targets_on_line(radius: jax.Array, far_distance: jax.Array) -> TargetedProblem:
    return TargetedProblem(*_on_line(radius, far_distance))


def _line_errors(radius: jax.Array, far_distance: jax.Array) -> tuple[jax.Array, ...]:
    # Thresholds of the nearest-mean rule lie halfway between neighbours.
    places = _places(far_distance)
    return tuple(1 - line_accuracies((places[1:] + places[:-1]) / 2, places, 1.0, radius))


def _near_error(radius: jax.Array, far_distance: jax.Array) -> tuple[jax.Array]:
    """Returns the chance that an attack carries a point past the middle to its near neighbour."""
    return (ndtr(radius - NEAR / 2) + 0 * far_distance,)


def _around_hub(closeness: jax.Array, radius: jax.Array) -> MulticlassProblem:
    # Twins at +-asin(closeness / 2) from an axis, as far from the hub as the third class.
    sine, none = closeness / 2, jnp.zeros_like(closeness)
    cosine = jnp.sqrt(1 - sine**2)
    across = jnp.stack([none, -jnp.ones_like(none), cosine, cosine])
    return _problem(HUB * jnp.stack([across, jnp.stack([none, none, sine, -sine])], -1), radius)


def class_errors() -> Claim:
    """Returns the claim that three classes on a line have the class errors of intervals."""
    return Claim(
        name="line-class-errors",
        statement="On a line each class keeps the interval between its thresholds, shrunk by the "
        "radius at both ends: the robust errors are Q(h_2), Q(h_1) + Q(h_2) and Q(h_1) with "
        "h_i = d_i / 2 - radius, and the middle class is always wrong once the radius is "
        "(d_1 + d_2) / 4.",
        source=Source(KEY, "theory document A6.b"),
        axes=(RADIUS, FAR),
        problem=_on_line,
        predict=_line_errors,
        relation="==",
        estimand=LINE_ERRORS,
        assumptions=(SHAPE, ON_LINE),
    )


def near_neighbour_sets_gap() -> Claim:
    """Returns the claim that the far class does not matter for the gap of class errors."""
    return Claim(
        name="near-neighbour-sets-class-gap",
        statement="Until the middle class vanishes, the gap between the largest and the smallest "
        "robust class error is Q(d_1 / 2 - radius), wherever the far class is.",
        source=Source(KEY, "theory document A6.h.ii"),
        axes=(
            FAR._replace(default=(3.0, 3.5, 4.0, 5.0, 6.0, 8.0)),
            RADIUS._replace(default=(0.0, 0.3, 0.6), domain=Interval(0.0, NEAR / 2)),
        ),
        problem=_on_line,
        predict=_near_error,
        relation="==",
        estimand=GAP,
        assumptions=(SHAPE, ON_LINE),
    )


def radius_raises_gap() -> Claim:
    """Returns the claim that stronger attacks are less fair, with the region where it fails."""

    def weaker(radius: jax.Array, far_distance: jax.Array) -> tuple[jax.Array]:
        far, middle, _ = _line_errors(radius - STEP, far_distance)
        return (middle - far,)

    return Claim(
        name="radius-raises-class-gap",
        statement="The gap between the largest and the smallest robust class error is at least "
        "that at a radius smaller by 0.4.",
        source=Source(KEY, "reading of the abstract; theory document A6.h.iii"),
        axes=(
            RADIUS._replace(
                default=(0.4, 0.8, 1.2, 1.6, 2.0, 2.6, 3.2, 4.0, 4.8),
                domain=Interval(STEP, np.inf, False, True),
            ),
            FAR,
        ),
        problem=_on_line,
        predict=weaker,
        relation=">=",
        estimand=GAP,
        assumptions=(SHAPE, ON_LINE),
        fails=Failure(
            "from some way past the radius (d_1 + d_2) / 4 on: there the middle class is always "
            "wrong already, and only the others get worse"
        ),
    )


def nearest_most_reachable() -> Claim:
    """Returns the claim that attacks reach the nearest class most often, whatever the radius."""
    return Claim(
        name="nearest-class-is-most-reachable",
        statement="An attack on the middle class can reach the far class at most with the "
        "chance Q(d_1 / 2 - radius) of reaching the near one, at every radius.",
        source=Source(KEY, "observation of the paper; theory document A6.e"),
        axes=(RADIUS, FAR._replace(default=(NEAR, 6.0))),
        problem=_targets_on_line,
        predict=_near_error,
        relation="<=",
        estimand=FAR_REACH,
        assumptions=(SHAPE, ON_LINE),
    )


def similar_share_falls() -> Claim:
    """Returns the claim that attacks dilute the preference for the similar class."""

    def natural_share(radius: jax.Array, far_distance: jax.Array) -> tuple[jax.Array]:
        # What the share would be if the attack raised the errors towards both classes alike.
        near, far = jnp.full_like(radius, NEAR / 2), far_distance / 2
        return (ndtr(-far) / ndtr(-near) * ndtr(radius - near),)

    return Claim(
        name="attacks-dilute-the-similar-class",
        statement="An attack on the middle class reaches the far class at least as often as the "
        "natural ratio of far to near errors would say: the similar class's share falls.",
        source=Source(KEY, "theory document A6.e, refinement"),
        axes=(RADIUS, FAR),
        problem=_targets_on_line,
        predict=natural_share,
        relation=">=",
        estimand=FAR_REACH,
        assumptions=(SHAPE, ON_LINE, "targets counted by pairwise success"),
    )


def _order(
    name: str, relation: Literal["<=", ">="], statement: str, result: str, where: str
) -> Claim:
    return Claim(
        name=name,
        statement=statement,
        source=Source(KEY, result),
        axes=(CLOSENESS, radius_axis(0.0, 0.8)),
        problem=_around_hub,
        predict=lambda closeness, radius: (0 * closeness * radius,),
        relation=relation,
        estimand=TWIN_EXCESS,
        assumptions=(SHAPE, AROUND),
        fails=Failure(where),
    )


average_distance = functools.partial(
    _order,
    "average-distance-orders-errors",
    "<=",
    "Of two classes, the one of larger average distance to the others has at most the robust "
    "error of the other; a twin's is the larger one at every closeness.",
    "class-wise distance of the method (reading of its reviews); theory document A6.h.i",
    "while the twins are so close that one neighbour costs a twin more than three cost the hub",
)
nearest_distance = functools.partial(
    _order,
    "nearest-distance-orders-errors",
    ">=",
    "Of two classes, the one with the nearer neighbour has at least the robust error of the other; "
    "a twin's is the nearer one at every closeness below 1.",
    "theory document A6.h.i, corrected",
    "once the twins are almost as far apart as from the hub, which has more neighbours at its "
    "distance",
)

CLAIMS = (
    class_errors(),
    near_neighbour_sets_gap(),
    radius_raises_gap(),
    nearest_most_reachable(),
    similar_share_falls(),
    average_distance(),
    nearest_distance(),
)
