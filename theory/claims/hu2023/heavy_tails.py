"""Claims of Hu, Wu, Zhang and Zhao (ICML 2023) on stable mixtures, where imbalance acts otherwise.

As in `hu2023`, the results are re-derived: the paper says that imbalance "plays a fundamentally
different role" under heavy tails, and these claims say which.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from theory.claims.claim import CLASS_RISKS, DISPARITY, RISK, Axis, Claim, Failure, Problem, Source
from theory.claims.settings.two_classes import LINF, Norm, means, radius_axis
from theory.domain import REAL, Interval
from theory.problem import LinearClassifier, StableMixture, imbalance_ratio, prior_of_ratio
from theory.rules import optimal
from theory.rules import risk as linear
from theory.rules.direction import optimal_direction
from theory.rules.intercept import optimal_shift

KEY = "hu2023accuracydisparity"
SHAPE = "independent stable noise, equal class scales"
MAJORITY_NEGATIVE = Interval.parse("[1, inf)")
TABULATED, HEAVY = Interval.parse("[0.1, 2]"), Interval.parse("[0.1, 2)")


# How far the classes stand apart, in units of `settings.means`: tails matter, and both rules occur.
SEPARATION = 2.0
INDEX = Axis(
    "stability_index",
    "stability index of the noise: 1 is Cauchy, 2 is Gaussian",
    (1.0, 1.5),
    TABULATED,
)


def _ratio_axis(*ratios: float) -> Axis:
    meaning = "imbalance ratio P(y = -1) / P(y = +1)"
    return Axis("imbalance_ratio", meaning, ratios, MAJORITY_NEGATIVE)


def _mixture(imbalance_ratio: jax.Array, stability_index: jax.Array) -> StableMixture:
    return StableMixture(
        SEPARATION * means(imbalance_ratio),
        jnp.ones(2, imbalance_ratio.dtype),
        prior_of_ratio(imbalance_ratio),
        stability_index,
    )


def _optimum(norm: Norm, radius: jax.Array, **law: jax.Array) -> Problem:
    mixture, threat = _mixture(**law), norm.ball(radius)
    return Problem(mixture, optimal.optimal_classifier(mixture, threat), threat)


@functools.cache
def _trained(norm: Norm) -> Callable[..., Problem]:
    """Returns the problem of a rule trained for the threat and evaluated without it."""
    return lambda **parameters: _optimum(norm, **parameters)._replace(threat=None)


def _reduced(norm: Norm, radius: jax.Array, **law: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the natural margin and the intercept of the robust-optimal rule."""
    mixture = _mixture(**law)
    direction = optimal_direction(mixture, norm.ball(radius))
    ratio = imbalance_ratio(mixture.prior)
    shift = optimal_shift(direction.margin, mixture.scales, ratio, mixture.alpha)
    # The means lie symmetrically, so that the positive one is half their difference.
    natural = jnp.sum(direction.weight * mixture.means[1])
    # A constant rule is an infinite intercept: the distribution function then gives 0 and 1.
    scale = linear.projection_scale(mixture, direction.weight)
    return natural / scale, jnp.where(shift.trivial, shift.label * jnp.inf, shift.beta)


def optimal_class_risks(norm: Norm) -> Claim:
    """Returns the claim that the robust optimum's natural class risks have a closed form."""

    def predict(**parameters: jax.Array) -> tuple[jax.Array, jax.Array]:
        # On a line, by margin and intercept; the simulator has the rule in all coordinates.
        natural, beta = _reduced(norm, **parameters)
        unit = _mixture(parameters["imbalance_ratio"], parameters["stability_index"])
        return (
            linear.projection_cdf(unit, beta - natural),
            linear.projection_cdf(unit, -beta - natural),
        )

    return Claim(
        name=f"stable-optimal-risks-{norm.name}",
        statement="The robust-optimal rule's natural class risks are F(-(T - beta)) and "
        "F(-(T + beta)), with T its natural margin and beta its intercept in units of the scale.",
        source=Source(KEY, "T2, T16 and T17"),
        axes=(_ratio_axis(1, 2, 4, 8, 16, 40), radius_axis(0, 0.4 * SEPARATION), INDEX),
        problem=_trained(norm),
        predict=predict,
        relation="==",
        estimand=CLASS_RISKS,
        assumptions=(SHAPE,),
    )


