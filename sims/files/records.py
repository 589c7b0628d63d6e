"""JSON, TOML and plain values as typed values, strictly, with one line for what does not fit.

msgspec does it, and not pydantic or cattrs: with a first type it starts in 0.03 s here (pydantic
0.13 s and 16 MB more, cattrs 0.05 s), has no dependencies, reads JSON itself and is kept by the
community that made it. It checks ranges and lengths that stand in the type, which cattrs does not,
converts nothing silently (pydantic takes "3" for 3 unless told), and its one error has a path.
"""

import difflib
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import msgspec

from sims.files.refusal import refusal, shown

T = TypeVar("T")
DEEPEST = 64
_LARGEST = 2**63 - 1
# JSON may hold half of a pair, which no text can be written with.
_SURROGATE = re.compile("[\ud800-\udfff]")


def from_json(data: bytes, label: str) -> Any:
    """Returns what JSON holds, as plain values.

    Args:
        data: of the file.
        label: what messages begin with, such as "run = PATH".

    Raises:
        InvalidInput: for what is not JSON in UTF-8, a key that is given twice, a number that is not
            finite or needs more than 64 bits, and more than 64 levels.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key, value in pairs:
            if key in table:
                raise refusal(f"{label}: the key {shown(key)} is given twice")
            table[key] = value
        return table

    def parse(text: str) -> Any:
        return json.loads(text, object_pairs_hook=once)

    return _plain(data, label, "readable as JSON", parse)


def from_toml(data: bytes, label: str) -> dict[str, Any]:
    """Returns what TOML holds, as plain values; see `from_json`.

    Raises:
        InvalidInput: for what is not TOML in UTF-8, numbers and levels as `from_json`.
    """
    values: dict[str, Any] = _plain(data, label, "TOML", tomllib.loads)
    return values


def typed(value: Any, kind: type[T], label: str, at: str = "") -> T:
    """Returns plain values as the type that they must have: a Struct, a dataclass, or any other.

    Args:
        value: of JSON, TOML or a caller.
        kind: the type, with constraints as `Annotated[int, msgspec.Meta(ge=1)]`; a Struct with
            `forbid_unknown_fields` refuses keys that it does not know, and names the nearest.
        label: what messages begin with, such as "run = PATH".
        at: the key under which the value lies in its file, where that is not the whole.

    Raises:
        InvalidInput: naming the key, its value, and what is allowed.
    """
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        _refuse(value, kind, label, at, str(error))
    except RecursionError as error:
        raise refusal(f"{label}: more than {DEEPEST} levels") from error


def _plain(data: bytes, label: str, language: str, parse: Callable[[str], Any]) -> Any:
    try:
        values = parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise refusal(f"{label}: not {language} (not UTF-8: byte {error.start})") from error
    except RecursionError as error:
        raise refusal(f"{label}: not {language} (more than {DEEPEST} levels)") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise refusal(f"{label}: not {language} ({error})") from error
    except ValueError as error:
        # Of our own hook, or Python's limit on the digits of an integer.
        if type(error) is not ValueError:
            raise
        raise refusal(f"{label}: not {language} (a number of too many digits)") from error
    _require_modest(values, label, language)
    return values


def _require_modest(values: Any, label: str, language: str) -> None:
    """Raises InvalidInput, naming the key, for what no file of ours can hold."""
    waiting = [(values, "", 0)]
    while waiting:
        value, key, depth = waiting.pop()
        if depth > DEEPEST:
            raise refusal(f"{label}: not {language} (more than {DEEPEST} levels)")
        if isinstance(value, float) and not math.isfinite(value):
            raise refusal(f"{label}: {key or 'value'} = {value}: must be finite")
        if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
            raise refusal(f"{label}: {key or 'value'} = {shown(value, 40)}: must fit in 64 bits")
        if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
            raise refusal(f"{label}: {key or 'value'} = {shown(value)}: must be Unicode text")
        waiting += [(inner, name, depth + 1) for inner, name in _inside(value, key)]


def _inside(value: Any, key: str) -> Iterator[tuple[Any, str]]:
    """Yields the values inside of one, each with its key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, f"the key {shown(name)}"
            yield inner, f"{key}.{name}" if key else str(name)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield inner, f"{key}[{place}]"


