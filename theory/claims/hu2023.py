"""Claims of Hu, Wu, Zhang and Zhao (ICML 2023) on robustness, imbalance and accuracy disparity.

Only the paper's abstract and code could be read, so its theorems are re-derived; `Source.result`
says which result of the theory document proves the sentence.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory import linear, optimal
from theory.claim import (
    CLASS_RISKS,
    DISPARITY,
    RISK,
    Axis,
    Claim,
    Estimand,
    Failure,
    Problem,
    Relation,
    Source,
    register,
)
from theory.domain import NON_NEGATIVE, POSITIVE, STABILITY_INDEX, Interval
from theory.problem import (
    GaussianMixture,
    L1Ball,
    L2Ball,
    LinearClassifier,
    LinfBall,
    Mixture,
    StableMixture,
    Threat,
    prior_of_ratio,
)

KEY = "hu2023accuracydisparity"
DIMENSION = 8
# Half the difference of the class means: unequal coordinates, so that l_inf turns the direction.
HALF_GAP = np.linspace(1.2, 0.3, DIMENSION)
# A rule that is not optimal for any threat: the sign of one coordinate is wrong.
WEIGHT = np.array([1.0, 0.8, 0.9, 0.4, 0.7, 0.2, 0.5, -0.3])
BIAS = jnp.asarray(0.25)
EVEN = jnp.asarray(0.5)
COVARIANCE = 0.4 ** np.abs(np.subtract.outer(np.arange(DIMENSION), np.arange(DIMENSION)))


class Norm(NamedTuple):
    """A threat model: its name, its order, its ball and the largest radius of the default grid."""

    name: str
    order: float
    ball: Callable[[jax.Array], Threat]
    largest: float


NORMS = (
    Norm("l1", 1, L1Ball, 3.0),
    Norm("l2", 2, L2Ball, 2.5),
    Norm("linf", np.inf, LinfBall, 1.0),
)
SOLVED = NORMS[1:]


def _margin(norm: Norm) -> float:
    """The radius at which the classes of `HALF_GAP` touch."""
    return float(np.linalg.norm(HALF_GAP, norm.order))


def _radius(largest: float, count: int = 9) -> Axis:
    grid = tuple(np.linspace(0, largest, count).tolist())
    return Axis("radius", "perturbation radius, in units of the inputs", grid, NON_NEGATIVE)


SCALE_RATIO = Axis(
    "scale_ratio", "scale of the positive over that of the negative class", (0.7, 1.5), POSITIVE
)
RATIO = Axis(
    "imbalance_ratio",
    "imbalance ratio P(y = -1) / P(y = +1)",
    (1, 1.1, 2, 5, 10, 30, 100),
    POSITIVE,
)
MAJORITY = Interval.parse("[1, inf)")


def _means(like: jax.Array) -> jax.Array:
    half_gap = jnp.asarray(HALF_GAP, like.dtype)
    return jnp.stack([-half_gap, half_gap])


def _scales(scale_ratio: jax.Array) -> jax.Array:
    return jnp.stack([jnp.ones_like(scale_ratio), scale_ratio])


def _gaussian(scale_ratio: jax.Array) -> Mixture:
    covariance = jnp.asarray(COVARIANCE, scale_ratio.dtype)
    return GaussianMixture(_means(scale_ratio), _scales(scale_ratio), EVEN, covariance)


def _stable(alpha: float, scale_ratio: jax.Array) -> Mixture:
    return StableMixture(_means(scale_ratio), _scales(scale_ratio), EVEN, jnp.asarray(alpha))


def _fixed_rule(
    law: Callable[[jax.Array], Mixture], norm: Norm, radius: jax.Array, scale_ratio: jax.Array
) -> Problem:
    rule = LinearClassifier(jnp.asarray(WEIGHT, radius.dtype), BIAS)
    return Problem(law(scale_ratio), rule, norm.ball(radius))


def _closed_form(problem: Callable[..., Problem]) -> Callable[..., tuple[jax.Array, ...]]:
    return lambda **parameters: linear.class_risks(*problem(**parameters))


LAWS: dict[str, tuple[Callable[[jax.Array], Mixture], str, str]] = {
    "gaussian": (_gaussian, "Gaussian noise of any covariance", "T1"),
    "cauchy": (functools.partial(_stable, 1.0), "independent Cauchy noise", "T15, alpha = 1"),
    "holtsmark": (
        functools.partial(_stable, 1.5),
        "independent alpha-stable noise with alpha = 1.5 (Holtsmark)",
        "T15, alpha = 1.5",
    ),
}

for (_law, (_mixture, _noise, _result)), _norm in itertools.product(LAWS.items(), NORMS):
    _problem = functools.partial(_fixed_rule, _mixture, _norm)
    register(
        Claim(
            name=f"{_law}-robust-risk-{_norm.name}",
            statement=f"Under {_noise} the class-wise robust risk of a linear rule against an "
            f"{_norm.name} threat is F((radius ||w||_q - y (w . mu_y + b)) / (s_y scale(w))).",
            source=Source(KEY, _result),
            axes=(_radius(_norm.largest), SCALE_RATIO),
            problem=_problem,
            predict=_closed_form(_problem),
            relation="==",
            estimand=CLASS_RISKS,
            assumptions=("fixed rule, not an optimal one", "unequal class scales"),
        )
    )


def _stable_family(alpha: jax.Array, radius: jax.Array) -> Problem:
    mixture = StableMixture(_means(radius), jnp.ones(2, radius.dtype), EVEN, alpha)
    return Problem(
        mixture, LinearClassifier(jnp.asarray(WEIGHT, radius.dtype), BIAS), L2Ball(radius)
    )


register(
    Claim(
        name="stable-robust-risk",
        statement="For every stability index the class-wise robust risk of a linear rule is the "
        "stable distribution function at the robust margin over (sum |w_i|^alpha)^(1/alpha).",
        source=Source(KEY, "T15"),
        axes=(
            Axis("alpha", "stability index", (0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2), STABILITY_INDEX),
            Axis("radius", "l2 perturbation radius", (0, 1), NON_NEGATIVE),
        ),
        problem=_stable_family,
        predict=_closed_form(_stable_family),
        relation="==",
        estimand=CLASS_RISKS,
    )
)


def _balanced_shape(imbalance_ratio: jax.Array) -> GaussianMixture:
    ones = jnp.ones(2, imbalance_ratio.dtype)
    return GaussianMixture(_means(imbalance_ratio), ones, prior_of_ratio(imbalance_ratio))


def _optimum(norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array) -> Problem:
    mixture, threat = _balanced_shape(imbalance_ratio), norm.ball(radius)
    return Problem(mixture, optimal.optimal_classifier(mixture, threat), threat)


def _optimal_risk(norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array) -> tuple[jax.Array]:
    mixture = _balanced_shape(imbalance_ratio)
    margin = optimal.optimal_direction(mixture, norm.ball(radius)).margin
    shift = jnp.log(imbalance_ratio) / (2 * jnp.where(margin > 0, margin, 1))
    positive = jax.scipy.special.ndtr(shift - margin)
    negative = jax.scipy.special.ndtr(-shift - margin)
    least = (1 - mixture.prior) * negative + mixture.prior * positive
    constant = jnp.minimum(mixture.prior, 1 - mixture.prior)
    return (jnp.where(margin > 0, least, constant),)


def _turned(norm: Norm, degrees: jax.Array, radius: jax.Array) -> Problem:
    """The balanced optimum with its direction turned towards a fixed other one."""
    mixture, threat = _balanced_shape(jnp.ones_like(radius)), norm.ball(radius)
    best = optimal.optimal_classifier(mixture, threat)
    along = best.weight / jnp.linalg.norm(best.weight)
    other = jnp.asarray(WEIGHT, radius.dtype)
    across = other - jnp.sum(other * along) * along
    turn = degrees * (math.pi / 180)
    weight = jnp.cos(turn) * along + jnp.sin(turn) * across / jnp.linalg.norm(across)
    return Problem(mixture, LinearClassifier(weight, best.bias), threat)


def _least_risk(norm: Norm, degrees: jax.Array, radius: jax.Array) -> tuple[jax.Array]:
    return _optimal_risk(norm, jnp.ones_like(radius), radius)


ANGLE = Axis(
    "degrees",
    "angle between the rule and the robust-optimal direction, degrees",
    (-60, -30, -15, 0, 15, 30, 60),
    Interval(-180.0, 180.0),
)

for _norm in SOLVED:
    _radii = tuple(_norm.largest * share for share in (0.2, 0.5))
    _few = Axis("radius", "perturbation radius, in units of the inputs", _radii, NON_NEGATIVE)
    # At the margin and past it no direction is better than a constant rule.
    _inside = _few._replace(domain=Interval(0, _margin(_norm), False, True))
    register(
        Claim(
            name=f"robust-optimal-risk-{_norm.name}",
            statement=f"The least robust risk against an {_norm.name} threat is "
            "pi_+ Phi(log R / (2 kappa) - kappa) + pi_- Phi(-log R / (2 kappa) - kappa) with kappa "
            "the largest robust margin, and the constant rule's once kappa <= 0.",
            source=Source(KEY, "T3 and T4"),
            axes=(RATIO, _few),
            problem=functools.partial(_optimum, _norm),
            predict=functools.partial(_optimal_risk, _norm),
            relation="==",
            estimand=RISK,
            assumptions=("Gaussian, isotropic, equal class scales",),
        )
    )
    register(
        Claim(
            name=f"robust-optimal-direction-{_norm.name}",
            statement=f"No direction has a smaller balanced {_norm.name}-robust risk than the "
            "robust-optimal one (equality at angle zero).",
            source=Source(KEY, "T3"),
            axes=(ANGLE, _inside),
            problem=functools.partial(_turned, _norm),
            predict=functools.partial(_least_risk, _norm),
            relation=">=",
            estimand=RISK,
            assumptions=("Gaussian, isotropic, equal class scales", "imbalance ratio 1"),
        )
    )


def _natural(norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array) -> Problem:
    """The rule trained for the threat, evaluated without it."""
    return _optimum(norm, imbalance_ratio, radius)._replace(threat=None)


def _standard_risks(norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array) -> linear.ClassRisks:
    mixture = _balanced_shape(imbalance_ratio)
    return linear.class_risks(mixture, optimal.optimal_classifier(mixture))


def _standard_disparity(
    norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array
) -> tuple[jax.Array]:
    negative, positive = _standard_risks(norm, imbalance_ratio, radius)
    return (positive - negative,)


def _class_gains(
    norm: Norm, imbalance_ratio: jax.Array, radius: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns which class gains: the majority (negative) one, once log R exceeds a threshold."""
    mixture = _balanced_shape(imbalance_ratio)
    standard, robust = (
        optimal.optimal_direction(mixture, threat) for threat in (None, norm.ball(radius))
    )
    half_gap = jnp.asarray(HALF_GAP, radius.dtype)
    natural_margin = jnp.sum(robust.weight * half_gap) / jnp.linalg.norm(robust.weight)
    pull = 1 / robust.margin - 1 / standard.margin
    excess = jnp.log(imbalance_ratio) * pull - 2 * (standard.margin - natural_margin)
    # With no margin left the robust rule is the constant -1, which never misses the majority.
    gains = (robust.margin <= 0) | ((radius > 0) & (excess > 0) & (imbalance_ratio > 1))
    return gains, jnp.zeros_like(gains)


