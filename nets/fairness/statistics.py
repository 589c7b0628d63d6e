"""What fairness methods learn from: sums over an epoch, class by class, added up on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.attacks.losses import misclassified


class Statistics(NamedTuple):
    """Class-wise measurements of one epoch; None for what was not measured.

    Args:
        similarity: mean softmax of the adversarial training points of each class, as the network
            gave it during the epoch, (K, K), row i for class i.
        training_accuracy: share of the adversarial training points of each class that were
            correct, likewise, (K,).
        clean_errors, robust_errors: of each class on held-out images, in [0, 1], (K,).
        held_out_losses: mean training objective of each class on held-out images, and last that
            over all of them, (K + 1,).
    """

    similarity: jax.Array | None = None
    training_accuracy: jax.Array | None = None
    clean_errors: jax.Array | None = None
    robust_errors: jax.Array | None = None
    held_out_losses: jax.Array | None = None


TRAINING = ("similarity", "training_accuracy")
HELD_OUT = ("clean_errors", "robust_errors", "held_out_losses")


class Sums(NamedTuple):
    """Sums over samples by class: their number, softmax, correct ones and losses.

    Args:
        samples, correct, losses: (K,).
        probabilities: (K, K), row i for class i.
    """

    samples: jax.Array
    correct: jax.Array
    losses: jax.Array
    probabilities: jax.Array


def no_samples(classes: int, dtype: jnp.dtype | type = jnp.float32) -> Sums:
    """Returns the sums before the first batch."""
    each = jnp.zeros(classes, dtype)
    return Sums(each, each, each, jnp.zeros((classes, classes), dtype))


def add(sums: Sums, logits: jax.Array, y: jax.Array, losses: jax.Array | None = None) -> Sums:
    """Returns the sums with one more batch.

    Args:
        sums: so far; (K,) and (K, K).
        logits: (B, K).
        y: labels, (B,).
        losses: of each sample, (B,); None adds nothing to them.
    """
    dtype = sums.samples.dtype
    one_hot = jax.nn.one_hot(class_numbers(y), sums.samples.shape[0], dtype=dtype)
    correct = (~misclassified(logits, y)).astype(dtype)
    values = jnp.zeros_like(correct) if losses is None else losses.astype(dtype)
    softmax = jax.nn.softmax(logits.astype(dtype), -1)
    # Sums by class are products with one-hot rows, which accelerators are good at and which need no
    # scatter; in full precision, or they would round losses and probabilities to 8 bits first.
    exact = jax.lax.Precision.HIGHEST
    return Sums(
        sums.samples + jnp.sum(one_hot, 0),
        sums.correct + jnp.matmul(correct, one_hot, precision=exact),
        sums.losses + jnp.matmul(values, one_hot, precision=exact),
        sums.probabilities + jnp.matmul(one_hot.T, softmax, precision=exact),
    )


def similarity(sums: Sums) -> jax.Array:
    """Returns the mean softmax of each class, (K, K); nan in the row of a class without samples."""
    return sums.probabilities / sums.samples[:, None]


def accuracy(sums: Sums) -> jax.Array:
    """Returns the share of correct samples of each class, (K,); nan for one without samples.

    Divided by the samples of the class: published code divides by N / K, which is wrong where
    classes differ in size.
    """
    return sums.correct / sums.samples


def mean_losses(sums: Sums) -> jax.Array:
    """Returns the mean loss of each class and, last, of all samples, (K + 1,); nan as above."""
    total = jnp.sum(sums.losses) / jnp.sum(sums.samples)
    return jnp.append(sums.losses / sums.samples, total)
