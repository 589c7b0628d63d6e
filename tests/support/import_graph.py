"""Who imports whom, read once from the source, and what a fresh process has loaded.

Names are exact: `theory.claims.claim_formulas` is not `theory.claims.claim`. Every function takes
the folder that holds the packages, or imports already read, so that tests can plant a cheat.
"""

import ast
import json
import os
import pathlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple


class Import(NamedTuple):
    """One import: a module, what it imports, the line, and how.

    `deferred` imports stand in a function; `discovered` ones are made by name with importlib, as a
    registry does, and are no arrow of the design.
    """

    importer: str
    imported: str
    line: int
    deferred: bool
    discovered: bool


def modules(root: pathlib.Path, packages: Sequence[str]) -> dict[str, pathlib.Path]:
    """Returns the file of every module of these packages, by its dotted name."""
    named = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def read_imports(root: pathlib.Path, packages: Sequence[str]) -> list[Import]:
    """Returns every import that modules of these packages make of one another."""
    named = modules(root, packages)
    return [
        entry
        for importer, path in named.items()
        for entry in _imports_of(importer, path, named)
        if entry.imported.partition(".")[0] in packages
    ]


def _imports_of(
    importer: str, path: pathlib.Path, named: Mapping[str, pathlib.Path]
) -> Iterator[Import]:
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node, deferred in _with_depth(ast.parse(path.read_text("utf-8")), False):
        for target in _targets(node, package):
            # `from a import b` is of module a.b where there is one, else of a name in a.
            known = target if target in named else target.rpartition(".")[0]
            plain = isinstance(node, ast.Import | ast.Call)
            yield Import(
                importer,
                target if plain else known,
                node.lineno,
                deferred,
                isinstance(node, ast.Call),
            )


def _with_depth(
    node: ast.AST, deferred: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom | ast.Call, bool]]:
    """Yields imports, and calls that may be one, with whether they stand inside a function."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
        yield node, deferred
    inside = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _with_depth(child, inside)


def _targets(node: ast.Import | ast.ImportFrom | ast.Call, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        # Two dots are the parent of the package, and so on.
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
        return [f"{base}.{alias.name}" for alias in node.names]
    called = ast.unparse(node.func).rpartition(".")[2]
    if called in ("import_module", "__import__") and node.args:
        name = node.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            return [name.value]
    return []


def room(module: str) -> str:
    """Returns the room of a module: the package or module right below its top-level package."""
    return ".".join(module.split(".")[:2])


def arrows(imports: Iterable[Import], package: str) -> dict[tuple[str, str], list[Import]]:
    """Returns the arrows between rooms of a package, each with the imports that draw it."""
    drawn = defaultdict(list)
    for entry in imports:
        pair = room(entry.importer), room(entry.imported)
        inside = all(name.startswith(f"{package}.") for name in pair)
        if inside and pair[0] != pair[1] and not entry.discovered:
            drawn[pair].append(entry)
    return dict(drawn)


def circles(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the names from which arrows lead back to themselves, sorted."""
    after = defaultdict(set)
    for source, target in pairs:
        after[source].add(target)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            fresh = after[waiting.pop()] - seen
            seen |= fresh
            waiting.extend(fresh)
        return seen

    return sorted(name for name in list(after) if name in reached(name))


def upward(pairs: Iterable[tuple[str, str]], layers: Sequence[str]) -> list[str]:
    """Returns the arrows that run upward, from a room to one that is not before it in `layers`."""
    height = {name: i for i, name in enumerate(layers)}
    violations = []
    for source, target in pairs:
        if missing := [name for name in (source, target) if name not in height]:
            violations.append(f"{missing[0]} has no place in the order of the rooms")
        elif height[source] <= height[target]:
            violations.append(f"{source} imports {target}, which stands above it")
    return violations


def forbidden(imports: Iterable[Import], allowed: Mapping[str, Sequence[str] | None]) -> list[str]:
    """Returns the imports across packages that are not allowed, as lines to print.

    Args:
        imports: all of them.
        allowed: by package, room or module, the exact modules of other packages that it may import
            (None: any); the longest name that covers the importer decides.
    """
    violations = []
    for entry in imports:
        if entry.importer.partition(".")[0] == entry.imported.partition(".")[0]:
            continue
        parts = entry.importer.split(".")
        covering = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        known = next((allowed[name] for name in covering if name in allowed), ())
        if known is not None and entry.imported not in known:
            violations.append(f"{entry.importer}:{entry.line} imports {entry.imported}")
    return violations


def past_the_door(
    imports: Iterable[Import], root: pathlib.Path, open_packages: Container[str]
) -> list[str]:
    """Returns the imports, from outside of a package, of what its __all__ does not name.

    Args:
        imports: all of them.
        root: the folder with the packages.
        open_packages: those whose __all__ names no modules, so that all of them may be imported.
    """
    violations = []
    for entry in imports:
        package, _, name = entry.imported.rpartition(".")
        within = f"{entry.importer}.".startswith(f"{package}.")
        path = root.joinpath(*package.split("."), "__init__.py")
        if not package or within or package in open_packages or not path.exists():
            continue
        if name not in public_names(path):
            violations.append(f"{entry.importer}:{entry.line} imports {entry.imported}: inside")
    return violations


def public_names(path: pathlib.Path) -> list[str]:
    """Returns what the __all__ of a file names, as it stands there; nothing where there is none."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def crowded(root: pathlib.Path, packages: Sequence[str], most: int) -> list[str]:
    """Returns the folders with more than `most` modules and packages, with how many they have."""
    violations = []
    for package in packages:
        for folder in [root / package, *sorted((root / package).rglob("*"))]:
            if not folder.is_dir():
                continue
            entries = [path for path in folder.iterdir() if _is_entry(path)]
            if len(entries) > most:
                violations.append(f"{folder.relative_to(root)} has {len(entries)} entries")
    return violations


def _is_entry(path: pathlib.Path) -> bool:
    """Returns whether it is a module, or a folder with modules; recipes and data are neither."""
    if path.is_dir():
        return any(path.rglob("*.py"))
    return path.suffix == ".py" and path.stem not in ("__init__", "__main__")


def loaded_by(root: pathlib.Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Returns what a fresh process loads for each of these modules, imported in turn.

    Args:
        root: the folder with the packages.
        names: the modules; what one has loaded is not loaded, nor listed, again for the next.
    """
    code = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        f"for name in {list(names)!r}:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        "    loaded[name] = sorted(set(sys.modules) - before)\n"
        "print(json.dumps(loaded))\n"
    )
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=environment,
    )
    return json.loads(done.stdout)


def loads_too_much(
    root: pathlib.Path, names: Sequence[str], package: str, known: Sequence[str]
) -> list[str]:
    """Returns the modules of `package`, but for the `known` ones, that a fresh process loads.

    Each with the first of the modules `names` whose import loads it.
    """
    return [
        f"{name} loads {module}"
        for name, fresh in loaded_by(root, names).items()
        for module in fresh
        if module.partition(".")[0] == package and module not in known
    ]
