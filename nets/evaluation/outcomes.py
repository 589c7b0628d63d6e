"""Clean and robust outcomes of a network, sample by sample, under a list of attacks.

Attacks run one after the other; a sample that one of them has broken is not shown to the next.
What is recorded of a sample depends on the network, the sample, its key and the block size alone:
not on the other samples, their order, or the devices.
"""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from numpy.typing import NDArray

from nets.attacks.attack import (
    AttackResult,
    Bounds,
    Logits,
    Target,
    as_bounds,
    keys_of,
    require_count,
)
from nets.attacks.ball import norm
from nets.attacks.losses import is_label, misclassified
from nets.compute.blocks import Progress, over_blocks
from nets.compute.compiler import by_program, jit, settled
from nets.data.pixels import to_floats
from nets.evaluation.per_class import require_labels
from nets.evaluation.requirements import (
    PIXELS,
    require_finite,
    require_inputs,
    require_network,
    require_rows,
)
from theory.domain import InvalidInput
from theory.problem import Threat

BLOCK = 128
CLEAN = "clean"
Apply = Callable[[Any, jax.Array], jax.Array]
# Of a name, a turn, the numbers of samples, what computes some of them, and what takes the share
# done, the outcomes of those samples.
Kept = Callable[
    [
        str,
        int,
        NDArray[Any],
        Callable[[NDArray[Any], Progress | None], "SampleOutcomes"],
        Progress | None,
    ],
    "SampleOutcomes",
]


class AttackTurn(Protocol):
    """One turn of an attack, a pure function of a block of samples, each on its own."""

    def __call__(
        self, keys: jax.Array, logits_fn: Logits, target: Target, turn: jax.Array, /
    ) -> AttackResult:
        """Returns what the attack finds.

        Args:
            keys: one typed key a sample, (b,), other ones in every turn.
            logits_fn: the network.
            target: inputs (b, ...), labels (b,), bounds, and a ball of radius (b,).
            turn: its number, 0, 1, ..., (), int32, traced.
        """


class AttackRun(NamedTuple):
    """An attack as an evaluation runs it.

    Args:
        run: one turn. One of this package is found again by identity, so hold it, or it is compiled
            anew; any other is traced at every evaluation, as it then is.
        turns: how often it runs, with turn = 0, 1, ..., each on what still stands: restarts or
            target classes.
    """

    run: AttackTurn
    turns: int = 1


class Outcomes(NamedTuple):
    """What is known of each of n samples after clean evaluation and A attacks.

    Args:
        attacks: "clean", then the attacks in the order in which they ran.
        correct: (1 + A, n), whether the sample is correct without attack, and whether it still is
            after each attack and all before it. An attack's success counts only if the network
            errs at the point that it returned.
        predicted: the class that the network says without attack and, under the attacks, at the
            point that broke the sample, or its own class if none did; (2, n).
        probabilities: softmax at the clean sample and at the first attack's point, (2, n, K).
        x_adv: the point that broke each sample, or the sample itself, (n, ...).
        nonfinite: samples with a logit that was not finite, anywhere.
    """

    attacks: tuple[str, ...]
    correct: NDArray[np.bool_]
    predicted: NDArray[np.int32]
    probabilities: NDArray[np.floating]
    x_adv: NDArray[np.floating]
    nonfinite: int

    @property
    def fell_to(self) -> NDArray[np.int64]:
        """The place in `attacks` of what each sample fell to, -1 if it stands, (n,)."""
        place = np.argmin(self.correct, axis=0)
        return np.where(self.correct[-1], -1, place)


class SampleOutcomes(NamedTuple):
    """What one turn of one attack says of some samples.

    Args:
        correct, predicted, finite, inside: (b,), see `Outcomes`; inside: of ball and bounds.
        probabilities, x_adv: softmax (b, K) at the point that was returned, (b, ...).
    """

    correct: Any
    predicted: Any
    probabilities: Any
    x_adv: Any
    finite: Any
    inside: Any


