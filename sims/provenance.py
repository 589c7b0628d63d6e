"""What made a result: the code that its numbers depend on, and the versions of the libraries."""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from theory.domain import InvalidInput

PACKAGES = ("theory", "sims", "nets")
# Fields of a syntax tree that are no part of what the code does, or that the rest implies. What is
# empty is left out too: then all supported versions of Python see one tree.
_SILENT = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params"})

# Statements whose inner statements run when a module is loaded.
_HOLDERS = ast.If | ast.Try | ast.ExceptHandler | ast.With | ast.ClassDef
# A text that may name a data file: a word, and a suffix that is not that of code.
_FILE_NAME = re.compile(r"[\w-]{1,80}\.(?!py\b)\w{1,8}")


class SourceTree(NamedTuple):
    """Packages and their folders, as sorted pairs."""

    folders: tuple[tuple[str, pathlib.Path], ...]

    @classmethod
    def under(cls, root: pathlib.Path) -> "SourceTree":
        """Returns our packages as they lie side by side in a folder."""
        return cls(tuple((package, root / package) for package in sorted(PACKAGES)))

    def file(self, module: str) -> pathlib.Path | None:
        """Returns the source file of a module, or None where there is no such module."""
        package, *rest = module.split(".")
        folder = dict(self.folders).get(package)
        if folder is None:
            return None
        path = folder.joinpath(*rest)
        candidates = (path / "__init__.py", path.with_suffix(".py"))
        # The suffix of a package's own folder would name a file beside the packages.
        return next((file for file in candidates[: 1 + bool(rest)] if file.is_file()), None)


class _Module(NamedTuple):
    """A module as its syntax tree: what its numbers can depend on.

    Args:
        whole: digest of all it does, and of the data files that it names.
        apart: the same without its imports, for a package that is only passed through.
        imports: (module, name taken from it, or "") for each import outside functions.
    """

    whole: bytes
    apart: bytes
    imports: tuple[tuple[str, str], ...]


@functools.cache
def installed() -> SourceTree:
    """Returns our packages where this process finds them."""
    specs = {package: importlib.util.find_spec(package) for package in sorted(PACKAGES)}
    return SourceTree(
        tuple(
            (package, pathlib.Path(spec.submodule_search_locations[0]))
            for package, spec in specs.items()
            if spec is not None and spec.submodule_search_locations
        )
    )


def code_digest(*modules: str, tree: SourceTree | None = None) -> str:
    """Returns a digest of the code that the named modules can run, 16 hexadecimal digits.

    That is every module of `theory`, `sims` and `nets` that they reach by imports, and the data
    files beside those that they name. Comments, docstrings, formatting and `__all__` do not count.
    An import inside a function is not followed: what is loaded only when asked for is named by
    those who ask. Of a package that is only passed through on the way to a module its own
    statements count, but not what it imports.

    Args:
        modules: dotted names, such as "sims.simulate.by_problem".
        tree: where the packages lie; as they are installed if None.

    Raises:
        InvalidInput: for a module that is not there.
    """
    tree = tree or installed()
    # Sorted, and with the name of each module: what is moved elsewhere is other code.
    digest = hashlib.sha256()
    for name, content in sorted(_reached(tree, modules).items()):
        digest.update(f"{name}\n".encode() + content)
    return digest.hexdigest()[:16]


def reached_modules(*modules: str, tree: SourceTree | None = None) -> list[str]:
    """Returns the names of the modules whose code `code_digest` counts, sorted."""
    return sorted(_reached(tree or installed(), modules))


def _reached(tree: SourceTree, modules: tuple[str, ...]) -> dict[str, bytes]:
    """Returns the digest of each module that is reached, by name."""
    contents: dict[str, bytes] = {}
    waiting = list(modules)
    for name in modules:
        if tree.file(name) is None:
            raise InvalidInput(f"module = {name!r}: must be a module of {', '.join(PACKAGES)}")
    followed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in followed:
            continue
        followed.add(name)
        module = _read(tree, name)
        contents[name] = module.whole
        # `whole` stays where a package is itself asked for, whichever comes first.
        for parent in _parents(name):
            contents.setdefault(parent, _read(tree, parent).apart)
        for origin, taken in module.imports:
            waiting += _meant(tree, origin, taken)
    return contents


def _meant(tree: SourceTree, origin: str, taken: str) -> list[str]:
    """Returns the module of ours that an import needs, if any, in a list."""
    # `from package import name` may mean a module, or what the package itself defines.
    if taken and tree.file(f"{origin}.{taken}"):
        return [f"{origin}.{taken}"]
    return [origin] if tree.file(origin) else []


def _parents(name: str) -> Iterator[str]:
    """Yields the packages around a module, which Python runs before it."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@functools.cache
def _read(tree: SourceTree, name: str) -> _Module:
    path = tree.file(name)
    assert path is not None  # asked of modules that are there only
    body = [s for s in ast.parse(path.read_bytes()).body if not _is_silent(s)]
    texts: list[str] = []
    imports: list[tuple[str, str]] = []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    plain, importing = hashlib.sha256(), hashlib.sha256()
    for statement in body:
        parts: list[str] = []
        _write(statement, parts, texts)
        isolated = isinstance(statement, ast.Import | ast.ImportFrom)
        (importing if isolated else plain).update("".join(parts).encode())
        imports += _imports(statement, package)
    for text in sorted(set(texts)):
        if (data := path.with_name(text)).is_file():
            plain.update(data.read_bytes())
    return _Module(plain.digest() + importing.digest(), plain.digest(), tuple(imports))


def _is_silent(statement: ast.stmt) -> bool:
    """Returns whether a statement of a module does nothing: its docstring, `__all__`, types."""
    match statement:
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return True
    return False


def _write(node: ast.AST, parts: list[str], texts: list[str]) -> None:
    """Adds a node to `parts` as text, without constants that stand alone, such as docstrings.

    Args:
        node: of a syntax tree.
        parts: the text so far.
        texts: the names of files that may be meant, so far.
    """
    parts.append(f"({type(node).__name__}")
    for field in node._fields:
        if field in _SILENT:
            continue
        value = getattr(node, field, None)
        if (value is None and not isinstance(node, ast.Constant)) or value == []:
            continue
        parts.append(f" {field}=")
        if isinstance(value, list):
            for item in value:
                if isinstance(item, ast.AST):
                    if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):
                        _write(item, parts, texts)
                else:
                    parts.append(f"{item!r},")
        elif isinstance(value, ast.AST):
            _write(value, parts, texts)
        else:
            parts.append(f"{value!r}")
            if isinstance(value, str) and _FILE_NAME.fullmatch(value):
                texts.append(value)
    parts.append(")")


def _imports(statement: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """Yields what a statement imports when the module is loaded, not inside functions."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.name, ""
    elif isinstance(statement, ast.ImportFrom):
        above = package.rsplit(".", statement.level - 1)[0] if statement.level else ""
        origin = ".".join(filter(None, (above, statement.module)))
        for alias in statement.names:
            yield origin, alias.name
    elif isinstance(statement, _HOLDERS):
        for inner in ast.iter_child_nodes(statement):
            yield from _imports(inner, package)


def versions() -> str:
    """Returns the versions of the numerical libraries, for the record."""
    names = ("jax", "jaxlib", "numpy", "scipy")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
