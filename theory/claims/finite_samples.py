"""Claims on finite samples: bounds from counted errors, and the price of rules fitted to data.

Each training or test sample is drawn here, from a stream of its own that the simulator does not
know, and held fixed; a claim says what then holds with a stated probability over the sample. The
simulator draws fresh points and counts.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from theory.claims.claim import CLASS_RISKS, RISK, Axis, Claim, Problem, Source
from theory.claims.settings.two_classes import DIMENSION, HALF_GAP, LINF, fixed_rule, isotropic
from theory.domain import NON_NEGATIVE, Interval
from theory.fairness import finite_samples
from theory.problem import GaussianMixture, LinearClassifier
from theory.rules import optimal

MOST = 2**17
# The seed of the samples: part of the claims, not of a sweep, whose seed draws the test points.
STREAM = 7
RADIUS = 0.2
RATIO = 2.0
SAMPLE = Axis("sample", "number of the sample, its whole part", (0, 1, 2), NON_NEGATIVE)


def _count_axis(*counts: float) -> Axis:
    domain = Interval.parse(f"[2, {MOST}]")
    return Axis("count", "points of each class in the sample", counts, domain)


def _sample(mixture: GaussianMixture, sample: jax.Array) -> jax.Array:
    """Returns `MOST` points of each class, (2, MOST, d) in float32: any count takes the first."""
    # In float32 whatever the session, as the claim speaks of this sample and no other.
    key = jax.random.fold_in(jax.random.key(STREAM), sample.astype(jnp.uint32))
    noise = jax.random.normal(key, (2, MOST, DIMENSION), jnp.float32)
    centres, scales = (v.astype(jnp.float32) for v in (mixture.means, mixture.scales))
    return centres[:, None, :] + scales[:, None, None] * noise


def _taken(count: jax.Array) -> jax.Array:
    return jnp.arange(MOST, dtype=count.dtype) < count


def _classes(like: jax.Array) -> GaussianMixture:
    return isotropic(jnp.full_like(like, RATIO))


def _best(like: jax.Array) -> LinearClassifier:
    return optimal.optimal_classifier(_classes(like), LINF.ball(jnp.full_like(like, RADIUS)))


def _least_risk(like: jax.Array) -> jax.Array:
    """Returns the least robust risk, written out for l_inf and isotropic noise."""
    excess = jnp.maximum(jnp.asarray(HALF_GAP, like.dtype) - RADIUS, 0)
    margin = jnp.linalg.norm(excess)
    shift = jnp.log(jnp.full_like(like, RATIO)) / (2 * margin)
    return (RATIO * ndtr(-shift - margin) + ndtr(shift - margin)) / (1 + RATIO)


def _least_plus(excess: jax.Array, count: jax.Array, sample: jax.Array) -> tuple[jax.Array]:
    """Returns the least robust risk plus an excess, at most one, whatever the sample is."""
    return (jnp.minimum(_least_risk(count) + excess, 1) + 0 * sample,)


def _errors(count: jax.Array, sample: jax.Array) -> jax.Array:
    """Returns how many of the first `count` points of each class the fixed rule gets wrong, (2,).

    With the largest l_inf loss on each point, in float32 whatever the session.
    """
    single = jnp.zeros((), jnp.float32)
    rule = jax.tree.map(lambda v: v.astype(jnp.float32), fixed_rule(single))
    points = _sample(_classes(single), sample)
    scores = jnp.matmul(points, rule.weight, precision=jax.lax.Precision.HIGHEST) + rule.bias
    loss = RADIUS * jnp.sum(jnp.abs(rule.weight))
    wrong = jnp.stack([-scores[0], scores[1]]) <= loss
    return jnp.sum(wrong & _taken(count)[None, :], -1)


def counted_risk(
    name: str,
    source: Source,
    upper: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    counts: tuple[float, ...],
    formula: str,
) -> Claim:
    """Returns the claim that a risk is at most a bound from the errors of a sample.

    Args:
        name: of the bound.
        source: where it is from.
        upper: errors (2,), points of each class () and level () -> bounds of both classes, (2,).
        counts: the default sizes of the sample.
        formula: the bound in words.
    """

    def problem(count: jax.Array, sample: jax.Array) -> Problem:
        threat = LINF.ball(jnp.full_like(count, RADIUS))
        return Problem(_classes(count), fixed_rule(count + 0 * sample), threat)

    def predict(count: jax.Array, sample: jax.Array) -> tuple[jax.Array, ...]:
        errors = _errors(count, sample).astype(count.dtype)
        bound = jnp.minimum(upper(errors, count, jnp.full_like(count, 1e-3)), 1)
        return bound[0], bound[1]

    return Claim(
        name=f"{name}-bound",
        statement="With probability at least 99.9 % over a sample of each class, a class risk is "
        f"at most {formula}.",
        source=source,
        axes=(_count_axis(*counts), SAMPLE._replace(default=(0, 1))),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=CLASS_RISKS,
        assumptions=("any law and rule; here Gaussian and robust risk", f"linf radius {RADIUS:g}"),
    )


def fitted_means() -> Claim:
    """Returns the claim that a rule with estimated class means rarely costs much."""
    # Markov: an excess above its mean over this chance is no likelier than the chance.
    chance = 0.01

    def problem(count: jax.Array, sample: jax.Array) -> Problem:
        classes, threat = _classes(count), LINF.ball(jnp.full_like(count, RADIUS))
        # A mask, not a slice: shapes do not depend on the count, which is traced.
        points = _sample(classes, sample).astype(count.dtype)
        taken = jnp.where(_taken(count)[:, None], points, 0)
        estimated = classes._replace(means=jnp.sum(taken, 1) / count)
        return Problem(classes, optimal.optimal_classifier(estimated, threat), threat)

    def predict(count: jax.Array, sample: jax.Array) -> tuple[jax.Array]:
        classes, threat = _classes(count), LINF.ball(jnp.full_like(count, RADIUS))
        excess = finite_samples.plug_in_excess_risk(classes, threat, jnp.stack([count, count]))
        return _least_plus(excess / chance, count, sample)

    return Claim(
        name="plug-in-excess-risk",
        statement="With probability at least 99 % over the training sample, the robust-optimal "
        "rule of the sample means exceeds the least robust risk by at most 100 times the mean "
        "excess v (d - 1) / kappa + ..., of order d / n (Markov's inequality).",
        source=Source("boucheron2013concentration", "Markov's inequality; T28 (new)"),
        axes=(_count_axis(256, 8192, MOST), SAMPLE),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=RISK,
        assumptions=("Gaussian, isotropic, equal scales; noise and prior known", "many points"),
    )


def fitted_intercept() -> Claim:
    """Returns the claim that the intercept with the fewest weighted robust errors is good."""
    level = 0.1

    def problem(count: jax.Array, sample: jax.Array) -> Problem:
        classes, threat = _classes(count), LINF.ball(jnp.full_like(count, RADIUS))
        # The direction is known; only the intercept is fitted, which is what the bound is about.
        weight = _best(count).weight
        scores = jnp.matmul(_sample(classes, sample).astype(count.dtype), weight)
        loss = RADIUS * jnp.sum(jnp.abs(weight))
        threshold = _fewest_errors(
            scores[0] + loss, scores[1] - loss, _taken(count), classes.prior, count
        )
        return Problem(classes, LinearClassifier(weight, -threshold), threat)

    def predict(count: jax.Array, sample: jax.Array) -> tuple[jax.Array]:
        prior, counts = _classes(count).prior, jnp.stack([count, count])
        excess = finite_samples.intercept_excess_bound(prior, counts, jnp.full_like(count, level))
        return _least_plus(excess, count, sample)

    return Claim(
        name="trained-intercept-excess-risk",
        statement="With probability at least 90 % over the training sample, the intercept of the "
        "fewest prior-weighted robust errors exceeds the least robust risk of its direction by at "
        "most 2 (pi_+ e_+ + pi_- e_-), e_y = sqrt(log(40) / (2 n_y)).",
        source=Source("massart1990dkw", "T29 (new)"),
        axes=(_count_axis(256, 8192, MOST), SAMPLE),
        problem=problem,
        predict=predict,
        relation="<=",
        estimand=RISK,
        assumptions=("any law; here Gaussian, isotropic, equal scales", f"linf radius {RADIUS:g}"),
    )


def _fewest_errors(
    negative: jax.Array, positive: jax.Array, taken: jax.Array, prior: jax.Array, count: jax.Array
) -> jax.Array:
    """Returns the threshold with the least prior-weighted error rate on two samples, (MOST,) each.

    A negative point above it and a positive one below it are errors.
    """
    passed = jnp.concatenate(
        [jnp.where(taken, (prior - 1) / count, 0), jnp.where(taken, prior / count, 0)]
    )
    values = jnp.concatenate([negative, positive])
    # Points that are not of the sample lie past all others and weigh nothing.
    values = jnp.where(jnp.tile(taken, 2), values, jnp.inf)
    order = jnp.argsort(values)
    ordered, cost = values[order], jnp.cumsum(passed[order])
    place = jnp.argmin(jnp.where(jnp.isfinite(jnp.roll(ordered, -1)), cost, jnp.inf))
    return (ordered[place] + ordered[place + 1]) / 2


def _by_hoeffding(errors: jax.Array, count: jax.Array, level: jax.Array) -> jax.Array:
    return errors / count + finite_samples.hoeffding(count, level)


def _by_bernstein(errors: jax.Array, count: jax.Array, level: jax.Array) -> jax.Array:
    return errors / count + finite_samples.empirical_bernstein(errors, count, level)


COUNTS = (256, 2048, 16384, MOST)
CLAIMS = (
    counted_risk(
        "hoeffding",
        Source("hoeffding1963", "T27"),
        _by_hoeffding,
        COUNTS,
        "its error rate on the sample plus sqrt(log(2000) / (2 n))",
    ),
    counted_risk(
        "empirical-bernstein",
        Source("maurer2009empirical", "T27"),
        _by_bernstein,
        COUNTS,
        "its error rate on the sample plus sqrt(2 V log(4000) / n) + 7 log(4000) / (3 (n - 1)), "
        "V the variance of its errors",
    ),
    counted_risk(
        "exact-binomial",
        Source("clopper1934", "T27"),
        finite_samples.exact_upper,
        (64, *COUNTS[:-1]),
        "the risk at which so few errors, or fewer, have probability 0.1 %",
    ),
    fitted_means(),
    fitted_intercept(),
)