class _Comparison(NamedTuple):
    name: str
    statement: str
    result: str
    predict: Callable[..., tuple[jax.Array, ...]]
    estimand: Estimand
    relation: Relation
    region: Callable[..., tuple[jax.Array, ...]] | None
    where: str


COMPARISONS = (
    _Comparison(
        "imbalance-raises-disparity",
        "Trained robustly on imbalanced classes, the optimal rule has at least the natural "
        "accuracy disparity of the standard one (equality at radius 0).",
        "abstract; T6.1",
        _standard_disparity,
        DISPARITY,
        ">=",
        None,
        "",
    ),
    _Comparison(
        "robustness-costs-every-class",
        "Robust training raises the natural risk of every class, the abstract's 'degrades the "
        "standard accuracy on all classes' read without its decomposition.",
        "abstract; T6.5",
        _standard_risks,
        CLASS_RISKS,
        ">=",
        _class_gains,
        "the majority class gains once log R > 2 (kappa_0 - T) / (1/kappa - 1/kappa_0); with "
        "isotropic noise and an l2 threat that is every imbalanced problem",
    ),
)

for _norm, _row in itertools.product(SOLVED, COMPARISONS):
    _few = _radius(_norm.largest)._replace(
        default=tuple(_norm.largest * share for share in (0.3, 0.6))
    )
    register(
        Claim(
            name=f"{_row.name}-{_norm.name}",
            statement=_row.statement,
            source=Source(KEY, _row.result),
            axes=(RATIO._replace(domain=MAJORITY), _few),
            problem=functools.partial(_natural, _norm),
            predict=functools.partial(_row.predict, _norm),
            relation=_row.relation,
            estimand=_row.estimand,
            assumptions=("Gaussian, isotropic, equal class scales",),
            fails=None
            if _row.region is None
            else Failure(_row.where, functools.partial(_row.region, _norm)),
        )
    )


def _chernoff(norm: Norm, radius: jax.Array) -> tuple[jax.Array]:
    margin = optimal.optimal_direction(
        _balanced_shape(jnp.ones_like(radius)), norm.ball(radius)
    ).margin
    return (jnp.exp(-(jnp.maximum(margin, 0) ** 2) / 2) / 2,)


def _balanced_optimum(norm: Norm, radius: jax.Array) -> Problem:
    return _optimum(norm, jnp.ones_like(radius), radius)


for _norm in SOLVED:
    register(
        Claim(
            name=f"robust-risk-bound-{_norm.name}",
            statement=f"The least balanced {_norm.name}-robust risk is at most "
            "exp(-kappa^2 / 2) / 2 with kappa the largest robust margin.",
            source=Source("boucheron2013concentration", "Gaussian tail bound, exercise 2.7"),
            # To just past the margin, where the bound is attained.
            axes=(_radius(1.1 * _margin(_norm)),),
            problem=functools.partial(_balanced_optimum, _norm),
            predict=functools.partial(_chernoff, _norm),
            relation="<=",
            estimand=RISK,
            assumptions=("Gaussian, isotropic, equal class scales", "imbalance ratio 1"),
        )
    )