# msgspec's names of types, in the words of JSON and TOML files.
_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table of keys and values",
    "null": "null",
}
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def _refuse(value: Any, kind: Any, label: str, at: str, message: str) -> NoReturn:
    """Raises InvalidInput for what msgspec says of a value."""
    reason, _, path = message.removesuffix("`").partition(" - at `")
    steps = _steps(value, kind, path)
    key = _key(at, steps)
    named = reason.split("`")[1] if "`" in reason else ""
    if reason.startswith("Object contains unknown field"):
        hint = _hint(named, [field.encode_name for t in _types(kind, steps) for field in t.fields])
        raise refusal(f"{label}: {_key(key, [named])}: unknown; {hint}")
    if reason.startswith("Object missing required field"):
        raise refusal(f"{label}: has no {_key(key, [named])!r}")
    inner = value
    for step in steps:
        inner = inner[step]
    given = "null" if inner is None else shown(inner)
    allowed = reason.removeprefix("Expected ").partition(", got ")[0].replace("`", "")
    for word, meaning in _WORDS.items():
        allowed = re.sub(rf"\b{word}\b", meaning, allowed, count=1)
    if reason.startswith("Invalid enum value"):
        choices = [choice for t in _types(kind, steps) for choice in t.values]
        allowed = f"one of {', '.join(map(str, choices))}"
    raise refusal(f"{label}: {key or 'value'} = {given}: must be {allowed.replace(' | ', ' or ')}")


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"


def _key(at: str, steps: list[Any]) -> str:
    """Returns a key as messages write it: stages[0].name."""
    for step in steps:
        at += f"[{step}]" if isinstance(step, int) else f".{step}" if at else str(step)
    return at


def _steps(value: Any, kind: Any, path: str) -> list[Any]:
    """Returns the keys and places that msgspec's path names, such as $.stages[0][...].name.

    It does not name the key of a table that may have any: the first entry that fails is it.
    """
    steps: list[Any] = []
    inner = value
    for name, place in _STEP.findall(path.removeprefix("$")):
        step = name or (_failing(value, kind, steps, inner) if place == "..." else int(place))
        if step is None:
            break
        steps.append(step)
        inner = inner[step]
    return steps


def _failing(value: Any, kind: Any, steps: list[Any], table: Any) -> Any:
    """Returns the first key of the table at these steps whose entry alone does not fit."""
    for key, entry in table.items():
        try:
            msgspec.convert(_with(value, steps, {key: entry}), kind, strict=True)
        except msgspec.ValidationError:
            return key
    return None


def _with(value: Any, steps: list[Any], table: dict[str, Any]) -> Any:
    """Returns the value with another table at these steps."""
    if not steps:
        return table
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[steps[0]] = _with(copy[steps[0]], steps[1:], table)
    return copy


def _types(kind: Any, steps: list[Any]) -> list[Any]:
    """Returns what msgspec knows of the types at these steps that have fields or values."""
    import msgspec.inspect

    types = _alternatives(msgspec.inspect.type_info(kind))
    for step in steps:
        types = [inner for outer in types for inner in _below(outer, step)]
    return [each for each in types if hasattr(each, "fields") or hasattr(each, "values")]


def _alternatives(kind: Any) -> list[Any]:
    return [each for t in getattr(kind, "types", [kind]) for each in [getattr(t, "type", t)]]


def _below(kind: Any, step: Any) -> list[Any]:
    """Returns the types of what lies at one key or place of a type."""
    if hasattr(kind, "fields"):
        return [t for f in kind.fields if f.encode_name == step for t in _alternatives(f.type)]
    if hasattr(kind, "item_types"):
        return _alternatives(kind.item_types[step]) if step < len(kind.item_types) else []
    inner = getattr(kind, "value_type", getattr(kind, "item_type", None))
    return [] if inner is None else _alternatives(inner)
