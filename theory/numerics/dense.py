"""Dense linear algebra of small matrices that may be batched and run side by side.

XLA's CPU kernels for batched factorisations hold a thread of the pool while they wait for others
of the same pool: as many of them at once as there are cores, two on a small machine, wait for ever
(seen with jaxlib 0.10: getrf and potrf in one program, all threads in a BlockingCounter). Here a
batch is a loop over single matrices, whose kernels use no pool. Derivatives are those of the
linear system, and none of a factorisation.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import sequential_vmap

# Named and typed, as JAX leaves it without annotations.
_one_at_a_time: Callable[[Callable[..., Any]], Callable[..., Any]] = sequential_vmap
_cholesky = _one_at_a_time(lambda matrix: jnp.linalg.cholesky(matrix))
_eigh = _one_at_a_time(lambda matrix: tuple(jnp.linalg.eigh(matrix)))
_lu_solve = _one_at_a_time(lambda matrix, right: jnp.linalg.solve(matrix, right))


def cholesky(matrix: Array) -> Array:
    """Returns the lower Cholesky factor, (d, d), of a matrix, (d, d); nan unless positive definite.

    It carries no derivatives.

    >>> cholesky(jnp.asarray([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    factor: Array = _cholesky(lax.stop_gradient(matrix))
    return factor


def eigh(matrix: Array) -> tuple[Array, Array]:
    """Returns the eigenvalues, increasing, (d,), and eigenvectors, (d, d), of a symmetric matrix.

    The matrix is (d, d), eigenvectors are columns. They carry no derivatives: those of eigenvectors
    are infinite where two eigenvalues meet, and what is built from them needs none.

    >>> eigh(jnp.diag(jnp.asarray([3.0, 1.0])))[0].tolist()
    [1.0, 3.0]
    """
    values, vectors = _eigh(lax.stop_gradient(matrix))
    return values, vectors


def solve(matrix: Array, right: Array) -> Array:
    """Returns x with matrix @ x = right, (d,) or (d, k), with derivatives in both.

    Args:
        matrix: (d, d), not singular; otherwise infinite or nan.
        right: (d,) or (d, k).

    >>> solve(jnp.asarray([[2.0, 0.0], [1.0, 1.0]]), jnp.asarray([2.0, 3.0])).tolist()
    [1.0, 2.0]
    """
    # The derivative of a solution is the solution of the same system with another right side:
    # `custom_linear_solve` takes it so, in either mode, and never differentiates the LU steps.
    fixed = lax.stop_gradient(matrix)
    solution: Array = lax.custom_linear_solve(
        lambda x: matrix @ x,
        right,
        lambda _, b: _lu_solve(fixed, b),
        lambda _, b: _lu_solve(fixed.T, b),
    )
    return solution


def inverse(matrix: Array) -> Array:
    """Returns the inverse, (d, d), of a matrix, (d, d), with derivatives.

    >>> inverse(jnp.asarray([[2.0, 0.0], [0.0, 4.0]])).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    return solve(matrix, jnp.eye(matrix.shape[-1], dtype=matrix.dtype))
