"""The code that the numbers of a claim depend on, wherever the claim was written.

A claim's functions lead to the modules of ours that define them, and these to all that they import.
A claim of a notebook or a script has no module of ours: there the compiled code of its functions
counts, and all that it refers to, up to installed libraries.
"""

import dataclasses
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sims.provenance import code_digest, installed
from theory.claims.claim import Claim

# What samples, perturbs, classifies and counts, and what makes problems and keys of points.
SIMULATOR = ("sims.simulate.by_problem", "sims.sweep.devices", "theory.claims.evaluate")
# Where a claim says that its bound fails beyond the closed form of what is simulated.
CLOSED_FORMS = "theory.claims.kinds"


@functools.lru_cache(maxsize=256)
def digest(claim: Claim, simulator: tuple[str, ...] = SIMULATOR) -> str:
    """Returns a digest of the code that a claim's problem, closed form and counts depend on.

    Args:
        claim: from a module of ours, a script or a notebook.
        simulator: the modules that count.
    """
    functions: list[Any] = [claim.problem, claim.predict, claim.estimand.weights]
    modules = set(simulator)
    if claim.fails is not None and claim.fails.region is None:
        modules.add(CLOSED_FORMS)
    elif claim.fails is not None:
        functions.append(claim.fails.region)
    described = _Description()
    for function in functions:
        described.add(function)
    content = "\n".join([code_digest(*modules | described.modules), *described.parts])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class _Description:
    """What functions and the values that they hold are, in words that do not change between runs.

    Args:
        modules: those of ours that define some of them.
        parts: the words.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.parts: list[str] = []
        # The values themselves, so that the identity of none is given to another.
        self._seen: dict[int, Any] = {}

    def add(self, value: Any) -> None:
        """Adds a value and, once, all that it holds."""
        if isinstance(value, type(None) | bool | int | float | complex | str | bytes):
            self.parts.append(repr(value))
            return
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, functools.partial):
            self._add_all("partial", (value.func, *value.args, value.keywords))
        elif isinstance(value, types.MethodType):
            self._add_all("method", (value.__func__, value.__self__))
        elif isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, types.CodeType):
            self._add_code(value)
        elif isinstance(value, types.ModuleType):
            self._is_ours(value.__name__)
        elif isinstance(value, type):
            self._add_class(value)
        elif hasattr(value, "__wrapped__"):  # what jax.jit and functools.wraps return
            self.add(value.__wrapped__)
        else:
            self._add_data(value)

    def _add_all(self, kind: str, values: Iterable[Any]) -> None:
        self.parts.append(f"{kind}:")
        for value in values:
            self.add(value)
        self.parts.append(f":{kind}")

    def _is_ours(self, module: str) -> bool:
        """Returns whether a module is one of ours, which `code_digest` then reads."""
        ours = installed().file(module) is not None
        if ours:
            self.modules.add(module)
        return ours

    def _add_function(self, function: types.FunctionType) -> None:
        self.parts.append(f"function {function.__module__}.{function.__qualname__}")
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        held = (function.__defaults__, function.__kwdefaults__, *cells)
        if not self._is_ours(function.__module__) and not _is_library(function.__module__):
            self._add_code(function.__code__, function.__doc__)
            self._add_names(function.__code__, function.__globals__)
        self._add_all("holds", held)

    def _add_code(self, code: types.CodeType, docstring: str | None = None) -> None:
        # Python keeps the first place for the docstring, and None there without one.
        constants = [None if c == docstring else c for c in code.co_consts]
        self._add_all("code", (code.co_code.hex(), code.co_varnames, *constants))

    def _add_names(self, code: types.CodeType, namespace: Mapping[str, Any]) -> None:
        """Adds what the names of a function outside our packages refer to."""
        self.parts.append(f"names {code.co_names}")
        for name in code.co_names:
            self._is_ours(name)  # an import inside the function
            value = namespace.get(name)
            if isinstance(value, types.ModuleType) and not _is_library(value.__name__):
                # Which names of a module are meant cannot be told from others of the same name.
                self._add_names_of(value, code.co_names)
            self.add(value)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                self._add_names(inner, namespace)

    def _add_names_of(self, module: types.ModuleType, names: Iterable[str]) -> None:
        if not self._is_ours(module.__name__):
            self._add_all(module.__name__, (vars(module).get(name) for name in names))

    def _add_class(self, kind: type) -> None:
        self.parts.append(f"class {kind.__module__}.{kind.__qualname__}")
        if not self._is_ours(kind.__module__) and not _is_library(kind.__module__):
            members = sorted(vars(kind).items())
            self._add_all("members", (value for name, value in members if callable(value)))

    def _add_data(self, value: Any) -> None:
        self._add_class(type(value))
        if isinstance(value, Mapping):
            self._add_all("mapping", (x for key in value for x in (key, value[key])))
        elif isinstance(value, tuple | list):
            self._add_all("sequence", value)
        elif dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            self._add_all("fields", (getattr(value, name) for name in names))
        elif isinstance(getattr(value, "dtype", None), np.dtype):  # of NumPy or JAX
            # As numbers: whether the session's default is float64 does not matter.
            self.parts.append(f"array {np.asarray(value).tolist()!r}")


@functools.cache
def _is_library(module: str) -> bool:
    """Returns whether a module is of Python or installed: its version is recorded, not its code."""
    if module == "__main__" or module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return True
    standard = sysconfig.get_path("stdlib")
    return "site-packages" in file or "dist-packages" in file or file.startswith(standard)
