"""Class risks of linear rules far below what counting can see, by importance sampling.

As in `sims.simulate.two_classes` every coordinate is drawn, every point perturbed, classified and
counted; only the noise comes from a proposal near the boundary, and each point counts with its
likelihood ratio.
"""

from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from sims.rare import proposals
from sims.simulate import attack, sample
from sims.simulate.two_classes import BLOCK, classify, over_blocks
from sims.stats.bounded_mean import bounded_mean_interval
from sims.stats.interval import require_level
from theory.domain import InvalidInput
from theory.problem import GaussianMixture, LinearClassifier, StableMixture, Threat

# Blocks of one call: their sums come back one by one, for the host to use in their order.
MOST_BLOCKS = 256
# By how much rounding may carry a ratio over its bound, and a bound in float32 off the truth.
_SLACK = 2.0**-6
# What float32 rounding of draws, boundaries, ratios and sums adds to an interval, relative.
ROUNDING = 2.0**-13


class RareRisks(NamedTuple):
    """Risks of the classes [negative, positive] with exact intervals, arrays (2,).

    Args:
        estimate: mean of error times likelihood ratio, unbiased; nan where any draw is spoiled.
        low, high: interval; [0, 1] where any draw is spoiled.
        largest_weight: the largest likelihood ratio of an error drawn.
        bound: the largest that an error can have.
        spoiled: draws that were not finite, or whose ratio broke the bound by rounding.
        trials: points drawn of each class, a number.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    largest_weight: np.ndarray
    bound: np.ndarray
    spoiled: np.ndarray
    trials: int


class _Sums(NamedTuple):
    """Of errors' ratios over their bound: by block, (blocks, 2), then over all of them, (2,)."""

    totals: jax.Array
    squares: jax.Array
    largest: jax.Array
    spoiled: jax.Array
    log_bound: jax.Array


