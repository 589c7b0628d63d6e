"""The attack inside a training objective, and how both call a network.

The network is a function of its variables, inputs and whether it is in training mode, so that the
attack can see batch normalisation in any of the ways that published methods do.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, cast, get_args

import jax
import jax.numpy as jnp
from flax import linen

from nets.attacks.attack import Bounds, keys_of
from nets.attacks.ball import random_start
from nets.attacks.gradient import Move, Start, ascend_with, near_input
from theory.domain import InvalidInput, require_known
from theory.problem import Threat

Variables = Mapping[str, Any]
BatchNorm = Literal["eval", "batch", "train"]


class Apply(Protocol):
    """A network in training: a pure function of its variables, inputs and mode."""

    def __call__(
        self, variables: Variables, x: jax.Array, train: bool, /
    ) -> tuple[jax.Array, Variables]:
        """Returns the logits (B, K) of inputs (B, ...), and the variables after them.

        In training mode batch normalisation takes the statistics of this batch, and moves the
        running ones; otherwise the variables come back as they are.
        """


class InnerAttack(NamedTuple):
    """The attack inside an objective; use it as it is made by `pgd_inner` and its like.

    Args:
        moves: what one step does, with the ball: one move unless a method says otherwise. Points
            start in the ball of the first.
        steps: number of steps, >= 0.
        start: `random_start`, `near_input`, `at_input` or alike.
        batch_norm: how the attack sees batch normalisation. "eval": running statistics; "batch":
            those of the batch, forgotten; "train": those of the batch, and every step of the
            attack moves the running ones.
        bounds: (low, high) of inputs.
    """

    moves: tuple[Move, ...]
    steps: int = 10
    start: Start = random_start
    batch_norm: BatchNorm = "eval"
    bounds: Bounds = (0.0, 1.0)


def apply_of(module: linen.Module) -> Apply:
    """Returns the module as a function of (variables, x, train) with results (logits, variables).

    In training mode everything but "params" may change; otherwise the variables come back as
    they are.
    """

    def apply(variables: Variables, x: jax.Array, train: bool) -> tuple[jax.Array, Variables]:
        if not train:
            return cast(jax.Array, module.apply(variables, x, train=False)), variables
        result = module.apply(variables, x, train=True, mutable=list(rest_of(variables)))
        logits, changed = cast(tuple[jax.Array, Variables], result)
        held = {name: variables[name] for name in changed}
        # flax computes running statistics of float64 inputs in float64, and starts them in float32.
        changed = jax.tree.map(lambda new, old: new.astype(old.dtype), changed, held)
        return logits, {**variables, **changed}

    return apply


def evaluating(apply: Apply) -> Apply:
    """Returns the network as a function that is never in training mode, whatever it is told.

    With it an objective measures held-out images: nothing moves the running statistics.
    """

    def evaluate(variables: Variables, x: jax.Array, train: bool) -> tuple[jax.Array, Variables]:
        del train
        return apply(variables, x, False)

    return evaluate


def pgd_inner(
    threat: Threat, steps: int = 10, step: float = 0.25, batch_norm: BatchNorm = "train"
) -> InnerAttack:
    """Returns the inner attack of PGD-AT: uniform start, 10 steps of a quarter of the radius.

    Raises:
        InvalidInput: for steps below 1, a step that is not positive, or another batch_norm.

    References:
        madry2018; batch normalisation as in rice2020overfitting.
    """
    return _inner(threat, steps, step, random_start, batch_norm)


def near_inner(
    threat: Threat, steps: int = 10, step: float = 0.25, batch_norm: BatchNorm = "eval"
) -> InnerAttack:
    """Returns the inner attack of TRADES and MART, which starts at x + 0.001 N(0, 1).

    Their step for CIFAR-10 is .007 at the radius .031.

    Raises:
        InvalidInput: as `pgd_inner`.

    References:
        zhang2019trades, wang2020mart.
    """
    return _inner(threat, steps, step, near_input, batch_norm)


def fgsm_rs_inner(
    threat: Threat, step: float = 1.25, batch_norm: BatchNorm = "train"
) -> InnerAttack:
    """Returns the inner attack of FGSM-RS: one step of 1.25 radii from a uniform start, projected.

    It may collapse, see `nets.training.collapse`.

    Raises:
        InvalidInput: as `pgd_inner`.

    References:
        wong2020fast.
    """
    return _inner(threat, 1, step, random_start, batch_norm)


def _inner(
    threat: Threat, steps: int, step: float, start: Start, batch_norm: BatchNorm
) -> InnerAttack:
    require_known("batch_norm", batch_norm, get_args(BatchNorm))
    if not steps >= 1:
        raise InvalidInput(f"steps = {steps}: the inner attack must take at least 1 step")
    if not step > 0:
        raise InvalidInput(f"step = {step:g}: must be > 0, in units of the radius")
    return InnerAttack((Move(threat, step),), steps, start, batch_norm)


def shrunk(inner: InnerAttack, share: jax.Array) -> InnerAttack:
    """Returns the attack with every radius times `share`, (); steps keep their ratio to it."""

    # A radius that may be traced: the warm-up of the radius runs inside the training step. Lengths
    # of steps are in units of the radius, so they shrink with it.
    def smaller(move: Move) -> Move:
        radius = jnp.asarray(move.threat.radius)
        return move._replace(
            threat=move.threat._replace(radius=radius * share.astype(radius.dtype))
        )

    return inner._replace(moves=tuple(smaller(move) for move in inner.moves))


def perturb(
    key: jax.Array,
    apply: Apply,
    variables: Variables,
    x: jax.Array,
    harm: Callable[[jax.Array], jax.Array],
    inner: InnerAttack,
) -> tuple[jax.Array, Variables]:
    """Returns attacked points, (B, ...), and the variables after the attack.

    Neither carries a gradient of the parameters: for "train" the variables differ from those given
    in their running statistics.

    Args:
        key: one typed key, or one for each sample, (B,).
        apply: see `apply_of`.
        variables: of the network.
        x: inputs, (B, ...), inside the bounds.
        harm: what the attack increases, from logits (B, K) to (B,).
        inner: the attack.
    """
    # What the parameters are differentiated through is the loss at the points, not how the points
    # came about (Danskin): without this the gradient would run back through every step.
    frozen = jax.lax.stop_gradient(dict(variables))
    x = jax.lax.stop_gradient(x)
    start = inner.start(inner.moves[0].threat, keys_of(key, x.shape[0]), x, inner.bounds)

    def objective(points: jax.Array, kept: Any) -> tuple[jax.Array, Any]:
        logits, after = apply({**frozen, **kept}, points, inner.batch_norm != "eval")
        # "batch" too normalises by the batch, but forgets what that did to the running statistics.
        return harm(logits), rest_of(after) if inner.batch_norm == "train" else kept

    points, kept = ascend_with(
        objective, rest_of(frozen), start, x, inner.moves, inner.bounds, steps=inner.steps
    )
    return points, {**variables, **kept}


def rest_of(variables: Variables) -> dict[str, Any]:
    """Returns all variables but the parameters: what training mode may change."""
    return {name: value for name, value in variables.items() if name != "params"}
