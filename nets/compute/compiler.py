"""`jax.jit` with the compiler options that convolutions need on CPU, where they exist."""

import functools
from collections.abc import Callable
from typing import Any

import jax

# XLA 0.10 fuses convolutions into YNNPACK calls, which halves the speed of weight gradients.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": ""}


@functools.cache
def options() -> dict[str, str]:
    """Returns the compiler options for the default backend; none off the CPU.

    They are tried once on a trivial program, because XLA removes options between versions; the
    environment variable XLA_FLAGS would abort the process instead.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        with jax.ensure_compile_time_eval():
            jax.jit(lambda: 0, compiler_options=_CPU_OPTIONS)()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return {}
    return _CPU_OPTIONS


def jit(function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    """Returns the function compiled by `jax.jit` with `options()`; numbers do not depend on them.

    The backend is first asked at the first call, so decorating at import time is harmless. Called
    under another transformation it is a plain `jax.jit`, since options belong to the outermost one.

    Args:
        function: what to compile.
        settings: passed on to `jax.jit`, such as static_argnames or donate_argnums.
    """
    # For calls under another transformation, which refuses compiler options of its inside.
    inner = jax.jit(function, **settings)

    # Made at the first call: the options ask for the backend, and that must not happen on import.
    @functools.cache
    def outer() -> Callable[..., Any]:
        return jax.jit(function, compiler_options=options(), **settings)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((args, kwargs)))
        return (inner if traced else outer())(*args, **kwargs)

    return call
