"""The standard symmetric alpha-stable law: characteristic function exp(-|t|^alpha).

alpha = 2 is N(0, 2), alpha = 1 the Cauchy law, and neither is special: every function is smooth in
alpha, accurate in both tails, and differentiable in both arguments to any order (from the left at
alpha = 2). Arguments broadcast; the result has their promoted floating dtype, and anything but
float64 is computed in float32. nan, and alpha outside [0.1, 2], give nan, in derivatives too.

A 0-d alpha is fastest: a value costs about eight exponentials (logsf fifteen, isf a hundred). An
array of alphas, or a vmap over alpha, adds a product with a matrix of 120 columns for each alpha.
A call holds a few arrays of the size of x, in reverse mode too.

Accuracy is measured against mpmath at 72 alphas and 0 <= x <= 1e12, in float32 against float64 for
x <= 1e8. The derivative of the density in x, and `score`, are as accurate as the rest from
alpha = 0.2 on and lose digits below, down to 3e-10 at alpha = 0.1; other derivatives have errors
below 1e-13 of the larger of value and derivative in float64.

For many evaluations at one alpha inside a program of its own, `prepared` sets the law up once and
`line` evaluates it on the whole real line.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from theory.numerics.elementwise import Function, elementwise, partial
from theory.numerics.noun import of_arrays, require_array
from theory.stable import line, prepared
from theory.stable.layout import PANEL_EDGES
from theory.stable.quantile import upper_quantile

__all__ = [
    "cdf",
    "centered_cdf",
    "isf",
    "line",
    "logpdf",
    "logsf",
    "pdf",
    "ppf",
    "prepared",
    "score",
    "sf",
]

# Each function's derivative in x is another one of the family, where there is one: it is more
# accurate than what differentiating the tables would give, and any order follows from it.


def _of_index(value: line.Evaluation, tables: str) -> Function:
    """Returns a function of (x, alpha) from one of a law with these tables and x."""
    return lambda x, alpha: value(prepared.law(alpha, *tables.split()), x)


_slope = elementwise(_of_index(line.descent, "slope"))
_pdf = elementwise(_of_index(line.density, "density"), lambda *at: -_slope(*at))
_score = elementwise(_of_index(line.score, "density slope"))
_logpdf = elementwise(_of_index(line.log_density, "density"), lambda *at: -_score(*at))
_survival = _of_index(line.survival, "survival")
_sf = elementwise(_survival, lambda *at: -_pdf(*at))
_sf_alpha = elementwise(partial(_survival, 1))
_central = elementwise(_of_index(line.central, "survival central"), _pdf)
_logsf = elementwise(_of_index(line.log_survival, "survival"))


def _quantile(p: Array, alpha: Array) -> Array:
    # Symmetry: the solver works on the half-line, p <= 1/2. 1 - p is exact where p > 1/2.
    law = prepared.law(alpha, "density", "survival", "central")
    distance = upper_quantile(law, jnp.where(p > 0.5, 1 - p, p))
    return jnp.where(p > 0.5, -distance, distance)


# The inverse function's derivatives, -1 / pdf and sf_alpha / pdf at the quantile, by the logarithm
# of the density: where that underflows, the quotient is still right.
def _quantile_slope(p: Array, alpha: Array) -> Array:
    return -jnp.exp(-_logpdf(_isf(p, alpha), alpha))


def _quantile_alpha_slope(p: Array, alpha: Array) -> Array:
    x = _isf(p, alpha)
    return _sf_alpha(x, alpha) * jnp.exp(-_logpdf(x, alpha))


_isf = elementwise(_quantile, _quantile_slope, _quantile_alpha_slope)


def _evaluate(f: Function, x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns f in the working precision, with ranks aligned and bad alpha turned into nan."""
    # Numbers and arrays stay as they are: a number does not decide the dtype, a list is float.
    x, alpha = (
        a if jnp.isscalar(a) else require_array(n, a) for n, a in (("x", x), ("alpha", alpha))
    )
    dtype = jnp.result_type(float, x, alpha)
    working = jnp.float64 if dtype == jnp.float64 else jnp.float32
    x, alpha = jnp.asarray(x).astype(working), jnp.asarray(alpha).astype(working)
    valid = (alpha >= PANEL_EDGES[0]) & (alpha <= PANEL_EDGES[-1])
    alpha *= jnp.where(valid, 1, jnp.nan)  # not a choice: derivatives in alpha are nan too
    # A 0-d argument stays one, for `elementwise` sets the law up once for a 0-d alpha.
    if x.ndim and alpha.ndim:
        rank = max(x.ndim, alpha.ndim)
        x, alpha = (a.reshape((1,) * (rank - a.ndim) + a.shape) for a in (x, alpha))
    return f(x, alpha).astype(dtype)