def rare_class_risks(
    key: jax.Array,
    mixture: GaussianMixture | StableMixture,
    classifier: LinearClassifier,
    threat: Threat | None,
    trials: int = 2**20,
    level: float = 1e-3,
) -> RareRisks:
    """Returns the risk of each class with an interval that is short even where the risk is tiny.

    The dtype is that of the mixture. Block b draws from fold_in(key, b). Where a class mean itself
    errs, the risk is not rare and points are counted plainly. With d coordinates of stable noise
    and alpha > 1 the interval widens like d^(alpha - 1) / trials; with alpha < 1/2 many float32
    draws overflow and are spoiled, and float64 serves; for alpha between 1.98 and 2 it is wider.

    Half of the interval's width relative to the risk, 2^20 points, level 1e-6, and how many times
    fewer points the estimate needs than a plain count:

        risk     Gaussian, d = 1     alpha = 1.5, d = 1     alpha = 1.9, d = 20
        1e-3     1.0 %, 290          1.6 %, 120             2.8 %, 50
        1e-6     1.3 %, 1.9e5        2.1 %, 6.5e4           3.3 %, 4.4e4
        1e-9     1.4 %, 1.5e8        2.6 %, 4.5e7           3.7 %, 3.7e7

    Args:
        key: a JAX key.
        mixture: one problem, unbatched; stable noise of independent coordinates, or Gaussian.
        classifier: the rule, unbatched.
        threat: the perturbations allowed, or None for natural errors.
        trials: points of each class, in [1, 2^40].
        level: chance that either interval misses its risk, in (0, 1), at most.

    Raises:
        InvalidInput: naming the argument, its value and what is allowed, before any draw.

    References:
        chambers1976method; waudbysmith2024estimating. The proposal of many stable coordinates and
        its bound are new: `sims.rare.proposals`.
    """
    _require(mixture, classifier, threat, trials)
    require_level(level)
    problem = jax.tree.map(
        lambda a: jnp.asarray(a, mixture.means.dtype), (mixture, classifier, threat)
    )
    # At index 2 the proposal for stable noise knows no large coordinate: none has a power tail.
    problem = (_gaussian_at_two(problem[0]), *problem[1:])
    starts = range(0, trials, MOST_BLOCKS * BLOCK)
    sizes = [min(MOST_BLOCKS * BLOCK, trials - start) for start in starts]
    parts = [
        jax.device_get(_sums(key, *problem, np.int32(n), np.uint32(start // BLOCK)))
        for start, n in zip(starts, sizes, strict=True)
    ]
    return _risks(parts, sizes, level)


def _risks(parts: list[_Sums], sizes: list[int], level: float) -> RareRisks:
    bound = np.exp(np.asarray(parts[0].log_bound, float)) * (1 + _SLACK)
    used = [-(-n // BLOCK) for n in sizes]
    totals, squares = (
        np.concatenate([np.asarray(p[k][:b], float) for p, b in zip(parts, used, strict=True)])
        for k in (0, 1)
    )
    trials = sum(sizes)
    # The last block may be a part of one.
    counts = np.minimum(BLOCK, trials - BLOCK * np.arange(len(totals)))
    spoiled = np.stack([p.spoiled for p in parts]).astype(np.int64).sum(0)
    # A class with a spoiled draw gets no estimate: what it would have counted for is not known.
    good = spoiled == 0
    low, high = bounded_mean_interval(counts, totals, squares, level / 2)
    return RareRisks(
        estimate=np.where(good, bound * totals.sum(0) / trials, np.nan),
        low=np.where(good, bound * low * (1 - ROUNDING), 0),
        high=np.where(good, np.minimum(bound * high * (1 + ROUNDING), 1), 1),
        largest_weight=bound * np.max([p.largest for p in parts], axis=0),
        bound=bound,
        spoiled=spoiled,
        trials=trials,
    )


def boundary(
    mixture: GaussianMixture | StableMixture, classifier: LinearClassifier, threat: Threat | None
) -> proposals.Boundary:
    """Returns where noise at unit scale carries the perturbed points of each class over the rule.

    The means are perturbed and scored like any other point.
    """
    y = jnp.asarray(sample.LABELS, mixture.means.dtype)
    margin = y * attack.score(classifier, attack.perturb(threat, classifier, mixture.means, y))
    largest = jnp.max(jnp.abs(classifier.weight))
    unit = jnp.where(largest > 0, largest, 1)
    direction = -y[:, None] * (classifier.weight / unit)[None, :]
    return proposals.Boundary(direction, margin / (mixture.scales * unit))


@jax.jit
def _sums(
    key: jax.Array,
    mixture: Any,
    classifier: LinearClassifier,
    threat: Threat | None,
    trials: jax.Array,
    first_block: jax.Array,
) -> _Sums:
    """Returns sums of the errors' ratios, in units of (1 + _SLACK) times their bound."""
    edge = boundary(mixture, classifier, threat)
    dtype = mixture.means.dtype

    def add(key_of_block: jax.Array, index: jax.Array, wanted: jax.Array, sums: _Sums) -> _Sums:
        drawn = proposals.propose(mixture, edge, key_of_block, BLOCK)
        x = mixture.means[:, None, :] + mixture.scales[:, None, None] * drawn.noise
        wrong, finite = classify(x, classifier, threat)
        value = jnp.where(wrong & finite, drawn.relative / (1 + _SLACK), 0)
        # Rounding may carry a ratio past its bound, and then the interval does not hold.
        good = finite & (value <= 1)
        total, square, largest, spoiled = _reduced(jnp.where(good, value, 0), good, wanted)
        return _Sums(
            sums.totals.at[index].set(total),
            sums.squares.at[index].set(square),
            jnp.maximum(sums.largest, largest),
            sums.spoiled + spoiled,
            drawn.log_bound,
        )

    none, zero = jnp.zeros((MOST_BLOCKS, 2), dtype), jnp.zeros(2, dtype)
    empty = _Sums(none, none, zero, jnp.zeros(2, jnp.int32), zero)
    sums: _Sums = over_blocks(add, empty, key, trials, first_block)
    return sums


def _reduced(value: jax.Array, good: jax.Array, wanted: jax.Array) -> tuple[jax.Array, ...]:
    """Returns sum, sum of squares, maximum and number of bad of the wanted values, (2,).

    One reduction: four of them would draw every point four times.
    """
    value = jnp.where(wanted, value, 0)
    bad = (wanted & ~good).astype(jnp.int32)
    zero = jnp.zeros((), value.dtype)

    def add(old: Any, new: Any) -> tuple[jax.Array, ...]:
        largest = jnp.maximum(old[2], new[2])
        return old[0] + new[0], old[1] + new[1], largest, old[3] + new[3]

    start = (zero, zero, zero, jnp.int32(0))
    rows = [a.reshape(2, -1, 64) for a in (value, value**2, value, bad)]  # keeps rounding small
    once = jax.lax.reduce(tuple(rows), start, add, (2,))
    return tuple(jax.lax.reduce(tuple(once), start, add, (1,)))


def _gaussian_at_two(mixture: Any) -> Any:
    """Returns stable noise of index 2, which is N(0, 2), as Gaussian; all else as it is."""
    if isinstance(mixture, StableMixture) and float(mixture.alpha) == 2:
        return GaussianMixture(mixture.means, mixture.scales * 2**0.5, mixture.prior)
    return mixture


def _require(mixture: Any, classifier: Any, threat: Any, trials: int) -> None:
    """Checks the kinds and shapes of a problem and the number of trials."""
    kinds: tuple[tuple[str, Any, tuple[type, ...]], ...] = (
        ("mixture", mixture, (GaussianMixture, StableMixture)),
        ("classifier", classifier, (LinearClassifier,)),
        ("threat", threat, (*get_args(Threat), type(None))),
    )
    for name, value, allowed in kinds:
        if not isinstance(value, allowed):
            names = ", ".join(kind.__name__.replace("NoneType", "None") for kind in allowed)
            raise InvalidInput(f"{name} = {type(value).__name__}: rare errors need one of {names}")
    if mixture.means.ndim != 2:
        raise InvalidInput(f"means.shape = {mixture.means.shape}: must be (2, d), one problem")
    size = mixture.means.shape[1]
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "weight": (classifier.weight, (size,)),
        "bias": (classifier.bias, ()),
        "scales": (mixture.scales, (2,)),
        "alpha": (getattr(mixture, "alpha", None), ()),
        "covariance": (getattr(mixture, "covariance", None), (size, size)),
        "radius": (getattr(threat, "radius", None), ()),
    }
    for name, (field, shape) in shapes.items():
        if field is not None and field.shape != shape:
            raise InvalidInput(f"{name}.shape = {field.shape}: must be {shape}, one problem")
    if not 1 <= trials <= 2**40:
        raise InvalidInput(f"trials = {trials}: points of each class, must lie in [1, 2^40]")
