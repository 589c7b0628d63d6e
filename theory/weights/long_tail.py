"""Remedies for long-tailed data, from class counts alone.

With balanced data all of them do nothing (LDAM: a constant margin), so they answer imbalance and
not difficulty; pseudo-counts proportional to robust accuracy make them answer it. In the Gaussian
model of `theory.fairness.distance` each only moves log(K rho): fair exactly where that is zero.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from theory.domain import POSITIVE, REAL, Interval
from theory.numerics.arguments import checked_arguments
from theory.numerics.noun import require_shape, require_values
from theory.weights.dafa import as_floating, per_class

_SHARE = Interval.parse("[0, 1]")


def _counts(counts: ArrayLike) -> Array:
    """Returns class counts as floats, (..., K), once they are known to be positive."""
    values = as_floating("counts", counts)
    require_shape("counts", values, values.ndim >= 1 and values.shape[-1] >= 1, "(..., K)")
    require_values("counts", values, POSITIVE, "every class count")
    return values


@checked_arguments
def effective_number_weights(counts: ArrayLike, overlap: ArrayLike) -> Array:
    """Returns weights inverse to the effective number of samples, of sum K, (..., K).

    w_c ~ (1 - b) / (1 - b^n_c): uniform at b = 0, inverse counts at b = 1.

    Args:
        counts: n_c > 0, at least 1 to make sense, (..., K).
        overlap: b in [0, 1], (...).

    Raises:
        InvalidInput: for a count <= 0 or b outside [0, 1].

    References:
        cui2019classbalanced.

    >>> [round(w, 6) for w in effective_number_weights([1.0, 3.0], 1.0).tolist()]
    [1.5, 0.5]
    """
    counts = _counts(counts)
    b = per_class(overlap, counts)
    require_values("overlap", b, _SHARE, "the overlap b")
    # Both ends of the formula are 0 / 0: by their limits, with a harmless b where it is not used.
    inside = (b > 0) & (b < 1)
    safe = jnp.where(inside, b, 0.5)
    # 1 - b^n by expm1 and log1p: b is 0.9999 and more in the paper, where 1 - b^n would cancel.
    effective = -jnp.expm1(counts * jnp.log1p(safe - 1)) / (1 - safe)
    effective = jnp.where(inside, effective, jnp.where(b == 1, counts, 1))
    weights = 1 / effective
    return weights * (counts.shape[-1] / jnp.sum(weights, -1, keepdims=True))


@checked_arguments
def logit_adjustment(counts: ArrayLike, temperature: ArrayLike = 1.0) -> Array:
    """Returns what to add to the logits in the training loss, tau log(n_c / n), (..., K).

    Args:
        counts: n_c > 0, (..., K).
        temperature: tau, any finite number, (...).

    Raises:
        InvalidInput: for a count <= 0 or a temperature that is not finite.

    References:
        menon2021logit; at tau = 1 it is `balanced_softmax`.

    >>> [round(offset, 6) for offset in logit_adjustment([1.0, 3.0]).tolist()]
    [-1.386294, -0.287682]
    """
    counts = _counts(counts)
    tau = per_class(temperature, counts)
    require_values("temperature", tau, REAL, "the temperature tau (finite)")
    return tau * (jnp.log(counts) - jnp.log(jnp.sum(counts, -1, keepdims=True)))


@checked_arguments
def balanced_softmax(logits: ArrayLike, counts: ArrayLike) -> Array:
    """Returns the logarithm of n_c exp(logit_c) / sum n_j exp(logit_j), (..., K).

    Args:
        logits: (..., K).
        counts: n_c > 0, (..., K).

    Raises:
        InvalidInput: for a count <= 0.

    References:
        ren2020balanced.

    >>> [round(p, 6) for p in jnp.exp(balanced_softmax([0.0, 0.0], [1.0, 3.0])).tolist()]
    [0.25, 0.75]
    """
    logits = as_floating("logits", logits)
    offset = logit_adjustment(counts).astype(logits.dtype)
    return jax.nn.log_softmax(jnp.add(*jnp.broadcast_arrays(logits, offset)), -1)


@checked_arguments
def ldam_margins(counts: ArrayLike, largest: ArrayLike = 0.5) -> Array:
    """Returns what LDAM subtracts from the true logit, largest (min n / n_c)^(1/4), (..., K).

    Args:
        counts: n_c > 0, (..., K).
        largest: the margin of the rarest class, > 0, (...).

    Raises:
        InvalidInput: for a count or a margin <= 0.

    References:
        cao2019ldam.

    >>> ldam_margins([1.0, 16.0]).tolist()
    [0.5, 0.25]
    """
    counts = _counts(counts)
    largest = per_class(largest, counts)
    require_values("largest", largest, POSITIVE, "the margin of the rarest class")
    # Two square roots are exact where a power of 1/4 need not be: 16 gives 2.
    return largest * jnp.sqrt(jnp.sqrt(jnp.min(counts, -1, keepdims=True) / counts))


@checked_arguments
def ldam_logits(
    logits: ArrayLike, labels: ArrayLike, margins: ArrayLike, scale: float = 30.0
) -> Array:
    """Returns the logits that LDAM's cross entropy takes: the true one lowered, all scaled, (n, K).

    Args:
        logits: (n, K), normalised in the paper.
        labels: true classes in [0, K), (n,).
        margins: from `ldam_margins`, (K,).
        scale: s > 0, what the published code multiplies normalised logits by.

    Raises:
        InvalidInput: for shapes that do not fit.

    References:
        cao2019ldam.

    >>> ldam_logits([[1.0, 0.0]], [0], [0.5, 0.25], scale=2.0).tolist()
    [[1.0, 0.0]]
    """
    logits = as_floating("logits", logits)
    # Not in their own type: the number of class 261 wraps to 5 in that of small labels.
    labels = jnp.asarray(labels, jnp.int32)
    require_shape("labels", labels, labels.shape == logits.shape[:-1], "(n,) as logits say")
    one_hot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    lowered = jnp.asarray(margins).astype(logits.dtype)
    return scale * (logits - one_hot * jnp.broadcast_to(lowered, logits.shape))
