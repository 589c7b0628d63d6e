"""`jax.jit` with the compiler options that convolutions need on CPU, where they exist.

What `jit` compiled is found again by the function: right for functions that read nothing that
changes, as all of this package do. A function of somebody else may be a network that is trained on,
so `by_program` traces it anew and finds what it compiled by what the function computes.
"""

import collections
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.extend

from theory.domain import InvalidInput

_PACKAGE = __name__.partition(".")[0]
# Programs are found again by the digest of their text and the devices that they are for.
_MOST_PROGRAMS = 32
_programs: collections.OrderedDict[Any, Any] = collections.OrderedDict()
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


def settled(function: Callable[..., Any]) -> bool:
    """Returns whether what a function computes can be told by the function: whether it is ours.

    A function of this package reads nothing that changes, nor does the bound method of one of its
    frozen modules, such as `module.apply`. Of any other, the next call may be another network.
    """
    owner = getattr(function, "__self__", None)
    home = getattr(function if owner is None else type(owner), "__module__", None)
    return isinstance(home, str) and home.partition(".")[0] == _PACKAGE


def by_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function compiled with `options()`, its present meaning and no earlier one.

    What is returned is traced at its first call for each shape and device, then held; make it anew
    whenever the function may have changed. Tracing is cheap beside compiling, and a program that
    was compiled before, whoever asked for it, is not compiled again: arrays that the function has
    captured are arguments of it. Random numbers or effects of Python happen while it is traced.

    Args:
        function: of arrays and pytrees of arrays, all on one device.

    Raises:
        InvalidInput: from what is returned, for arguments on several devices.
    """
    held: dict[Any, Callable[[list[Any]], Any]] = {}

    def call(*args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        leaves = [leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf) for leaf in leaves]
        where = tuple(_device_of(leaves))
        kinds = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if (tree, kinds, where) not in held:
            held[tree, kinds, where] = _program(function, tree, leaves)
        return held[tree, kinds, where](leaves)

    return call


def _device_of(leaves: list[Any]) -> set[jax.Device]:
    devices = {device for leaf in leaves for device in leaf.devices()}
    if len(devices) != 1:
        raise InvalidInput(f"devices = {devices}: the arguments must be arrays on one device")
    return devices


def _program(
    function: Callable[..., Any], tree: Any, leaves: list[Any]
) -> Callable[[list[Any]], Any]:
    """Returns what is compiled of a function, as a function of the leaves of its arguments."""
    closed, shapes = jax.make_jaxpr(
        lambda *flat: function(*jax.tree.unflatten(tree, flat)), return_shape=True
    )(*leaves)
    (device,) = _device_of(leaves)
    # Captured arrays, such as weights, as arguments: with others the program is the same.
    captured: list[Any] = jax.device_put(list(closed.consts), device)
    count = len(captured)

    def evaluated(*flat: Any) -> Any:
        present = jax.extend.core.ClosedJaxpr(closed.jaxpr, flat[:count])
        return jax.extend.core.jaxpr_as_fun(present)(*flat[count:])

    lowered = jax.jit(evaluated).lower(*captured, *leaves)
    # The whole text: what is captured deeper inside, in a function that is compiled by itself or in
    # a rule of differentiation, is a constant in it.
    key = (hashlib.sha256(lowered.as_text().encode()).digest(), device)
    if key not in _programs:
        _programs[key] = lowered.compile(compiler_options=dict(options()))
    _programs.move_to_end(key)
    while len(_programs) > _MOST_PROGRAMS:
        _programs.popitem(last=False)
    compiled, structure = _programs[key], jax.tree.structure(shapes)
    return lambda flat: jax.tree.unflatten(structure, compiled(*captured, *flat))
