"""Auto-PGD: gradient ascent without a step size to choose, for linf, l2 and l1."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from nets.attacks.ascent import Ascent, ascend_adaptively
from nets.attacks.attack import (
    AttackResult,
    Bounds,
    Logits,
    Target,
    checked,
    inside,
    keys_of,
    radius_of,
    require_named_ball,
    rows,
)
from nets.attacks.ball import project
from nets.attacks.best import best_of_runs, judge
from nets.attacks.losses import Loss, cross_entropy, is_label, targeted_dlr
from nets.attacks.scale import wide_dtype, widened
from nets.attacks.sparse_ascent import ascend_sparsely
from theory.domain import InvalidInput
from theory.problem import L1Ball, LinfBall, Threat


def apgd(
    key: jax.Array,
    logits_fn: Logits,
    target: Target,
    *,
    steps: int = 100,
    restarts: int = 1,
    loss: Loss = cross_entropy,
) -> AttackResult:
    """Returns what Auto-PGD finds: APGD-CE, or APGD-DLR with loss = nets.attacks.losses.dlr.

    Args:
        key: a typed key, or one for each sample, (B,).
        logits_fn: logits (B, K) of inputs (B, ...).
        target: inputs (B, ...), labels (B,), bounds, and an L1Ball, L2Ball or LinfBall (or the
            LpBall that is one).
        steps: steps of a run, >= 1, or >= 3 for l1, where they are spent at three radii.
        restarts: number of random starts, >= 1; each runs for every sample.
        loss: of logits and labels, (B,).

    Returns:
        The result. x_adv is the last misclassified point of the first run that found one, or x
        where x is misclassified, or else the point of largest loss among x and all points seen.

    Raises:
        InvalidInput: naming the argument; also from dlr, for fewer than three classes.

    References:
        croce2020autoattack; for l1 croce2021l1, with radii 3, 2 and 1 times the one given.
    """
    target, logits_fn = require_named_ball(target), checked(logits_fn)
    _require_counts(target.threat, steps, restarts=restarts)

    def run(keys: jax.Array, _: jax.Array) -> AttackResult:
        return _run(keys, logits_fn, loss, target, steps)

    return _runs(restarts, key, run, target, logits_fn(target.x), loss)


def apgd_targeted(
    key: jax.Array,
    logits_fn: Logits,
    target: Target,
    *,
    steps: int = 100,
    restarts: int = 1,
    targets: int | None = None,
) -> AttackResult:
    """Returns what Auto-PGD finds on the targeted ratio, towards the likeliest classes in turn.

    Args:
        key: a typed key, or one for each sample, (B,).
        logits_fn, target, steps: as for apgd.
        restarts: random starts for each target, >= 1.
        targets: number of classes to aim at, from 1 to K - 1: those of largest logit at x but
            for the label; 9, or K - 1 if that is less, unless it is given.

    Returns:
        The result; its loss is the largest of the targeted ratios, which is the ratio for the
        class that the point is nearest to.

    Raises:
        InvalidInput: for fewer than four classes, where the targeted ratio is not defined, or for
            more targets than there are other classes.

    References:
        croce2020autoattack.
    """
    target, logits_fn = require_named_ball(target), checked(logits_fn)
    y, logits = target.y, logits_fn(target.x)
    targets = _require_targets(targets, logits)
    _require_counts(target.threat, steps, restarts=restarts)

    def towards(place: jax.Array | int) -> Loss:
        return functools.partial(targeted_dlr, target_class=rival(logits, y, place))

    def run(keys: jax.Array, number: jax.Array) -> AttackResult:
        # All restarts of one target before the next target, the likeliest first.
        return _run(keys, logits_fn, towards(number // restarts), target, steps)

    return _runs(targets * restarts, key, run, target, logits, towards(0))


def rival(logits: jax.Array, y: jax.Array, place: jax.Array | int) -> jax.Array:
    """Returns the class with the largest (place 0), second largest, ... logit but for the label.

    Args:
        logits: (B, K).
        y: labels, (B,).
        place: from 0 to K - 2.

    >>> rival(jnp.asarray([[4.0, 1.0, 3.0]]), jnp.asarray([0]), 1).tolist()
    [1]
    """
    own = is_label(logits, y)
    # nan counts as the largest, so that a place never falls on the label.
    size = jnp.where(own, -jnp.inf, jnp.where(jnp.isnan(logits), jnp.inf, logits))
    # Stable, so that classes of equal logit come in the order of their numbers on every device.
    order = jnp.argsort(jnp.where(own, jnp.inf, -size), axis=-1, stable=True)
    return jnp.take(order, place, axis=1).astype(jnp.int32)


def starting_points(threat: Threat, keys: jax.Array, x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns the random starts of Auto-PGD, (B, ...), on the sphere and then cut to the bounds.

    Uniform noise over its largest entry for linf, Gaussian noise over its length for l2, and
    Gaussian noise projected to ball and bounds for l1.

    Args:
        threat: an L1Ball, L2Ball or LinfBall, radius () or (B,).
        keys: one typed key a sample, (B,).
        x: the centres, (B, ...), inside the bounds.
        bounds: (low, high).

    References:
        croce2020autoattack and its code.
    """
    # On the sphere, unlike the `random_start` of PGD: published results begin there.
    shape, dtype = x.shape[1:], x.dtype
    if isinstance(threat, LinfBall):
        noise = jax.vmap(lambda key: jax.random.uniform(key, shape, dtype, -1, 1))(keys)
        size = jnp.max(jnp.abs(noise), tuple(range(1, x.ndim)), keepdims=True)
    else:
        noise = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
        size = jnp.sqrt(jnp.sum(widened(noise) ** 2, tuple(range(1, x.ndim)), keepdims=True))
    if isinstance(threat, L1Ball):
        return project(threat, x + noise, x, bounds)
    moved = radius_of(threat, widened(x)) * widened(noise) / widened(size)
    return inside(x + moved.astype(dtype), bounds)


