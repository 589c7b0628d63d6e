"""Class-wise robust accuracy of argmax linear rules between any number of Gaussian classes.

A point x of class y resists every l_p attack exactly if each other class j stays behind,
(w_y - w_j) . x + b_y - b_j > radius ||w_y - w_j||_q: a union over targets loses nothing, as each
target may have its own perturbation. So the robust accuracy of a class is the probability of an
intersection of half-spaces (theory document A6; Lee et al. 2024 argue with class distances).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr
from jax.typing import ArrayLike

from theory.domain import InvalidInput
from theory.numerics.arguments import checked_arguments
from theory.numerics.halfspaces import Estimate, Halfspaces, estimate_probability, probability
from theory.numerics.norms import power_norm
from theory.problem import GaussianClasses, L2Ball, LinearScores, Threat
from theory.rules.risk import dual_norm


class Targets(NamedTuple):
    """Where the errors of each class go, both (K, K) with zeros on the diagonal.

    Args:
        reachable: P(an attack on class y can make class j beat it).
        attributed: P(j is the class that an attack carries farthest past y); each row sums to the
            robust error of y. Without a threat it is the confusion matrix off its diagonal.
    """

    reachable: Array
    attributed: Array


@checked_arguments
def isotropic_classes(means: ArrayLike, scales: ArrayLike) -> GaussianClasses:
    """Returns classes with covariance scale_y^2 times the identity; means (K, d), scales (K,) > 0.

    Raises:
        InvalidInput: for shapes that do not fit, or a value out of range.

    >>> isotropic_classes([[0.0], [3.0]], [1.0, 2.0]).covariances.ravel().tolist()
    [1.0, 4.0]
    """
    means, scales = jnp.asarray(means), jnp.asarray(scales)
    identity = jnp.eye(means.shape[-1], dtype=means.dtype)
    return GaussianClasses(means, scales[:, None, None] ** 2 * identity[None])


@checked_arguments
def nearest_mean_scores(means: ArrayLike) -> LinearScores:
    """Returns the linear form of the rule that answers the class of the nearest mean, means (K, d).

    argmin |x - mu_k|^2 is argmax mu_k . x - |mu_k|^2 / 2: x^2 is common to all.

    >>> nearest_mean_scores([[0.0], [2.0]]).biases.tolist()
    [-0.0, -2.0]
    """
    means = jnp.asarray(means)
    return LinearScores(means, -jnp.sum(means * means, -1) / 2)


def _differences(scores: LinearScores, threat: Threat | None) -> tuple[Array, Array, Array]:
    """Returns w_i - w_j, b_i - b_j and radius ||w_i - w_j||_q for all i and j."""
    weights = scores.weights[:, None] - scores.weights[None]
    biases = scores.biases[:, None] - scores.biases[None]
    cost = jnp.zeros_like(biases)
    if threat is not None:
        cost = threat.radius * dual_norm(threat, weights)
    return weights, biases, cost


def _halfspaces(normals: Array, offsets: Array, mean: Array, covariance: Array) -> Halfspaces:
    """Returns {x : normals . x + offsets > 0} in coordinates where the class is standard normal."""
    # HIGHEST: accelerators would otherwise multiply with a few bits.
    highest = jax.lax.Precision.HIGHEST
    root = jnp.linalg.cholesky(covariance)
    turned = jnp.einsum("md,de->me", normals, root, precision=highest)
    length = power_norm(turned, 2.0)
    level = jnp.einsum("md,d->m", normals, mean, precision=highest) + offsets
    flat = length == 0
    safe = jnp.where(flat, 1, length)
    # Two equal rules differ by their offset alone, everywhere: always, or never (also on a tie).
    constant = jnp.where(level > 0, jnp.inf, -jnp.inf).astype(level.dtype)
    return Halfspaces(turned / safe[:, None], jnp.where(flat, constant, level / safe))


def _others(count: int) -> Array:
    """Returns the indices other than y, in row y, (K, K - 1)."""
    table = [[j for j in range(count) if j != y] for y in range(count)]
    return jnp.asarray(table)


def _correct(classes: GaussianClasses, scores: LinearScores, threat: Threat | None) -> Halfspaces:
    """Returns, for each class y, where it is robustly right: batched half-spaces."""
    _require_alike(classes, scores)
    weights, biases, cost = _differences(scores, threat)
    rows = jnp.arange(weights.shape[0])[:, None], _others(weights.shape[0])
    offsets = (biases - cost)[rows]
    return jax.vmap(_halfspaces)(weights[rows], offsets, classes.means, classes.covariances)


def _require_alike(classes: GaussianClasses, scores: LinearScores) -> None:
    if classes.means.shape != scores.weights.shape:
        raise InvalidInput(
            f"weights.shape = {scores.weights.shape}: must be {classes.means.shape}, as means say"
        )


@checked_arguments
@jax.jit
def robust_accuracies(
    classes: GaussianClasses, scores: LinearScores, threat: Threat | None = None
) -> Array:
    """Returns the natural (no threat) or robust accuracy of each class, exactly, (K,).

    Two or three classes in any dimension, or any number in one or two dimensions; for the rest see
    `estimate_robust_accuracies`.

    Args:
        classes: any Gaussian classes.
        scores: any argmax linear rule, optimal or not.
        threat: one l_p ball, or None.

    Returns:
        Probabilities with an absolute error of a few units of the dtype's epsilon; 0 for a class
        that the rule never answers.

    Raises:
        InvalidInput: for more than three classes in more than two dimensions, or shapes that
            do not fit.

    References:
        new; plackett1954; theory document A6.a, A6.b.

    >>> means = [[-2.0], [0.0], [2.0]]
    >>> classes, rule = isotropic_classes(means, [1.0, 1.0, 1.0]), nearest_mean_scores(means)
    >>> [round(float(a), 6) for a in robust_accuracies(classes, rule)]  # Phi(1), 2 Phi(1) - 1
    [0.841345, 0.682689, 0.841345]
    """
    accuracies: Array = jax.vmap(probability)(_correct(classes, scores, threat))
    return accuracies


@checked_arguments
@functools.partial(jax.jit, static_argnames=("points", "shifts"))
def estimate_robust_accuracies(
    key: Array,
    classes: GaussianClasses,
    scores: LinearScores,
    threat: Threat | None = None,
    *,
    points: int = 4096,
    shifts: int = 16,
) -> Estimate:
    """Returns randomised quasi-Monte-Carlo estimates of `robust_accuracies`, with standard errors.

    Args:
        key: of the random shifts, a JAX key, ().
        classes, scores, threat: as for `robust_accuracies`, any number of classes and dimensions.
        points, shifts: of the lattice, and how often it is shifted at random.

    Returns:
        Values and their standard errors over the shifts, each (K,).

    Raises:
        InvalidInput: for shapes that do not fit, or another type of threat.

    References:
        genz1992numerical; theory document A6.b.
    """
    spaces = _correct(classes, scores, threat)
    # A key of its own for each class, so that their errors are independent.
    keys = jax.random.split(key, spaces.offsets.shape[0])
    estimates: Estimate = jax.vmap(lambda k, s: estimate_probability(k, s, points, shifts))(
        keys, spaces
    )
    return estimates


@checked_arguments
@jax.jit
def attack_targets(
    classes: GaussianClasses, scores: LinearScores, threat: Threat | None = None
) -> Targets:
    """Returns which classes absorb the errors of each class, exactly.

    Arguments, and the limits of classes and dimensions, are those of `robust_accuracies`.

    With nearest-mean rules, isotropic classes and an l_2 threat the nearest class is always the
    most reachable one, whatever the radius; but its *share* falls as the radius grows.

    Returns:
        Probabilities, both (K, K).

    Raises:
        InvalidInput: as `robust_accuracies` does.

    References:
        lee2024dafa for the observation; new; theory document A6.e.
    """
    _require_alike(classes, scores)
    weights, biases, cost = _differences(scores, threat)
    count = weights.shape[0]

    def into(y: Array, j: Array, rest: Array) -> tuple[Array, Array]:
        """How far j passes y at the attack's best: v_j = -(w_y - w_j) . x - (b_y - b_j) + cost."""
        # v_j > 0, and v_j > v_m for every other m: v_j's own cost is part of every gain.
        normals = jnp.concatenate([weights[j, y][None], weights[j, rest]])
        gains = jnp.concatenate([cost[y, j][None], cost[y, j] - cost[y, rest]])
        offsets = jnp.concatenate([biases[j, y][None], biases[j, rest]]) + gains
        spaces = _halfspaces(normals, offsets, classes.means[y], classes.covariances[y])
        return ndtr(spaces.offsets[0]), probability(spaces)

    # Ordered pairs as one batch: each has the same number of half-spaces.
    pairs = [(y, j) for y in range(count) for j in range(count) if y != j]
    rest = jnp.asarray(
        [[m for m in range(count) if m not in pair] for pair in pairs], jnp.int32
    ).reshape(len(pairs), count - 2)
    first, second = (jnp.asarray([pair[k] for pair in pairs]) for k in range(2))
    reachable, attributed = jax.vmap(into)(first, second, rest)
    zeros = jnp.zeros((count, count), biases.dtype)
    return Targets(zeros.at[first, second].set(reachable), zeros.at[first, second].set(attributed))


@checked_arguments
def nearest_mean_targets(means: ArrayLike, scales: ArrayLike, radius: ArrayLike) -> Targets:
    """Returns `attack_targets` of the nearest-mean rule between isotropic classes against l_2.

    Args:
        means: (K, d).
        scales: standard deviation of each class, > 0, (K,).
        radius: of the l_2 ball, >= 0, ().

    Raises:
        InvalidInput: for more than three classes in more than two dimensions, shapes that do not
            fit, or a value out of range.

    References:
        lee2024dafa for the observation; new; theory document A6.e.

    >>> targets = nearest_mean_targets([[-3.0], [0.0], [2.0]], [1.0, 1.0, 1.0], 0.5)
    >>> [round(float(p), 6) for p in targets.reachable[1]]  # Q(1.5 - 0.5), none, Q(1 - 0.5)
    [0.158655, 0.0, 0.308538]
    """
    classes, rule = isotropic_classes(means, scales), nearest_mean_scores(means)
    ball = L2Ball(jnp.asarray(radius).astype(rule.biases.dtype))
    targets: Targets = attack_targets(classes, rule, ball)
    return targets
