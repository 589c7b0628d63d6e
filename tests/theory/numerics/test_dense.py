"""Small matrices: values and derivatives against NumPy, and batches side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.numerics import dense


def _matrices(seed, *shape):
    rng = np.random.default_rng(seed)
    square = rng.normal(size=shape)
    return jnp.asarray(square @ np.swapaxes(square, -1, -2) + np.eye(shape[-1]))


@pytest.mark.slow
def test_a_batch_is_what_numpy_finds_one_by_one():
    matrices = _matrices(0, 7, 4, 4)
    right = jnp.asarray(np.random.default_rng(1).normal(size=(7, 4)))
    np.testing.assert_allclose(
        jax.vmap(dense.solve)(matrices, right),
        np.linalg.solve(matrices, np.asarray(right)[..., None])[..., 0],
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        jax.vmap(dense.inverse)(matrices), np.linalg.inv(matrices), rtol=1e-11
    )
    np.testing.assert_allclose(
        jax.vmap(dense.cholesky)(matrices), np.linalg.cholesky(matrices), rtol=1e-12, atol=1e-14
    )
    values, vectors = jax.vmap(dense.eigh)(matrices)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrices), rtol=1e-12)
    np.testing.assert_allclose(matrices @ vectors, vectors * values[:, None], atol=1e-12)


def test_what_is_not_positive_definite_has_no_factor():
    assert bool(jnp.isnan(dense.cholesky(jnp.asarray([[1.0, 2.0], [2.0, 1.0]]))).any())


@pytest.mark.slow
@pytest.mark.parametrize("batched", [False, True])
def test_a_solution_has_the_derivatives_of_the_system(batched):
    """d x = A^-1 (d b - dA x), forward and in reverse."""
    matrix, change = _matrices(2, 3, 3), jnp.asarray(np.random.default_rng(3).normal(size=(3, 3)))
    right, moved = jnp.asarray([1.0, -2.0, 0.5]), jnp.asarray([0.3, 0.1, 0.2])
    solve = dense.solve
    if batched:
        solve = lambda a, b: jax.vmap(dense.solve)(a[None], b[None])[0]  # noqa: E731
    solution, forward = jax.jvp(solve, (matrix, right), (change, moved))
    expected = np.linalg.solve(matrix, moved - change @ solution)
    np.testing.assert_allclose(forward, expected, rtol=1e-11)
    cotangent = jnp.asarray([0.7, -0.4, 1.1])
    _, pull = jax.vjp(solve, matrix, right)
    by_matrix, by_right = pull(cotangent)
    along = jnp.sum(by_matrix * change) + by_right @ moved
    np.testing.assert_allclose(along, cotangent @ expected, rtol=1e-11)


def test_batched_factorisations_side_by_side_come_to_an_end():
    """Batched kernels of XLA, two at once on two cores, wait for each other for ever."""
    matrices = _matrices(4, 64, 12, 12)

    @jax.jit
    def both(a, b):
        factors = jax.vmap(dense.cholesky)(a)
        inverses = jax.vmap(dense.inverse)(b)
        return factors.sum() + inverses.sum()

    hlo = both.lower(matrices, matrices).compile().as_text()
    calls = [line for line in hlo.splitlines() if "lapack" in line]
    assert calls
    assert not any("64,12,12" in line for line in calls)
