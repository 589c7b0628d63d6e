"""What XLA compiles while a block of a test runs."""

import contextlib
from collections.abc import Iterator

import jax
import jax.monitoring

EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compiled_functions() -> Iterator[list[str | None]]:
    """Yields a list that grows by the name of each function compiled, such as jit(count)."""
    names: list[str | None] = []

    def listen(event: str, _: float, **details: str) -> None:
        if event == EVENT:
            names.append(details.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
