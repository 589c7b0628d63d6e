"""How much a classifier relies on a spurious attribute: reports on what it got right.

Groups are pairs of a label and an attribute, both -1 or +1. All functions are pure functions of
arrays: what is measured may come from images, photographs or a closed form (theory document D3).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.scipy.special import logit
from jax.typing import ArrayLike

from theory.domain import UNIT_INTERVAL, InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.numerics.noun import require_shape, require_values


class GroupReport(NamedTuple):
    """Accuracies of the groups and what follows from them; (...) unless said otherwise.

    Args:
        counts: images of each group, (2, 2): rows are labels -1 and +1, columns attributes.
        accuracies: of each group, (..., 2, 2); nan where there is no image.
        worst: the smallest of them, empty groups left out.
        worst_group: its label and attribute, int32, (..., 2).
        average: accuracy over all images.
        balanced: mean accuracy of the groups, empty ones left out.
        aligned, conflicting: accuracy over all images whose attribute is, and is not, the label.
        gap_pooled: aligned minus conflicting.
        gap_balanced: the same with the mean of two groups in place of all their images.
    """

    counts: Array
    accuracies: Array
    worst: Array
    worst_group: Array
    average: Array
    balanced: Array
    aligned: Array
    conflicting: Array
    gap_pooled: Array
    gap_balanced: Array


class Reliance(NamedTuple):
    """Share of the weights' l_1 norm off the core, and ratio of l_2 norms to the core's, (...)."""

    share: Array
    ratio: Array


def _ratio(top: Array, bottom: Array) -> Array:
    """Returns top / bottom, nan where the bottom is zero."""
    return jnp.where(bottom > 0, top / jnp.where(bottom > 0, bottom, 1), jnp.nan)


def _mean_present(values: Array) -> Array:
    """Returns the mean over the last axis of what is not nan; nan if nothing is left."""
    present = ~jnp.isnan(values)
    total = jnp.sum(jnp.where(present, values, 0), -1)
    return _ratio(total, jnp.sum(present, -1, dtype=values.dtype))


@checked_arguments
def group_report(correct: ArrayLike, labels: ArrayLike, attributes: ArrayLike) -> GroupReport:
    """Returns accuracies by group, the worst group and the gaps between groups.

    Under attack pass what stays right under every attack; a clean error is an error there too.

    Args:
        correct: whether each image is classified rightly, or how probably, in [0, 1], (..., n).
        labels: -1 or +1, (n,).
        attributes: -1 or +1, (n,).

    Returns:
        A `GroupReport`; quantities of groups without images are nan.

    Raises:
        InvalidInput: for a value out of range, or shapes that do not fit.

    References:
        sagawa2020groupdro; theory document D3.

    >>> found = group_report([True, True, True, False, True], [1, 1, 1, 1, -1], [1, 1, 1, -1, 1])
    >>> [round(float(v), 6) for v in (found.average, found.aligned, found.conflicting)]
    [0.8, 1.0, 0.5]
    >>> float(found.worst), found.worst_group.tolist(), float(found.gap_pooled)
    (0.0, [1, -1], 0.5)
    """
    right, label, attribute = jnp.asarray(correct), jnp.asarray(labels), jnp.asarray(attributes)
    if not jnp.issubdtype(right.dtype, jnp.floating):
        right = right.astype(jnp.result_type(float))
    good = right.ndim >= 1 and right.shape[-1] >= 1
    require_shape("correct", right, good, "(..., n), n >= 1")
    require_values("correct", right, UNIT_INTERVAL, "what is right")
    for name, value in (("labels", label), ("attributes", attribute)):
        require_shape(name, value, value.shape == right.shape[-1:], f"({right.shape[-1]},)")
        # Inside jit values are not known; an image of another label is then in no group.
        if not isinstance(value, Tracer) and not np.isin(np.asarray(value), (-1, 1)).all():
            raise InvalidInput(f"{name}: must be -1 or +1 everywhere")
    sides = jnp.asarray([-1, 1], label.dtype)
    member = (label[:, None] == sides[None])[:, :, None] & (
        attribute[:, None] == sides.astype(attribute.dtype)[None]
    )[:, None, :]
    member = member.astype(right.dtype)
    return _report(jnp.tensordot(right, member, 1), jnp.sum(member, 0))


def _report(hits: Array, counts: Array) -> GroupReport:
    """Returns the report on how many images of each group are right, both (..., 2, 2)."""
    counts = jnp.broadcast_to(counts, hits.shape)
    accuracies = _ratio(hits, counts)
    flat = accuracies.reshape(*hits.shape[:-2], 4)
    worst = jnp.argmin(jnp.where(jnp.isnan(flat), jnp.inf, flat), -1)
    # Aligned groups are on the diagonal, conflicting ones off it.
    pooled, balanced = [], []
    for side in (jnp.eye(2, dtype=bool), ~jnp.eye(2, dtype=bool)):
        chosen = jnp.broadcast_to(side, hits.shape)
        total, size = (jnp.sum(jnp.where(chosen, v, 0), (-2, -1)) for v in (hits, counts))
        pooled.append(_ratio(total, size))
        balanced.append(_mean_present(jnp.where(chosen, accuracies, jnp.nan).reshape(flat.shape)))
    return GroupReport(
        counts=counts,
        accuracies=accuracies,
        worst=jnp.take_along_axis(flat, worst[..., None], -1)[..., 0],
        worst_group=jnp.stack([worst // 2, worst % 2], -1).astype(jnp.int32) * 2 - 1,
        average=_ratio(jnp.sum(hits, (-2, -1)), jnp.sum(counts, (-2, -1))),
        balanced=_mean_present(flat),
        aligned=pooled[0],
        conflicting=pooled[1],
        gap_pooled=pooled[0] - pooled[1],
        gap_balanced=balanced[0] - balanced[1],
    )


@checked_arguments
def weight_reliance(weight: ArrayLike, core: ArrayLike) -> Reliance:
    """Returns how much of a linear rule's weight lies off the core features.

    Args:
        weight: (..., d).
        core: which features are core, booleans (d,).

    Returns:
        ||w_S||_1 / ||w||_1 and ||w_S||_2 / ||w_C||_2, (...): inf where no weight is on the core,
        both nan for weights that are all zero.

    Raises:
        InvalidInput: for shapes that do not fit.

    References:
        theory document D3.

    >>> found = weight_reliance([3.0, 4.0, 5.0], [True, True, False])
    >>> round(float(found.share), 6), float(found.ratio)
    (0.416667, 1.0)
    """
    w, chosen = jnp.asarray(weight), jnp.asarray(core)
    require_shape("core", chosen, chosen.shape == w.shape[-1:], f"{w.shape[-1:]}, as weight says")
    mask = jnp.broadcast_to(chosen, w.shape)
    # In units of the largest entry, so that no square overflows or underflows.
    largest = jnp.max(jnp.abs(w), -1, keepdims=True)
    size = jnp.abs(w) / jnp.where(largest > 0, largest, 1)
    sums, squares = (
        [jnp.sum(jnp.where(side, size**power, 0), -1) for side in (mask, ~mask)] for power in (1, 2)
    )
    empty, none = squares[0] == 0, (squares[0] == 0) & (squares[1] == 0)
    root = jnp.sqrt(jnp.where(squares[1] > 0, squares[1] / jnp.where(empty, 1, squares[0]), 1))
    ratio = jnp.where(empty, jnp.inf, jnp.where(squares[1] > 0, root, 0))
    return Reliance(
        _ratio(sums[1], sums[0] + sums[1]), jnp.where(none, jnp.nan, ratio.astype(w.dtype))
    )


@checked_arguments
def background_gap(same_class: ArrayLike, any_class: ArrayLike) -> Array:
    """Returns accuracy with backgrounds of the same class minus that with those of a random class.

    Args:
        same_class: accuracy where each background is from another image of the class, (...).
        any_class: accuracy where it is from an image of any class, (...).

    Raises:
        InvalidInput: for an accuracy outside [0, 1].

    References:
        xiao2021noise; theory document D3.

    >>> round(float(background_gap(0.9, 0.7)), 6)
    0.2
    """
    same, other = jnp.asarray(same_class), jnp.asarray(any_class)
    for name, value in (("same_class", same), ("any_class", other)):
        require_values(name, value, UNIT_INTERVAL, "an accuracy")
    return same - other


@checked_arguments
def effective_robustness(
    clean: ArrayLike, shifted: ArrayLike, reference_clean: ArrayLike, reference_shifted: ArrayLike
) -> Array:
    """Returns how much better a model is after a shift than its clean accuracy makes one expect.

    What is expected is the least-squares line through the reference models, both accuracies on the
    logit scale.

    Args:
        clean: accuracies of the models to judge, in [0, 1], (...).
        shifted: theirs after the shift, in [0, 1], (...).
        reference_clean: accuracies of the reference models, in (0, 1), (k,).
        reference_shifted: theirs after the shift, in (0, 1), (k,).

    Returns:
        Differences of accuracies, (...); nan with fewer than two different reference models.

    Raises:
        InvalidInput: for a value out of range, or shapes that do not fit.

    References:
        taori2020measuring; theory document D3.

    >>> found = effective_robustness(0.8, 0.75, [0.5, 0.9], [0.5, 0.9])  # the line is the diagonal
    >>> round(float(found), 6)
    -0.05
    """
    names = ("clean", "shifted", "reference_clean", "reference_shifted")
    values = [jnp.asarray(v) for v in (clean, shifted, reference_clean, reference_shifted)]
    for name, value in zip(names, values, strict=True):
        require_values(name, value, UNIT_INTERVAL, "an accuracy")
    before, after, x, y = values
    require_shape("reference_clean", x, x.ndim == 1, "(k,)")
    require_shape("reference_shifted", y, y.shape == x.shape, f"{x.shape}, as reference_clean says")
    # On logits, as Taori et al. fit: on accuracies themselves the line could leave [0, 1].
    u, v = logit(x), logit(y)
    deviation = u - jnp.mean(u) if x.size else u
    slope = _ratio(jnp.sum(deviation * v), jnp.sum(deviation**2))
    height = jnp.mean(v) if x.size else jnp.asarray(jnp.nan, slope.dtype)
    offset = height - slope * (jnp.mean(u) if x.size else 0)
    odds = logit(before) * slope + offset
    return after - jax.nn.sigmoid(odds)
