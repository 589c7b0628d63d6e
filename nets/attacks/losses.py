"""Losses that attacks increase: functions of logits (B, K) and labels (B,), one value a sample.

Each takes logits as a network gives them, in any floating dtype, and grows as the sample comes
nearer to being misclassified. Cross-entropy alone misjudges networks whose logits are large, and
the difference-of-logits ratio alone is weak where few classes compete: take the best of several.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers, require_classes
from nets.attacks.scale import ratio


class Loss(Protocol):
    """What an attack increases, and with `y` held, what training lowers."""

    def __call__(self, logits: jax.Array, y: jax.Array, /) -> jax.Array:
        """Returns one value a sample, (B,), of logits (B, K) and labels (B,), and of no other."""


def misclassified(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns whether each sample is misclassified, (B,).

    A tie for the largest logit counts against the model, and so does a logit that is not finite.

    >>> import jax.numpy as jnp
    >>> z = jnp.asarray([[2.0, 1.0], [1.0, 1.0], [jnp.inf, 0.0]])
    >>> misclassified(z, jnp.zeros(3, jnp.int32)).tolist()
    [False, True, True]
    """
    own, rival = own_and_rival(logits, y)
    return (rival >= own) | ~jnp.isfinite(logits).all(-1)


def own_and_rival(logits: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the logit of the label and the largest of the others, (B,) each; K >= 2."""
    require_classes(logits, y)
    own = entry(logits, y)
    return own, jnp.max(_others(logits, y), -1)


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns -log softmax(logits)_y, (B,).

    Written as log(1 + exp(log sum_{j != y} exp z_j - z_y)), whose gradient stays accurate when
    the network is sure: it vanishes only where exp(rival - own) underflows, at a lead of about
    103 in float32 and 745 in float64.
    """
    require_classes(logits, y)
    # Not -log_softmax(logits)[y]: in its gradient p_y - 1 rounds to 0 in float32 from a lead of 17.
    others = jax.scipy.special.logsumexp(_others(logits, y), axis=-1)
    return jax.nn.softplus(others - entry(logits, y))


def margin(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns max_{j != y} z_j - z_y, (B,): at least zero where a sample is misclassified.

    The loss of Carlini and Wagner without its hinge.

    References:
        carlini2017towards.

    >>> import jax.numpy as jnp
    >>> margin(jnp.asarray([[2.0, 1.0, 5.0]]), jnp.asarray([0])).tolist()
    [3.0]
    """
    own, rival = own_and_rival(logits, y)
    return rival - own


def dlr(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the difference-of-logits ratio (max_{j != y} z_j - z_y) / (z_(1) - z_(3)), (B,).

    z_(i) is the i-th largest logit. The ratio does not change when logits are shifted or scaled.

    Raises:
        InvalidInput: for fewer than three classes, where it is not defined.

    References:
        croce2020autoattack.

    >>> import jax.numpy as jnp
    >>> dlr(jnp.asarray([[4.0, 3.0, 2.0]]), jnp.asarray([0])).tolist()
    [-0.5]
    """
    require_classes(logits, y, smallest=3)
    top = jax.lax.top_k(logits, 3)[0]
    return ratio(margin(logits, y), top[:, 0] - top[:, 2])


def targeted_cross_entropy(logits: jax.Array, y: jax.Array, target_class: jax.Array) -> jax.Array:
    """Returns minus the cross-entropy of the target classes, (B,); the labels y are not used.

    Args:
        logits, y, target_class: as for `targeted_dlr`, for any K >= 2; (B, K), (B,), (B,).
    """
    del y
    return -cross_entropy(logits, target_class)


def targeted_margin(logits: jax.Array, y: jax.Array, target_class: jax.Array) -> jax.Array:
    """Returns z_target - z_y, (B,), for logits (B, K), labels (B,) and target classes (B,)."""
    require_classes(logits, y)
    return entry(logits, target_class) - entry(logits, y)


def targeted_dlr(logits: jax.Array, y: jax.Array, target_class: jax.Array) -> jax.Array:
    """Returns (z_target - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), (B,).

    Args:
        logits: (B, K).
        y: labels, (B,).
        target_class: class that each sample is to be taken for, (B,), other than its label.

    Raises:
        InvalidInput: for fewer than four classes, where it is not defined.

    References:
        croce2020autoattack.
    """
    require_classes(logits, y, smallest=4)
    top = jax.lax.top_k(logits, 4)[0]
    spread = top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])
    return ratio(targeted_margin(logits, y, target_class), spread)


def is_label(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns whether each class is the label of its sample, (B, K), for labels (B,).

    Compared as int32, in which no number of a class wraps, and nothing is promoted to 64 bits.
    """
    return class_numbers(y)[:, None] == jnp.arange(logits.shape[1], dtype=jnp.int32)[None]


def entry(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the logit of one class a sample, (B,), of logits (B, K) and classes (B,)."""
    # By a mask and a sum, whose gradient is the mask; that of indexing is a scatter, which is slow
    # on accelerators and whose order of additions is not fixed there.
    return jnp.sum(jnp.where(is_label(logits, y), logits, 0), -1)


def _others(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the logits, (B, K), with that of the label replaced by -inf."""
    return jnp.where(is_label(logits, y), -jnp.inf, logits)
