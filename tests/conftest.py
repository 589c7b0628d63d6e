"""Strict settings for every test: float64 by default, no silent promotion of dtype or rank."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def _style() -> None:
    from figures import style

    style.use()


@pytest.fixture(autouse=True, scope="module")
def _forget_executables():
    """Executables of all modules together need more memory maps than Linux gives a process."""
    yield
    jax.clear_caches()
