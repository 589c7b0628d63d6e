"""What every public name promises in its docstring, checked on the source.

A public function or class has a docstring; what takes or returns arrays states their shapes, there
or in jaxtyping annotations; what raises says so; and references are entries of references.bib.
"""

import ast
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

# Annotations that are arrays.
ARRAY = re.compile(r"\b(Array|ArrayLike|ndarray|NDArray)\b")
# One size: a number, a name, an expression of both, or any number of leading axes.
SIZE = r"(?:\.\.\.|\*?\w+'?(?:\s*[-+*/]\s*\w+)*)"
# `(n, d)`, `(...)`, `(2,)`, `(K)`, `()`: one long word in parentheses is a remark and no shape.
SHAPE = re.compile(rf"\((?:|\.\.\.|\w{{1,2}}|{SIZE},|{SIZE}(?:,\s*{SIZE})+,?)\)")
# An entry of references.bib: a name and a year.
KEY = re.compile(r"\b[a-z]+(?:18|19|20)\d\d[a-z]*\d*\b")

Definition = ast.FunctionDef | ast.ClassDef


class Violation(NamedTuple):
    """What is wrong with a public name: its module, the line, the name and the rule."""

    module: str
    line: int
    name: str
    rule: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.name}: {self.rule}"


def violations(module: str, source: str, bibliography: Collection[str]) -> list[Violation]:
    """Returns what is wrong with the public definitions of a module, and with all its references.

    Args:
        module: its name, for the message.
        source: its text.
        bibliography: the keys of references.bib.
    """
    tree = ast.parse(source)
    wrong = []
    if not ast.get_docstring(tree):
        wrong.append(Violation(module, 1, "module", "has no docstring"))
    for name, node in public_definitions(tree):
        wrong += [Violation(module, node.lineno, name, rule) for rule in _broken(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            wrong += [
                Violation(module, getattr(node, "lineno", 1), getattr(node, "name", "module"), rule)
                for rule in _bad_references(ast.get_docstring(node) or "", bibliography)
            ]
    wrong += [
        Violation(module, line, "Source", f"key {key} is no entry of references.bib")
        for key, line in _source_keys(tree)
        if key not in bibliography
    ]
    return wrong


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, Definition]]:
    """Yields the functions, classes and methods that __all__ names, or that have no underscore."""
    declared = None
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            declared = ast.literal_eval(node.value)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_") if declared is None else node.name not in declared:
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


def _broken(node: Definition) -> Iterator[str]:
    text = ast.get_docstring(node)
    if not text:
        yield "has no docstring"
        return
    unshaped = [note for note in _annotations(node) if ARRAY.search(note) and not _is_shaped(note)]
    if unshaped and not SHAPE.search(text):
        yield f"takes or returns {unshaped[0]} and states no shape"
    raises = isinstance(node, ast.FunctionDef) and any(
        isinstance(inner, ast.Raise) and inner.exc for inner in _own_body(node)
    )
    if raises and not re.search(r"\bRaises\b", text):
        yield "raises and does not say so"
    for name in _documented(text):
        if name not in _parameters(node):
            yield f"documents {name}, which is no argument"


def _annotations(node: Definition) -> list[str]:
    """Returns the annotations of parameters and result, or of fields."""
    if isinstance(node, ast.ClassDef):
        notes = [field.annotation for field in node.body if isinstance(field, ast.AnnAssign)]
    else:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += filter(None, [arguments.vararg, arguments.kwarg])
        notes = [argument.annotation for argument in every if argument.annotation]
        notes += [node.returns] if node.returns else []
    return [ast.unparse(note) for note in notes]


def _documented(text: str) -> list[str]:
    """Returns the names that the section Args speaks of; a line may have several."""
    section = re.search(r"(?m)^Args:\n((?:    .*\n?)*)", text)
    entries = re.findall(r"(?m)^    (\w[\w, ]*):", section.group(1)) if section else []
    return [name.strip() for entry in entries for name in entry.split(",")]


def _parameters(node: Definition) -> set[str]:
    """Returns the parameters of a function; of a class, its fields and what its methods take."""
    names = {inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg)}
    if isinstance(node, ast.ClassDef):
        names |= {
            field.target.id
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        names |= {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
    return names


def _is_shaped(annotation: str) -> bool:
    """Returns whether it is of jaxtyping: `Float[Array, "n d"]`."""
    return bool(re.search(r"""\[[\w.]*\b(?:Array|ndarray), ['"]""", annotation))


def _own_body(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what stands in a function, but not in those defined inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_body(child)


def _bad_references(text: str, bibliography: Collection[str]) -> Iterator[str]:
    for section in re.findall(r"(?m)^ *References?:((?:.|\n)*?)(?=\n\s*\n|\n\s*>>>|\Z)", text):
        keys = KEY.findall(section)
        yield from (
            f"reference {key} is no entry of references.bib"
            for key in keys
            if key not in bibliography
        )
        if not keys and not re.search(r"\bnew\b|theory document", section):
            yield "references name no entry of references.bib"


def _source_keys(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yields the key of every Source(key, result), also where a constant of the module holds it."""
    constants = {
        ast.unparse(node.targets[0]): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Source":
            given = [*node.args, *(word.value for word in node.keywords if word.arg == "key")][0]
            key = given.value if isinstance(given, ast.Constant) else None
            key = key or constants.get(ast.unparse(given))
            if isinstance(key, str):
                yield key, node.lineno


def bibliography_of(root: pathlib.Path) -> set[str]:
    """Returns the keys of the entries of references.bib."""
    text = (root / "theory" / "references.bib").read_text("utf-8")
    return set(re.findall(r"(?m)^@\w+\{([^,\s]+),", text))


def shared_class_names(sources: dict[str, str]) -> list[str]:
    """Returns the public classes that share a name, with the modules that define them."""
    homes: dict[str, list[str]] = {}
    for module, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    return [
        f"{name} is defined in {', '.join(where)}"
        for name, where in sorted(homes.items())
        if len(where) > 1
    ]
