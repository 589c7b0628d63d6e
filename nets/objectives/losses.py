"""What training lowers: natural, PGD-AT, FGSM-RS, TRADES and MART losses with their inner attacks.

Every objective is a pure function of one batch, see `Objective`, to be differentiated in the
parameters: the attack inside takes no gradient of them. Class weights come in as `weigh`, class
radii as those of `inner`, one a sample; see `nets.fairness.method`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from nets.attacks.attack import class_numbers
from nets.attacks.losses import Loss, cross_entropy, is_label
from nets.objectives.inner_attack import (
    Apply,
    InnerAttack,
    Variables,
    fgsm_rs_inner,
    near_inner,
    perturb,
    pgd_inner,
    rest_of,
)


class Terms(NamedTuple):
    """What the two terms of a sample's loss count, (B,) each.

    Args:
        label: weight of the term that knows the label, a cross entropy.
        divergence: weight of the term that compares two outputs of the network, with beta in it.
    """

    label: jax.Array
    divergence: jax.Array


class Weigh(Protocol):
    """How much the samples of a batch count."""

    def __call__(self, logits: jax.Array, y: jax.Array, beta: float, /) -> Terms:
        """Returns the terms of each sample.

        Args:
            logits: of the attacked points where there are any, else of x, (B, K).
            y: labels, (B,).
            beta: weight of the divergence without class weights, 0 where there is none.
        """


class Outcome(NamedTuple):
    """What an objective saw.

    Args:
        variables: as given, with the running statistics that the batch moved.
        clean: logits of x in training mode, (B, K); None if they were not needed.
        adversarial: logits of the attacked points in training mode, likewise.
        points: the attacked points, (B, ...), or x where nothing attacks.
        losses: of each sample without class weights, (B,): with terms 1 and beta.
    """

    variables: Variables
    clean: jax.Array | None
    adversarial: jax.Array | None
    points: jax.Array
    losses: jax.Array


class Objective(Protocol):
    """What training lowers, once its settings (beta) are given."""

    def __call__(
        self,
        key: jax.Array,
        apply: Apply,
        variables: Variables,
        x: jax.Array,
        y: jax.Array,
        inner: Any,
        /,
        *,
        weigh: Weigh = ...,
        label_loss: Loss = ...,
    ) -> tuple[jax.Array, Outcome]:
        """Returns the loss of a batch, (), and what was seen on the way.

        Args:
            key: one typed key, or one for each sample, (B,); for the attack.
            apply: the network.
            variables: of the network.
            x: inputs, (B, ...), inside the bounds.
            y: labels, (B,).
            inner: the attack, an `InnerAttack`; None for an objective without one.
            weigh: the terms of each sample.
            label_loss: takes the place of the cross entropy that is trained.
        """


def equal_terms(logits: jax.Array, y: jax.Array, beta: float) -> Terms:
    """Returns 1 and beta for every sample, (B,) each: no class is special.

    Args:
        logits: (B, K), which give number and dtype.
        y: labels, (B,), not used.
        beta: weight of the divergence.
    """
    del y
    ones = jnp.ones(logits.shape[0], logits.dtype)
    return Terms(ones, beta * ones)


def natural(
    key: jax.Array,
    apply: Apply,
    variables: Variables,
    x: jax.Array,
    y: jax.Array,
    inner: InnerAttack | None = None,
    *,
    weigh: Weigh = equal_terms,
    label_loss: Loss = cross_entropy,
) -> tuple[jax.Array, Outcome]:
    """Returns the mean of w_i CE_i on the batch as it is.

    Args:
        key, inner: not used; there so that every objective is called in the same way.
        apply: see `apply_of`; called in training mode.
        variables: of the network.
        x: inputs, (B, ...).
        y: labels, (B,).
        weigh: gives each sample's weight, from the clean logits.
        label_loss: takes the place of the cross entropy, see `nets.fairness.balance`.
    """
    del key, inner
    y = class_numbers(y)
    logits, variables = apply(variables, x, True)
    terms = _fixed(weigh, logits, y, 0.0)
    losses = label_loss(logits, y)
    return jnp.mean(terms.label * losses), Outcome(variables, logits, None, x, losses)


def adversarial(
    key: jax.Array,
    apply: Apply,
    variables: Variables,
    x: jax.Array,
    y: jax.Array,
    inner: InnerAttack,
    *,
    weigh: Weigh = equal_terms,
    label_loss: Loss = cross_entropy,
) -> tuple[jax.Array, Outcome]:
    """Returns the mean of w_i CE_i at attacked points: PGD-AT, or FGSM-RS by its inner attack.

    Args:
        key: one typed key, or one for each sample, (B,).
        apply, variables, x, y: as in `natural`; x (B, ...) and y (B,).
        inner: from `pgd_inner` or `fgsm_rs_inner`; it increases the plain cross entropy.
        weigh: gives each sample's weight, from the adversarial logits.
        label_loss: takes the place of the cross entropy that is trained, not of the attack's.

    References:
        madry2018, wong2020fast.
    """
    y = class_numbers(y)
    # The attack increases the plain cross entropy whatever is trained: published methods for class
    # balance change the loss of the parameters alone.
    points, variables = perturb(key, apply, variables, x, _against(y), inner)
    logits, variables = apply(variables, points, True)
    terms = _fixed(weigh, logits, y, 0.0)
    losses = label_loss(logits, y)
    return jnp.mean(terms.label * losses), Outcome(variables, None, logits, points, losses)


def trades(
    key: jax.Array,
    apply: Apply,
    variables: Variables,
    x: jax.Array,
    y: jax.Array,
    inner: InnerAttack,
    *,
    beta: float = 6.0,
    weigh: Weigh = equal_terms,
    label_loss: Loss = cross_entropy,
) -> tuple[jax.Array, Outcome]:
    """Returns the mean of w_i CE_i(x) + v_i KL_i(p(x) || p(x')); v_i is beta without class weights.

    The attack increases the divergence, from the clean outputs as it sees them.

    Args:
        key, apply, variables, x, y: as in `adversarial`; x (B, ...) and y (B,).
        inner: from `near_inner`.
        beta: >= 0, handed to `weigh`.
        weigh: gives w and v of each sample, from the adversarial logits.
        label_loss: takes the place of the cross entropy.

    References:
        zhang2019trades.
    """
    # The clean outputs as the attack sees them, held fixed while it runs. This pass belongs to the
    # attack, and moves the running statistics if its steps do.
    y, trained = class_numbers(y), inner.batch_norm != "eval"
    goal, after = apply(jax.lax.stop_gradient(dict(variables)), x, trained)
    if inner.batch_norm == "train":
        variables = {**variables, **rest_of(after)}
    points, variables = perturb(
        key, apply, variables, x, lambda logits: divergence(goal, logits), inner
    )
    # Clean and attacked points in two passes, as in the published code: in training mode each has
    # its own statistics of the batch, and the running ones move twice.
    clean, variables = apply(variables, x, True)
    attacked, variables = apply(variables, points, True)
    terms = _fixed(weigh, attacked, y, beta)
    label, other = label_loss(clean, y), divergence(clean, attacked)
    loss = jnp.mean(terms.label * label + terms.divergence * other)
    return loss, Outcome(variables, clean, attacked, points, label + beta * other)


def mart(
    key: jax.Array,
    apply: Apply,
    variables: Variables,
    x: jax.Array,
    y: jax.Array,
    inner: InnerAttack,
    *,
    beta: float = 6.0,
    weigh: Weigh = equal_terms,
    label_loss: Loss = cross_entropy,
) -> tuple[jax.Array, Outcome]:
    """Returns the mean of w_i BCE_i(x') + v_i (1 - p_y(x)) KL_i(p(x) || p(x')).

    BCE is the cross entropy - log(1 - max_{k != y} p_k). The published code guards its logarithms
    by 1e-4, 1e-7 and 1e-12; here they are exact, as in the paper, and cannot overflow.

    Args:
        key, apply, variables, x, y, beta, weigh: as in `trades`; x (B, ...) and y (B,).
        inner: from `near_inner`; it increases the plain cross entropy.
        label_loss: takes the place of the cross entropy in BCE.

    References:
        wang2020mart.
    """
    y = class_numbers(y)
    points, variables = perturb(key, apply, variables, x, _against(y), inner)
    clean, variables = apply(variables, x, True)
    attacked, variables = apply(variables, points, True)
    terms = _fixed(weigh, attacked, y, beta)
    label = label_loss(attacked, y) + rival_loss(attacked, y)
    # 1 - p_y(x); by expm1, for 1 minus a probability near one would lose all its digits. It is part
    # of the loss, and so has a gradient, unlike the terms.
    doubt = -jnp.expm1(-cross_entropy(clean, y))
    other = doubt * divergence(clean, attacked)
    loss = jnp.mean(terms.label * label + terms.divergence * other)
    return loss, Outcome(variables, clean, attacked, points, label + beta * other)


def divergence(clean: jax.Array, attacked: jax.Array) -> jax.Array:
    """Returns KL(softmax(clean) || softmax(attacked)), (B,), for logits (B, K).

    >>> import jax.numpy as jnp
    >>> z = jnp.log(jnp.asarray([[0.5, 0.5]])), jnp.log(jnp.asarray([[0.25, 0.75]]))
    >>> [round(float(d), 5) for d in divergence(*z)]  # log(4 / 3) / 2
    [0.14384]
    """
    # From both logarithms: of a probability that underflows to 0 the logarithm would be -inf.
    first, second = jax.nn.log_softmax(clean, -1), jax.nn.log_softmax(attacked, -1)
    return jnp.sum(jnp.exp(first) * (first - second), -1)


def rival_loss(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Returns -log(1 - max_{k != y} p_k), (B,), the second half of MART's boosted cross entropy.

    Args:
        logits: (B, K).
        y: labels, (B,).

    >>> import jax.numpy as jnp
    >>> z = jnp.log(jnp.asarray([[0.2, 0.5, 0.3]]))
    >>> [round(float(v), 5) for v in rival_loss(z, jnp.asarray([0]))]  # log 2
    [0.69315]
    """
    rival = jnp.argmax(jnp.where(is_label(logits, y), -jnp.inf, logits), -1).astype(jnp.int32)
    # -log(1 - p_k) = log(1 + exp(z_k - log sum_{j != k} exp z_j)): no probability is formed, and so
    # p_k near one costs no digits.
    others = jnp.where(is_label(logits, rival), -jnp.inf, logits)
    highest = jnp.take_along_axis(logits, rival[:, None], -1)[:, 0]
    return jax.nn.softplus(highest - jax.scipy.special.logsumexp(others, -1))


def _against(y: jax.Array) -> Callable[[jax.Array], jax.Array]:
    return lambda logits: cross_entropy(logits, y)


def _fixed(weigh: Weigh, logits: jax.Array, y: jax.Array, beta: float) -> Terms:
    """Returns the terms, which have no gradient even where they follow from the logits."""
    # In the dtype of the logits: weights kept in float32 must not lift a loss of another dtype.
    terms = weigh(jax.lax.stop_gradient(logits), y, beta)
    return Terms(*(term.astype(logits.dtype) for term in terms))


class Recipe(NamedTuple):
    """An objective, which may want its beta yet, and its inner attack, a function of the threat.

    Args:
        objective: as in `Objective`: a loss, (), and what was seen.
        inner: the published attack; None where nothing attacks.
    """

    # No `Objective`, which takes no beta; with it, or without the need of one, each of them is one.
    objective: Callable[..., tuple[jax.Array, Outcome]]
    inner: Callable[..., InnerAttack] | None


RECIPES: dict[str, Recipe] = {
    "natural": Recipe(natural, None),
    "pgd": Recipe(adversarial, pgd_inner),
    "fgsm-rs": Recipe(adversarial, fgsm_rs_inner),
    "trades": Recipe(trades, near_inner),
    "mart": Recipe(mart, near_inner),
}