def optimal_intercept(norm: Norm) -> Claim:
    """Returns the claim that moving the intercept of the robust optimum never lowers the risk."""
    radius = 0.2 * SEPARATION

    def problem(offset: jax.Array, **law: jax.Array) -> Problem:
        best = _optimum(norm, jnp.full_like(offset, radius), **law)
        moved = best.classifier._replace(bias=best.classifier.bias + offset)
        return best._replace(classifier=moved)

    def predict(offset: jax.Array, **law: jax.Array) -> tuple[jax.Array]:
        return (linear.risk(*_optimum(norm, jnp.full_like(offset, radius), **law)),)

    offset = Axis("offset", "intercept minus the optimal one", (-6, -3, -1, 0, 1, 3, 6), REAL)
    return Claim(
        name=f"stable-optimal-intercept-{norm.name}",
        statement="No intercept gives the robust-optimal direction a smaller robust risk than "
        "beta*, the first root of f(u - kappa) = R f(u + kappa) (equality at offset 0).",
        source=Source(KEY, "T17"),
        axes=(offset, _ratio_axis(1.5, 4), INDEX),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=RISK,
        assumptions=(SHAPE, f"{norm.name} radius {radius:g}"),
    )


def constant_rule_wins(norm: Norm) -> Claim:
    """Returns the claim that no finite intercept pays, which holds past a critical ratio."""
    radius = 0.4 * SEPARATION

    def problem(imbalance_ratio: jax.Array, intercept: jax.Array, **law: jax.Array) -> Problem:
        mixture = _mixture(imbalance_ratio, **law)
        threat = norm.ball(jnp.full_like(intercept, radius))
        # Intercepts in units of the margin, so that the grid means the same for every index.
        best = optimal_direction(mixture, threat)
        unit = best.margin * linear.projection_scale(mixture, best.weight)
        return Problem(mixture, LinearClassifier(best.weight, -intercept * unit), threat)

    def predict(imbalance_ratio: jax.Array, **_: jax.Array) -> tuple[jax.Array]:
        return (prior_of_ratio(imbalance_ratio),)

    where = (
        "imbalance ratios below the critical one, which is finite for every stability index below "
        "2, at intercepts about the optimal one"
    )
    return Claim(
        name=f"stable-constant-rule-{norm.name}",
        statement="Under heavy tails no intercept has a smaller robust risk than the constant rule "
        "that gives up the minority.",
        source=Source(KEY, "T17 (new threshold)"),
        axes=(
            _ratio_axis(1.5, 2, 3, 4, 6, 10, 20, 40),
            Axis("intercept", "intercept -beta over the margin", (0, 1, 4), REAL),
            INDEX._replace(domain=HEAVY),
        ),
        problem=problem,
        predict=predict,
        relation=">=",
        estimand=RISK,
        assumptions=(SHAPE, f"{norm.name} radius {radius:g}"),
        fails=Failure(where),
    )


def disparity_rises(norm: Norm) -> Claim:
    """Returns the Gaussian claim on disparity carried over to heavy tails."""

    def standard(radius: jax.Array, **law: jax.Array) -> tuple[jax.Array]:
        best = _optimum(norm, 0 * radius, **law)
        return (linear.disparity(best.mixture, best.classifier),)

    where = (
        "well separated classes: the intercept u1 first falls with the margin and then grows with "
        "it, so a smaller robust margin means a smaller disparity (for Cauchy noise, small radii "
        "with kappa_0 > (R + 1) / (2 sqrt R))"
    )
    return Claim(
        name=f"stable-imbalance-raises-disparity-{norm.name}",
        statement="As for Gaussian classes, robust training on imbalanced classes with heavy tails "
        "gives at least the standard rule's natural accuracy disparity.",
        source=Source(KEY, "the Gaussian result carried over; T18"),
        axes=(
            radius_axis(*(share * SEPARATION for share in (0, 0.2, 0.4, 0.6, 0.8, 1.0))),
            _ratio_axis(2, 5),
            INDEX,
        ),
        problem=_trained(norm),
        predict=standard,
        relation=">=",
        estimand=DISPARITY,
        assumptions=(SHAPE,),
        fails=Failure(where),
    )


CLAIMS = (
    optimal_class_risks(LINF),
    optimal_intercept(LINF),
    constant_rule_wins(LINF),
    disparity_rises(LINF),
)
