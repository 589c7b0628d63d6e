"""Problems whose class risks are as small as is asked for, and what they really are."""

import jax
import jax.numpy as jnp
import numpy as np

from theory import stable
from theory.problem import (
    GaussianMixture,
    L1Ball,
    L2Ball,
    LinearClassifier,
    LinfBall,
    StableMixture,
)
from theory.rules import risk as linear

BALLS = {1: L2Ball, 3: L1Ball, 20: LinfBall}
SCALES = np.array([1.0, 1.3])


def rare_problem(dimension, alpha, risk, covariance=False, seed=0):
    """A problem in float32 with risks `risk` and twice that; alpha None is Gaussian."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=dimension), 0.05
    square = rng.normal(size=(dimension, dimension))
    shape = square @ square.T / dimension + 0.3 * np.eye(dimension) if covariance else None
    threat, rule = BALLS[dimension](0.1), LinearClassifier(weight, bias)
    law = _law(np.zeros((2, dimension)), alpha, shape)
    scale = float(linear.projection_scale(law, rule.weight))
    size = float(linear.dual_norm(threat, rule.weight)) * 0.1
    index, unit = (2.0, 2**0.5) if alpha is None else (alpha, 1.0)
    margins = [
        s * scale * float(stable.isf(p, index)) / unit
        for s, p in zip(SCALES, (risk, 2 * risk), strict=True)
    ]
    ends = np.array([-(margins[0] + size) - bias, margins[1] + size - bias])
    means = ends[:, None] * weight / (weight @ weight)
    problem = (_law(means, alpha, shape), rule, threat)
    return jax.tree.map(lambda field: jnp.asarray(field, jnp.float32), problem)


def _law(means, alpha, shape):
    if alpha is None:
        return GaussianMixture(means, SCALES, 0.4, shape)
    return StableMixture(means, SCALES, 0.4, alpha)


def true_risks(problem):
    """The closed form of exactly this problem, (2,) in float64."""
    exact = jax.tree.map(lambda field: jnp.asarray(field, jnp.float64), problem)
    return np.array(linear.class_risks(*exact), float)
