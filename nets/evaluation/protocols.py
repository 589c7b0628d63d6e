"""Lists of attacks by name, from a first look to the strongest; one exact attack where there is."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from nets.attacks.attack import AttackResult, Logits, Target
from nets.attacks.linear import exact
from nets.evaluation.ensemble import method, standard
from nets.evaluation.outcomes import AttackRun
from theory.domain import require_known
from theory.problem import LinearScores, Threat

PROTOCOLS: dict[str, Callable[[int, Threat], tuple[str, ...]]] = {
    "quick": lambda classes, threat: ("pgd", "pgd-margin"),
    "budget": lambda classes, threat: standard(classes, threat)[:-1],
    "standard": standard,
}
STEPS = {"quick": 20}
EXACT = "exact"


def methods(
    protocol: str, classes: int, threat: Threat, linear: bool = False
) -> dict[str, AttackRun]:
    """Returns the attacks of a protocol by name, in the order in which they run.

    Of a linear network the worst point of ball and box has a closed form, which every protocol
    uses in place of its attacks: they would find no more, and robust accuracy is then exact.

    Args:
        protocol: "quick" (two PGD attacks of 20 steps), "budget" (Auto-PGD with 100 steps on
            cross-entropy and targeted: they find nearly all that the standard ensemble does) or
            "standard" (the same, then Square).
        classes: K of the network.
        threat: only its norm matters.
        linear: whether the network is, see `nets.models.registry.is_linear`.

    Raises:
        InvalidInput: for an unknown protocol.
    """
    require_known("protocol", protocol, PROTOCOLS)
    if linear:
        return {EXACT: AttackRun(_exact)}
    steps = STEPS.get(protocol, 100)
    names = PROTOCOLS[protocol](classes, threat)
    return {name: method(name, classes, threat, steps=steps) for name in names}


def _exact(keys: jax.Array, logits_fn: Logits, target: Target, turn: jax.Array) -> AttackResult:
    """Returns the exact attack on a linear network, as an evaluation runs it; no randomness."""
    return exact(_scores_of(logits_fn, target.x), target)


def _scores_of(logits_fn: Logits, x: jax.Array) -> LinearScores:
    """Returns weights (K, d) and biases (K,) of a function of inputs (b, ...) that is affine."""
    # From the function, not from the parameters: so the normalisation of pixels is in them.
    origin = jnp.zeros_like(x[:1])
    biases = logits_fn(origin)[0]
    weights = jax.jacrev(lambda point: logits_fn(point)[0])(origin)
    return LinearScores(weights.reshape(biases.size, -1), biases)
