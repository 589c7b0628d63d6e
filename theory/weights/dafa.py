"""Class weights of distance-aware fair adversarial training (DAFA), and of TRIX, built on it.

Each pair of classes trades: the one recognised worse takes weight from the one recognised better,
in proportion to how often it is taken for it. Rules of other papers are in
`theory.weights.rules`, those for long-tailed data in `theory.weights.long_tail`.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from theory.domain import NON_NEGATIVE, POSITIVE, Interval, InvalidInput, require_known
from theory.numerics.arguments import checked_arguments
from theory.numerics.noun import require_shape, require_values

Ties = Literal["keep", "lower-both"]
Transfer = Literal["balanced", "before-2024-09"]
BudgetRule = Literal["scaled", "reference-pgd"]

_ROW_SUM = 1e-4  # means of softmax rows in float32 are far closer to sum one
_SHARE = Interval.parse("[0, 1]")


class ClassWeights(NamedTuple):
    """Class weights and whether they had to be changed.

    Args:
        weights: (..., K), of sum K and positive.
        clipped: some weight was below the floor, (...).
    """

    weights: Array
    clipped: Array


class AttackBudget(NamedTuple):
    """The radius and the step of each class's attack, (..., K)."""

    radius: Array
    step: Array


@checked_arguments
def as_floating(name: str, value: ArrayLike) -> Array:
    """Returns `value`, (...), as an array of floating dtype; `name` is for the message.

    Raises:
        InvalidInput: if it is not made of real numbers.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} = {value!r}: must be an array of real numbers") from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise InvalidInput(f"{name}.dtype = {array.dtype}: must be real")
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array if floating else array.astype(jnp.result_type(float))


@checked_arguments
def per_class(value: ArrayLike, like: Array) -> Array:
    """Returns a value for each batch, (...), so that it broadcasts with class values, (..., K)."""
    array = jnp.asarray(value).astype(like.dtype)
    missing = max(like.ndim - 1 - array.ndim, 0)
    return array.reshape((1,) * missing + array.shape)[..., None]


def _require_similarity(similarity: Array) -> None:
    square = similarity.ndim >= 2 and similarity.shape[-1] == similarity.shape[-2] >= 1
    require_shape("similarity", similarity, square, "(..., K, K), row i for samples of class i")
    require_values("similarity", similarity, _SHARE, "every mean class probability")
    if not isinstance(similarity, jax.core.Tracer):
        sums = np.asarray(similarity, float).sum(-1)
        off = np.abs(sums - 1) > _ROW_SUM
        if off.any():
            raise InvalidInput(
                "similarity: each row, a mean of softmax outputs, must sum to 1, "
                f"not {sums[off][0]:g}"
            )


@checked_arguments
def class_similarity(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Returns the mean predicted probabilities of each class's samples, the similarity matrix.

    Args:
        probabilities: softmax outputs, (n, K); of adversarial examples for DAFA.
        labels: true classes in [0, K), (n,).

    Returns:
        (K, K), row i over samples of class i; a row of zeros for a class without samples.

    Raises:
        InvalidInput: for shapes that do not fit, or probabilities outside [0, 1].

    References:
        lee2024dafa; theory document B1.

    >>> class_similarity([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], [0, 0, 1]).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    # Not in their own type: the number of class 261 wraps to 5 in that of small labels.
    values, labels = as_floating("probabilities", probabilities), jnp.asarray(labels, jnp.int32)
    require_shape("probabilities", values, values.ndim == 2, "(n, K)")
    require_shape("labels", labels, labels.shape == values.shape[:1], "(n,) as probabilities say")
    require_values("probabilities", values, _SHARE, "every probability")
    one_hot = jax.nn.one_hot(labels, values.shape[-1], dtype=values.dtype)
    # At full precision: rows must sum to one, and tensor cores would round them to three digits.
    sums = jnp.einsum("nc,nk->ck", one_hot, values, precision=jax.lax.Precision.HIGHEST)
    return sums / jnp.maximum(jnp.sum(one_hot, 0), 1)[:, None]


@checked_arguments
def dafa_weights(
    similarity: ArrayLike,
    strength: ArrayLike = 1.0,
    *,
    floor: float | None = 0.05,
    ties: Ties = "keep",
    transfer: Transfer = "balanced",
) -> ClassWeights:
    """Returns DAFA's class weights: each harder class takes weight from each easier similar one.

    W_i = 1 + lambda [sum over easier j of P_ij P_jj - sum over harder j of P_ji P_ii], where i is
    harder than j if P_ii < P_jj. The sum is K, whatever lambda.

    Args:
        similarity: P, (..., K, K): mean probability of class j over samples of class i, rows of sum
            one, from `class_similarity`.
        strength: lambda >= 0, (...): 1 for CIFAR-10, 1.5 for CIFAR-100 and STL-10 in the paper.
        floor: weights below it are raised to it and all are rescaled to sum K, flagged `clipped`;
            None leaves them, negative or not, as the published code does.
        ties: "keep" as in the paper's algorithm; "lower-both" as in its code, whose `else` takes
            weight from both classes of a tie, so that the sum is below K.
        transfer: "balanced", or "before-2024-09" for code of that age, whose easier class loses
            P_ij P_jj in place of P_ji P_ii, so that the sum is not K.

    Returns:
        The weights and the flag. Inside jit the similarity is not checked.

    Raises:
        InvalidInput: for rows that do not sum to 1, probabilities outside [0, 1], a negative
            strength, or an unknown option.

    References:
        lee2024dafa; theory document B1 (the floor is new).

    >>> similarity = [[0.6, 0.4], [0.2, 0.8]]  # 0 is harder: it takes 0.4 * 0.8
    >>> [round(w, 6) for w in dafa_weights(similarity).weights.tolist()]
    [1.32, 0.68]
    """
    require_known("ties", ties, get_args(Ties))
    require_known("transfer", transfer, get_args(Transfer))
    similarity = as_floating("similarity", similarity)
    _require_similarity(similarity)
    strength = per_class(strength, similarity[..., 0])
    require_values("strength", strength, NON_NEGATIVE, "the strength lambda of the transfers")
    weights = _transfer(similarity, strength, ties, transfer)
    if floor is None:
        return ClassWeights(weights, jnp.zeros(weights.shape[:-1], bool))
    if not 0 < floor < 1:
        raise InvalidInput(f"floor = {floor:g}: the smallest weight allowed must lie in (0, 1)")
    return _raised(weights, floor)


def _transfer(similarity: Array, strength: Array, ties: Ties, transfer: Transfer) -> Array:
    """Returns 1 + lambda (what each class takes - what is taken from it), (..., K)."""
    recognised = jnp.diagonal(similarity, axis1=-2, axis2=-1)
    row, column = recognised[..., :, None], recognised[..., None, :]
    taken = similarity * column  # by i from j: P_ij P_jj
    harder = (row < column).astype(similarity.dtype)
    pairs = jnp.broadcast_to(~jnp.eye(recognised.shape[-1], dtype=bool), similarity.shape)
    tied = (row == column) & pairs
    gain = jnp.sum(harder * taken, -1)
    # Every transfer has a giver and a taker, so weights sum to K. Until commit 74657cd (September
    # 2024) the published loop subtracted P_ij P_jj from the easier class i, not P_ji P_ii.
    lost = taken if transfer == "balanced" else jnp.swapaxes(taken, -1, -2)
    loss = jnp.sum(harder * lost, -2)
    # The published loop has `if P_ii < P_jj: take, else: give`, so that of two equal classes both
    # give; the algorithm in the paper leaves them alone.
    if ties == "lower-both":
        also = jnp.swapaxes(taken, -1, -2) if transfer == "balanced" else taken
        loss = loss + jnp.sum(jnp.where(tied, also, 0), -1)
    return 1 + strength * (gain - loss)


def _raised(weights: Array, floor: float) -> ClassWeights:
    """Returns the weights raised to the floor and rescaled to their number, where one is below.

    A negative weight, which the published code lets through, would climb its class's loss and turn
    the interval [x - W radius, x + W radius] inside out.
    """
    clipped = jnp.any(weights < floor, -1)
    raised = jnp.maximum(weights, floor)
    scaled = raised * (weights.shape[-1] / jnp.sum(raised, -1, keepdims=True))
    return ClassWeights(jnp.where(clipped[..., None], scaled, weights), clipped)


@checked_arguments
def dafa_budget(
    weights: ArrayLike, radius: ArrayLike, step: ArrayLike, *, attack: BudgetRule = "scaled"
) -> AttackBudget:
    """Returns the attack radius and step of each class under DAFA weights.

    "scaled": weight times radius and step. "reference-pgd" is what the published PGD loss amounts
    to, which takes a second, unscaled step and projects on the plain ball: the farthest a point
    can be from its origin is min(W radius + step, radius) for W <= 1 and the plain radius for
    W > 1, so hard classes never get their larger margin.

    Args:
        weights: positive class weights, (..., K).
        radius: of the unweighted attack, >= 0, (...).
        step: of the unweighted attack, >= 0, (...).
        attack: "scaled", or "reference-pgd" to repeat what the published code does.

    Raises:
        InvalidInput: for a weight <= 0, whose ball would be empty, another value out of range, or
            an unknown rule.

    References:
        lee2024dafa and its code; theory document B1, quirk 3.

    >>> budget = dafa_budget([1.5, 0.5], 8.0, 2.0)
    >>> budget.radius.tolist(), budget.step.tolist()
    ([12.0, 4.0], [3.0, 1.0])
    """
    require_known("attack", attack, get_args(BudgetRule))
    weights = as_floating("weights", weights)
    radius, step = (per_class(x, weights) for x in (radius, step))
    require_values("weights", weights, POSITIVE, "every class weight")
    require_values("radius", radius, NON_NEGATIVE, "the perturbation radius")
    require_values("step", step, NON_NEGATIVE, "the step of the attack")
    if attack == "scaled":
        return AttackBudget(weights * radius, weights * step)
    # `madry_loss` ends each iteration by a second step of the same gradient, unscaled, and projects
    # on the plain ball: together (W + 1) steps, and no point ever leaves the plain radius.
    plain = jnp.where(weights > 1, radius, jnp.minimum(weights * radius + step, radius))
    return AttackBudget(plain, (weights + 1) * step)


@checked_arguments
def trix_targeted(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Returns which samples of a batch TRIX attacks towards a random class, the weaker attack.

    Those of classes whose DAFA weight, computed on the batch's clean softmax outputs with strength
    1, is below the mean weight over the batch's samples. The others are attacked without target.

    Args:
        probabilities: clean softmax outputs, (n, K).
        labels: true classes in [0, K), (n,).

    Returns:
        Booleans, (n,).

    References:
        medi2025trix, a public loss file; the average that the paper announces is not in it.

    >>> trix_targeted([[0.9, 0.1], [0.4, 0.6]], [0, 1]).tolist()
    [True, False]
    """
    labels = jnp.asarray(labels, jnp.int32)
    similarity = class_similarity(probabilities, labels)
    count = similarity.shape[-1]
    # The published file adds this to the diagonal, where a class without samples has a zero; it is
    # kept so that weights agree with that file to the last place.
    similarity = similarity + 1e-8 * jnp.eye(count, dtype=similarity.dtype)
    weights = _transfer(similarity, jnp.ones(1, similarity.dtype), "keep", "balanced")[labels]
    return weights < jnp.mean(weights)