def _runs(
    number: int,
    key: jax.Array,
    run: Callable[[jax.Array, jax.Array], AttackResult],
    target: Target,
    logits: jax.Array,
    loss: Loss,
) -> AttackResult:
    """Returns the best of a number of runs and of x itself, whose logits are given."""
    clean = judge(target.x, logits, target.y, loss)
    clean = clean._replace(loss=clean.loss.astype(wide_dtype(target.x.dtype)))
    return best_of_runs(number, keys_of(key, target.x.shape[0]), run, clean)


def _run(
    keys: jax.Array, logits_fn: Logits, loss: Loss, target: Target, steps: int
) -> AttackResult:
    """Returns what one run from a random start finds."""
    x, _, threat, bounds = target
    if not isinstance(threat, L1Ball):
        start = starting_points(threat, keys, x, bounds)
        return _result(ascend_adaptively(logits_fn, loss, target, start, steps=steps))
    # For l1 the steps are spent at radii 3 and 2 times the one given, three tenths of them each,
    # and then at that one (croce2021l1): sparse steps reach further in a wide ball, and the best
    # point there, projected, is the next start. Only what is seen in the last ball counts.
    early = min(math.ceil(0.3 * steps), (steps - 1) // 2)
    radius = jnp.asarray(threat.radius).astype(x.dtype)
    start = starting_points(L1Ball(3 * radius), keys, x, bounds)
    climb = functools.partial(ascend_sparsely, logits_fn, loss)

    def widened(i: jax.Array, start: jax.Array) -> jax.Array:
        ball = L1Ball((3 - i).astype(x.dtype) * radius)
        start = project(ball, start, x, bounds)
        return climb(target._replace(threat=ball), start, steps=early).best

    start = project(threat, jax.lax.fori_loop(0, 2, widened, start), x, bounds)
    return _result(climb(target, start, steps=steps - 2 * early))


def _result(ascent: Ascent) -> AttackResult:
    """Returns the last misclassified point of a run, or the one of largest loss if there is none.

    The last: see the peculiarities in `nets.attacks.ascent`.
    """
    return AttackResult(
        jnp.where(rows(ascent.broken, ascent.best), ascent.adversarial, ascent.best),
        ascent.broken,
        jnp.where(ascent.broken, ascent.adversarial_loss, ascent.loss),
    )


def _require_counts(threat: Threat, steps: int, **counts: int) -> None:
    fewest = 3 if isinstance(threat, L1Ball) else 1
    for name, value, least in [("steps", steps, fewest), *((n, c, 1) for n, c in counts.items())]:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidInput(f"{name} = {value!r}: must be an integer >= {least}")


def _require_targets(targets: int | None, logits: jax.Array) -> int:
    classes = logits.shape[-1]
    if classes < 4:
        raise InvalidInput(f"K = {classes} classes: targeted Auto-PGD needs at least 4")
    count = min(9, classes - 1) if targets is None else targets
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count < classes:
        raise InvalidInput(f"targets = {count!r}: must be an integer from 1 to {classes - 1}")
    return count
