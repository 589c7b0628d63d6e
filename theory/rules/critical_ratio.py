"""The imbalance ratio at which a constant rule becomes optimal, for any symmetric law.

Answering always -1 is optimal once R reaches the supremum over beta of

    F((t + beta) / s_+) / F(-(t - beta) / s_-),

correct answers in the positive class per error in the negative one (theory document T5, T17).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import log_ndtr

from theory import stable
from theory.numerics.arguments import checked_arguments
from theory.numerics.root import bracketed_root
from theory.rules.intercept_minimum import extremum_bracket, inner_index, leading, scan_nodes

Function = Callable[[Array, Array], Array]


class _SymmetricLaw(NamedTuple):
    """Logarithms of the survival function and, up to a constant, of the density, at (x, alpha)."""

    survival: Function
    density: Function


_GAUSSIAN = _SymmetricLaw(lambda x, _: log_ndtr(-x), lambda x, _: -x * x / 2)
_STABLE = _SymmetricLaw(stable.logsf, stable.logpdf)


@checked_arguments
def log_ratio(margin: Array, negative: Array, positive: Array, alpha: Array | None) -> Array:
    """Returns the logarithm of that supremum, (...), in [0, inf], with derivatives of any order.

    Args:
        margin, negative, positive: t, s_- and s_+ > 0, of one rank, broadcast to (...).
        alpha: stability index in [0.1, 2], () or (...), otherwise nan; None is a Gaussian of unit
            variance.

    References:
        new; theory document T5, T17.
    """
    if alpha is None:
        return _gaussian(margin, negative, positive)
    # By value: at alpha = 2 exactly the tails are another kind, and the supremum may be infinite.
    wide = math.sqrt(2)
    gaussian = _gaussian(margin, wide * negative, wide * positive)
    return jnp.where(alpha == 2, gaussian, _stable(margin, negative, positive, alpha))


def _gaussian(margin: Array, negative: Array, positive: Array) -> Array:
    # The nodes of any index reach far enough for Gaussian tails.
    inside = _largest(_GAUSSIAN, margin, negative, positive, jnp.asarray(2, margin.dtype))
    # As beta -> -inf the ratio of two Gaussian tails is decided by the wider class, and for equal
    # ones by the sign of the margin; as beta -> inf it is 1, whose logarithm is 0.
    equal = positive == negative
    escapes = (positive > negative) | (equal & (margin > 0))
    return jnp.where(escapes, jnp.inf, jnp.where(equal, 0, jnp.maximum(inside, 0)))


def _stable(margin: Array, negative: Array, positive: Array, alpha: Array) -> Array:
    inside = _largest(_STABLE, margin, negative, positive, alpha)
    # Its limits at beta = -inf, (s_+ / s_-)^alpha, and at +inf, 1.
    limit = jnp.maximum(alpha * jnp.log(positive / negative), 0)
    # Then the ratio is at most 1 everywhere, which rounding at the nodes might deny.
    none = (positive == negative) & (margin <= 0) & ~jnp.isnan(inside)
    return jnp.where(none, 0, jnp.maximum(inside, limit))


def _largest(law: _SymmetricLaw, *problem: Array) -> Array:
    """Returns the largest logarithm of the gain along the intercept."""

    def terms(beta: Array, margin: Array, negative: Array, positive: Array) -> Array:
        won, lost = -(margin + beta) / positive, (margin - beta) / negative
        return jnp.stack(jnp.broadcast_arrays(won, lost))

    # Loops over the two terms, so that the law is compiled once.
    def gain(beta: Array, *problem: Array) -> Array:
        won, lost = lax.map(lambda x: law.survival(x, problem[3]), terms(beta, *problem[:3]))
        ratio: Array = won - lost
        return ratio

    def falling(beta: Array, *problem: Array) -> Array:
        """Compares the slopes of the two terms by their logarithms: positive past the maximum."""
        _, negative, positive, alpha = problem
        hazard = lax.map(
            lambda x: law.density(x, alpha) - law.survival(x, alpha), terms(beta, *problem[:3])
        )
        slope: Array = hazard[1] - jnp.log(negative) - hazard[0] + jnp.log(positive)
        return slope

    nodes = scan_nodes(*problem)
    best = jnp.argmax(gain(nodes, *map(leading, problem)), 0)
    bracket = extremum_bracket(inner_index(best, nodes), nodes)
    # The place carries derivatives too: first ones do not need them at a maximum, second ones do.
    return gain(bracketed_root(falling, *bracket, *problem), *problem)