def evaluate(
    key: jax.Array,
    apply: Apply,
    variables: Any,
    images: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    methods: Mapping[str, AttackRun],
    *,
    classes: int,
    bounds: Bounds = PIXELS,
    block: int = BLOCK,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[str], Progress] | None = None,
    kept: Kept | None = None,
) -> Outcomes:
    """Returns the outcomes of every sample without attack and under each attack.

    Args:
        key: a typed key, of which sample i gets fold_in(key, i), or an array of typed keys (n,).
        apply: (variables, x (b, ...)) -> logits (b, K), in evaluation mode, each row from its row.
            The method of a network of this package is compiled once; any other function is traced
            anew at every call, and its present weights count, whether they come as variables or are
            captured. What it draws in Python, it draws while it is traced.
        variables: of the network.
        images: uint8 (n, h, w, c), which become [0, 1], or floats inside the bounds, (n, ...).
        labels: in [0, K), (n,).
        threat: an L1Ball, L2Ball or LinfBall with a radius of shape () or (n,).
        methods: attacks by name, in the order in which they run.
        classes: K.
        bounds: (low, high) of every entry of an input; (0, 1) for uint8, as the radius is then.
        block: samples computed together.
        devices: where to compute; all local devices if None.
        progress: given the name of an attack returns what takes the share done.
        kept: what asks for the outcomes of a turn piece by piece and may know some, see
            `nets.evaluation.unfinished.KeptTurns`.

    Raises:
        InvalidInput: naming the argument, before any computation; and once clean images are
            classified, for a network whose outputs depend on the batch, or are never finite.
        RuntimeError: if an attack leaves ball or bounds.
    """
    images, labels, bounds = np.asarray(images), np.asarray(labels), as_bounds(bounds)
    require_labels(labels, classes)
    require_inputs(images, labels, threat, bounds)
    if CLEAN in methods:
        raise InvalidInput(f"methods: {CLEAN!r} names the outcome without attack")
    require_count("block", block, 1)
    keys = keys_of(key, len(labels))
    require_network(apply, variables, images[: min(block, len(labels))], classes)
    radius = np.broadcast_to(np.asarray(threat.radius), labels.shape)
    samples = (keys, images, labels.astype(np.int32), radius)
    kind: Any = type(threat)
    ours = settled(apply) and not isinstance(variables, Partial)

    # Of this evaluation: however many turns and blocks, what is not ours is traced once.
    @functools.cache
    def compiled(method: AttackRun | None) -> Callable[..., SampleOutcomes]:
        if ours and (method is None or settled(method.run)):
            return _compiled(apply, method, kind, bounds)
        return by_program(_outcome(apply, method, kind, bounds))

    def run(name: str, method: AttackRun | None, turn: int, chosen: np.ndarray) -> SampleOutcomes:
        """Returns the outcomes of the chosen samples under one turn of one attack."""
        turns = method.turns if method else 1
        told = progress(f"{name} {turn + 1}" if turns > 1 else name) if progress else None

        def compute(rows: np.ndarray, told: Progress | None) -> SampleOutcomes:
            # The name as a number, so that attacks of other names have other random numbers without
            # one compilation for each; not `hash`, which differs from process to process.
            outcomes: SampleOutcomes = over_blocks(
                compiled(method),
                (variables, np.uint32(zlib.crc32(name.encode())), np.int32(turn)),
                [array[rows] for array in samples],
                block=block,
                devices=devices,
                progress=told,
            )
            # No bad input but an error of the attack: whatever it found is no adversarial example.
            if not outcomes.inside.all():
                raise RuntimeError(f"{name} left ball or bounds: its results cannot be trusted")
            return outcomes

        # Clean outcomes take no time and are looked at anew: what is kept is of this network.
        if kept is None or method is None:
            return compute(chosen, told)
        return kept(name, turn, chosen, compute, told)

    everyone = np.arange(len(labels))
    turned = run(CLEAN, None, 0, everyone)
    require_finite(turned.finite)
    # By what is compiled for the clean images: one more block of them.
    shared = variables, np.uint32(0), np.int32(0)
    again = functools.partial(
        over_blocks, compiled(None), shared, block=block, devices=devices, progress=None
    )
    require_rows(
        lambda rows: again(rows).probabilities, samples, bounds, turned.probabilities, block
    )
    predicted = np.stack([turned.predicted] * 2)
    probabilities = np.stack([turned.probabilities] * 2)
    correct, x_adv, finite = [turned.correct], turned.x_adv, turned.finite
    for place, (name, method) in enumerate(methods.items()):
        standing = correct[-1].copy()
        for turn in range(method.turns):
            # The first is shown every sample: its softmax is the similarity of the classes.
            first = place == turn == 0
            chosen = everyone if first else np.flatnonzero(standing)
            if not chosen.size:
                break
            turned = run(name, method, turn, chosen)
            broken = standing[chosen] & ~turned.correct
            fallen = chosen[broken]
            standing[fallen] = False
            predicted[1, fallen], x_adv[fallen] = turned.predicted[broken], turned.x_adv[broken]
            finite[chosen] &= turned.finite
            if first:
                probabilities[1] = turned.probabilities
        correct.append(standing)
    nonfinite = int((~finite).sum())
    return Outcomes(
        (CLEAN, *methods), np.stack(correct), predicted, probabilities, x_adv, nonfinite
    )


