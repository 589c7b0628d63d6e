"""Strict settings for every test: float64 by default, no silent promotion of dtype or rank."""

import collections
import os
import pathlib
import signal
import subprocess
import sys

import jax
import pytest

# XLA's older emitter of fusions compiles in half of the time, which is most of what tests take, and
# runs as fast. An unknown flag would abort, so a process of its own tries it, once a session.
QUICK = "--xla_cpu_use_fusion_emitters=false"


def _compile_quickly() -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
    code = "import jax; jax.jit(lambda x: x + 1)(1)"
    tried = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"XLA_FLAGS": flags}, capture_output=True
    )
    if tried.returncode == 0:
        os.environ["XLA_FLAGS"] = flags


# Processes that tests start find the packages and the helpers of tests.
ROOT = pathlib.Path(__file__).parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# Who starts the tests in the background, or by nohup, has these ignored, and all below them too.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Workers inherit what the first process finds; XLA reads it when it first compiles.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _compile_quickly()

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests go first, so that no worker is left alone with one at the end.

    The order within a file stays: its tests share what was compiled.
    """
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="session")
def _style() -> None:
    from figures.kit import style

    style.use()


@pytest.fixture(autouse=True, scope="module")
def _forget_executables():
    """Executables of all modules together need more memory maps than Linux gives a process."""
    yield
    jax.clear_caches()
