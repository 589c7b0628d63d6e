"""The attacks that an evaluation runs in a row, by name, and the standard ensemble of them.

What is left out of the standard ensemble of Croce and Hein is FAB: it finds smaller perturbations,
not more of them at a given radius, and next to the others it changes robust accuracy by tenths of a
point. A result names the attacks that ran.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from nets.attacks.apgd import apgd, rival
from nets.attacks.attack import (
    AttackResult,
    Logits,
    Target,
    as_bounds,
    checked,
    require_classes,
    require_count,
    require_named_ball,
)
from nets.attacks.gradient import pgd
from nets.attacks.losses import Loss, cross_entropy, dlr, margin, targeted_dlr
from nets.attacks.square import square
from nets.attacks.threats import is_l1
from nets.data.pixels import to_floats
from nets.evaluation.outcomes import (
    BLOCK,
    AttackRun,
    AttackTurn,
    Outcomes,
    evaluate,
)
from nets.evaluation.requirements import require_pixels
from theory.domain import InvalidInput, require_known
from theory.problem import Threat

# The ratio divides by a distance to the third largest logit, the targeted one to third and fourth.
_FEWEST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
# Runs of Auto-PGD on one loss, and target classes at most, of the published ensemble: l1 has more
# of the first and fewer of the second.
_STARTS, _TARGETS = {True: 5, False: 1}, {True: 5, False: 9}


NAMES = ("pgd", "pgd-margin", "apgd-ce", "apgd-dlr", "apgd-margin", "apgd-t", "square")
_LOSSES: dict[str, Loss] = {
    "pgd": cross_entropy,
    "pgd-margin": margin,
    "apgd-ce": cross_entropy,
    "apgd-dlr": dlr,
    "apgd-margin": margin,
}


# Held, because what is compiled is found again by the function.
@functools.cache
def _run(name: str, steps: int, queries: int) -> AttackTurn:
    """Returns the attack of that name as a method runs it."""

    def run(
        keys: jax.Array,
        logits_fn: Logits,
        target: Target,
        turn: jax.Array,
    ) -> AttackResult:
        if name == "square":
            return square(keys, logits_fn, target, queries=queries)
        if name == "apgd-t":
            aim = rival(logits_fn(target.x), target.y, turn)
            loss: Loss = functools.partial(targeted_dlr, target_class=aim)
        else:
            loss = _LOSSES[name]
        attack: Callable[..., AttackResult] = pgd if name.startswith("pgd") else apgd
        return attack(keys, logits_fn, target, steps=steps, loss=loss)

    return run


def method(
    name: str,
    classes: int,
    threat: Threat,
    *,
    steps: int = 100,
    queries: int = 5000,
    targets: int | None = None,
) -> AttackRun:
    """Returns an attack by name, with the turns that the standard ensemble gives it.

    Args:
        name: one of NAMES: PGD on cross-entropy or margin, Auto-PGD on cross-entropy, the
            difference-of-logits ratio, the margin, or the targeted ratio for each of the 9
            likeliest other classes (5 for l1), Square. For l1 both PGDs have five random starts.
        classes: K of the network.
        threat: only its norm matters.
        steps: of PGD or a run of Auto-PGD.
        queries: of Square.
        targets: how many classes the targeted ratio aims at, in [1, K - 1], instead.

    Raises:
        InvalidInput: for an unknown name, or fewer classes than the attack's loss needs.

    References:
        croce2020autoattack, croce2021l1.
    """
    require_known("attack", name, NAMES)
    # Before anything runs: the attack itself would say it once clean inputs are classified.
    require_count("steps", steps, 3 if is_l1(threat) and name.startswith("apgd") else 1)
    require_count("queries", queries, 1)
    require_count("targets", 1 if targets is None else targets, 1)
    if classes < _FEWEST_CLASSES.get(name, 2):
        raise InvalidInput(
            f"attack = {name!r}: needs {_FEWEST_CLASSES[name]} classes, the network has {classes}; "
            f"the standard ensemble for {classes} is {', '.join(standard(classes, threat))}"
        )
    sparse = is_l1(threat)
    turns = 1 if name == "square" else _STARTS[sparse]
    if name == "apgd-t":
        turns = min(_TARGETS[sparse], classes - 1) if targets is None else targets
        if not 1 <= turns < classes:
            raise InvalidInput(f"targets = {targets}: must lie between 1 and {classes - 1}")
    return AttackRun(_run(name, steps, queries), turns)


def standard(classes: int, threat: Threat | None = None) -> tuple[str, ...]:
    """Returns the names of the attacks of the standard ensemble for a number of classes.

    Auto-PGD on cross-entropy, targeted Auto-PGD and Square. The targeted ratio needs four classes;
    for two or three, Auto-PGD on the margin takes its place. For l1 there is PGD besides: where the
    bounds hold many coordinates, the sparse steps of l1 Auto-PGD miss points that it finds.

    >>> standard(10)
    ('apgd-ce', 'apgd-t', 'square')
    >>> standard(2)
    ('apgd-ce', 'apgd-margin', 'square')
    """
    extra = ("pgd-margin",) if is_l1(threat) else ()
    return ("apgd-ce", *extra, "apgd-t" if classes >= 4 else "apgd-margin", "square")


def ensemble(
    key: jax.Array,
    logits_fn: Logits,
    target: Target,
    *,
    attacks: tuple[str, ...] | None = None,
    steps: int = 100,
    queries: int = 5000,
    targets: int | None = None,
    block: int = BLOCK,
    devices: Sequence[jax.Device] | None = None,
) -> Outcomes:
    """Returns what falls to a row of attacks, each run on the samples that still stand.

    Args:
        key, block, devices: as for `nets.evaluation.outcomes.evaluate`.
        target: inputs (n, ...), floats or uint8 images, which become [0, 1]; labels (n,), bounds,
            and a ball of norm 1, 2 or infinity.
        logits_fn: logits (b, K) of inputs (b, ...), each row from its row. It is traced anew at
            every call, so that the weights that it has now count; the arrays that it captures are
            arguments of what is compiled, which is compiled once for any of them.
        attacks: names out of NAMES in the order in which they run; standard(K, threat) if
            None.
        steps: of PGD or a run of Auto-PGD.
        queries: of Square.
        targets: see `method`.

    Raises:
        InvalidInput: naming the argument, before anything runs; or, as `evaluate`, once clean
            inputs are classified.
        RuntimeError: if an attack leaves ball or bounds.

    References:
        croce2020autoattack.
    """
    if getattr(target.x, "dtype", None) == np.uint8:
        require_pixels(as_bounds(target.bounds))
        target = target._replace(x=to_floats(jnp.asarray(target.x)))
    x, labels, threat, bounds = require_named_ball(target)
    # Of a few: the shape of a row is that of all.
    logits = jax.eval_shape(checked(logits_fn), x[:1])
    require_classes(jnp.zeros((len(labels), logits.shape[1])), labels)
    classes = logits.shape[1]
    names = standard(classes, threat) if attacks is None else tuple(attacks)
    if len(set(names)) < len(names) or not names:
        raise InvalidInput(f"attacks = {names}: must be different names, one at least")
    if "square" in names and x.ndim != 4:
        raise InvalidInput(
            f"x.shape = {x.shape}: Square needs images (n, h, w, c); name the attacks without it"
        )
    named = functools.partial(
        method, classes=classes, threat=threat, steps=steps, queries=queries, targets=targets
    )
    methods = {name: named(name) for name in names}
    # As a Partial: what it holds may change from call to call, and `evaluate` traces it anew.
    model = logits_fn if isinstance(logits_fn, Partial) else Partial(logits_fn)
    return evaluate(
        key,
        _call,
        model,
        np.asarray(x),
        np.asarray(labels),
        threat,
        methods,
        classes=classes,
        bounds=bounds,
        block=min(block, len(labels)) if len(labels) else block,
        devices=devices,
    )


def _call(model: Partial, x: jax.Array) -> jax.Array:
    logits: jax.Array = model(x)
    return logits