# Held, so that an attack is compiled once for a network, however often it is evaluated.
@functools.lru_cache(maxsize=32)
def _compiled(
    apply: Apply,
    method: AttackRun | None,
    kind: Callable[[jax.Array], Threat],
    bounds: Bounds,
) -> Callable[..., SampleOutcomes]:
    """Returns the compiled function of one block under one turn of one attack."""
    return jit(_outcome(apply, method, kind, bounds))


def _outcome(
    apply: Apply,
    method: AttackRun | None,
    kind: Callable[[jax.Array], Threat],
    bounds: Bounds,
) -> Callable[..., SampleOutcomes]:
    """Returns the function of one block under one turn of one attack, not compiled."""

    def outcome(
        shared: tuple[Any, jax.Array, jax.Array],
        keys: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        radius: jax.Array,
    ) -> SampleOutcomes:
        variables, salt, turn = shared
        x = x_adv = to_floats(images)
        threat = kind(radius.astype(x.dtype))

        def logits_of(points: jax.Array) -> jax.Array:
            return apply(variables, points)

        if method is not None:
            salted = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, salt), turn))
            target = Target(x, labels, threat, bounds)
            x_adv = method.run(salted(keys), logits_of, target, turn).x_adv
        logits = logits_of(x_adv)
        finite = jnp.isfinite(logits).all(-1)
        return SampleOutcomes(
            ~misclassified(logits, labels),
            _predicted_class(logits, labels, finite),
            jax.nn.softmax(logits),
            x_adv,
            finite,
            _is_inside(threat, x_adv, x, bounds),
        )

    return outcome


def _is_inside(threat: Threat, x_adv: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns whether each point is in bounds and, up to rounding, in its ball, (b,)."""
    # A sum over the coordinates of a difference rounds once for each of them, and errors that are
    # independent grow with the root of their number.
    slack = 64 * float(jnp.finfo(x.dtype).eps)
    flat = x_adv.reshape(x.shape[0], -1)
    span = slack * jnp.maximum(jnp.max(jnp.abs(flat), -1), 1) * flat.shape[1] ** 0.5
    size = norm(threat, x_adv - x)
    in_ball = size <= (threat.radius * (1 + slack) + span).astype(size.dtype)
    inside: jax.Array = in_ball & ((flat >= bounds[0]) & (flat <= bounds[1])).all(-1)
    return inside


def _predicted_class(logits: jax.Array, labels: jax.Array, finite: jax.Array) -> jax.Array:
    """Returns the predicted classes, (n,); one that ties with the true class is what is said."""
    true_logit = jnp.take_along_axis(logits, labels[:, None], -1)
    true = is_label(logits, labels)
    others = jnp.where(true | jnp.isnan(logits), -jnp.inf, logits)
    lost = (jnp.max(others, -1, keepdims=True) >= true_logit) | ~finite[:, None]
    return jnp.argmax(jnp.where(true & ~lost, jnp.inf, others), -1).astype(jnp.int32)