@of_arrays("x", "alpha")
@jax.jit
def pdf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns the density, (...).

    Args:
        x: any real numbers, (...); at +-inf the density is 0.
        alpha: stability index in [0.1, 2], () or broadcasting against x; otherwise nan.

    Returns:
        Numbers in [0, inf), broadcast (...), with a relative error below 2e-15 in float64 and 1e-6
        in float32, in the tails too. A density below the smallest normal number is 0: see `logpdf`.

    References:
        new; the representation by tables rests on zolotarev1986stable, section 2.4.

    Example: pi (1 + x^2) is the inverse of the Cauchy density.

        >>> print(f"{pdf(3.0, 1.0) * 10 * jnp.pi:.4f}")
        1.0000
    """
    return _evaluate(_pdf, x, alpha)


@of_arrays("x", "alpha")
@jax.jit
def logpdf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns the logarithm of the density, (...), finite at every finite x where alpha < 2.

    Args as for `pdf`, and nan too; -inf at x = +-inf, and at alpha = 2 where x^2/4 overflows.

    Example: at the centre of N(0, 2), log(1/(2 sqrt(pi))).

        >>> print(f"{logpdf(0.0, 2.0):.4f}")
        -1.2655
    """
    return _evaluate(_logpdf, x, alpha)


@of_arrays("x", "alpha")
@jax.jit
def score(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns -d/dx logpdf(x, alpha), (...), odd in x and tending to (1 + alpha)/x.

    Args as for `pdf`, and nan too; 0 at x = +-inf.

    Example: for the Cauchy law 2x/(1 + x^2).

        >>> print(f"{score(1.0, 1.0):.4f}")
        1.0000
    """
    return _evaluate(_score, x, alpha)


@of_arrays("x", "alpha")
@jax.jit
def cdf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns P(X <= x) = sf(-x), (...), relatively accurate in the lower tail.

    Args as for `sf`, and nan too. For cdf - 1/2 near x = 0 see `centered_cdf`.

    Example: the lower quartile of the Cauchy law is -1.

        >>> print(f"{cdf(-1.0, 1.0):.4f}")
        0.2500
    """
    return _evaluate(_sf, -jnp.asarray(x), alpha)


@of_arrays("x", "alpha")
@jax.jit
def sf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns P(X > x), (...), relatively accurate in the upper tail.

    Args:
        x, alpha: as for `pdf`; 1 at x = -inf, 0 at inf.

    Returns:
        Probabilities, broadcast (...), with the relative error of `pdf`. One below the smallest
        normal number is 0: see `logsf`.

    References:
        new; the representation by tables rests on zolotarev1986stable, section 2.2.

    Example: the upper quartile of the Cauchy law is 1.

        >>> print(f"{sf(1.0, 1.0):.4f}")
        0.2500
    """
    return _evaluate(_sf, x, alpha)


@of_arrays("x", "alpha")
@jax.jit
def logsf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns log P(X > x), (...), finite at every finite x where alpha < 2.

    Args as for `sf`, and nan too; -inf at inf, and at alpha = 2 where x^2/4 overflows.

    Example: half of the law lies above 0.

        >>> print(f"{logsf(0.0, 0.7):.4f}")
        -0.6931
    """
    return _evaluate(_logsf, x, alpha)


@of_arrays("x", "alpha")
@jax.jit
def centered_cdf(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns cdf(x) - 1/2 = P(0 < X <= x), (...), odd in x and accurate relative to its size.

    Args, nan and relative error as for `sf`; +-1/2 at x = +-inf.

    Example: for the Cauchy law atan(x)/pi.

        >>> print(f"{centered_cdf(1e-20, 1.0) * jnp.pi:.4g}")
        1e-20
    """
    return _evaluate(_central, x, alpha)


@of_arrays("p", "alpha")
@jax.jit
def isf(p: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns the x, (...), with sf(x, alpha) = p, accurate for small p and near p = 1/2.

    Args:
        p: probability in [0, 1], (...), otherwise nan; 0 gives inf, 1 gives -inf, 1/2 gives 0. One
            below the smallest normal number counts as 0.
        alpha: stability index in [0.1, 2], () or broadcasting against p; otherwise nan.

    Returns:
        Any real numbers, broadcast (...); inf where x exceeds the largest number, as it does for
        small p at small alpha. Probabilities near 1 should enter `ppf` or, as 1 - p, this function
        with the sign changed.

    References:
        new: Newton's method on the log-odds of the tail.

    Example: the inverse of `sf`, far out too.

        >>> print(f"{sf(isf(1e-20, 1.5), 1.5):.6g}")
        1e-20
    """
    return _evaluate(_isf, p, alpha)


@of_arrays("p", "alpha")
@jax.jit
def ppf(p: ArrayLike, alpha: ArrayLike) -> Array:
    """Returns the x, (...), with cdf(x, alpha) = p, which is -isf(p, alpha).

    Args as for `isf`, and nan too; 0 gives -inf, 1 gives inf.

    Example: the lower quartile of the Cauchy law is -1.

        >>> print(f"{ppf(0.25, 1.0):.4f}")
        -1.0000
    """
    return -_evaluate(_isf, p, alpha)
