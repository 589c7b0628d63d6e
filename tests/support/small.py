"""A small claim for the tests of the machinery: one Gaussian coordinate, its risk known by hand."""

import jax.numpy as jnp
from jax.scipy.special import ndtr

from theory.claims.claim import CLASS_RISKS, Axis, Claim, Problem, Source
from theory.domain import NON_NEGATIVE, Interval
from theory.problem import GaussianMixture, L2Ball, LinearClassifier

CLAIM = Claim(
    name="small",
    statement="The robust risk on a line is Phi(radius - mean).",
    source=Source("hu2023accuracydisparity", "T1"),
    axes=(
        Axis("radius", "perturbation radius", (0.0, 0.5, 1.0), NON_NEGATIVE),
        Axis("mean", "class mean", (0.5, 1.0), Interval(0.0, 3.0, True, False)),
    ),
    problem=lambda radius, mean: Problem(
        GaussianMixture(
            jnp.stack([-mean, mean])[:, None], jnp.ones(2, mean.dtype), jnp.asarray(0.5)
        ),
        LinearClassifier(jnp.ones(1, mean.dtype), jnp.asarray(0.0)),
        L2Ball(radius),
    ),
    predict=lambda radius, mean: (ndtr(radius - mean), ndtr(radius - mean)),
    relation="==",
    estimand=CLASS_RISKS,
)
