"""What a data set of each kind must hold: one table for a kind, checked where a file is read.

A table has rows for variables, coordinates and attributes. What a table does not name is let
through: later versions add variables, and whoever has a file may too.
"""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

from sims.files.refusal import refusal, shown

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

# NumPy's letters for kinds of values, as a row gives them, and what messages call them.
KINDS = {
    "b": "bool",
    "i": "integer",
    "u": "unsigned integer",
    "f": "float",
    "O": "text",
    "U": "text",
}
INTEGER, NUMBER, TEXT = "iu", "iuf", "OUT"


class Row(NamedTuple):
    """A variable or a coordinate.

    Args:
        dims: their names in order, where `...` stands for any number of others; None for any.
        kinds: letters of the kinds of values that are allowed: INTEGER, NUMBER, TEXT, "f", "b".
        low, high: the closed range of all values; nan is outside of any.
        at_most: another variable, of these dims or fewer, above which no value may be; or, as
            "@NAME", an attribute.
        nan: whether a value may be nan, where that says that there is none.
        unique: whether no value may be there twice, as on an axis.
        json: whether each text must be JSON.
        optional: whether the variable may be missing.
    """

    dims: tuple[str | EllipsisType, ...] | None = None
    kinds: str = NUMBER
    low: float = -math.inf
    high: float = math.inf
    at_most: str = ""
    nan: bool = False
    unique: bool = False
    json: bool = False
    optional: bool = False


class Attribute(NamedTuple):
    """An attribute.

    Args:
        kinds: as of a `Row`, of a single value.
        low, high: the closed range of a number.
        choices: the texts that it may be; any if empty.
        optional: whether it may be missing.
    """

    kinds: str = TEXT
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False


class Table(NamedTuple):
    """A kind of file.

    Args:
        kind: what it is called in messages, such as "a sweep".
        variables, coordinates, attributes: the rows, by name.
    """

    kind: str
    variables: Mapping[str, Row]
    coordinates: Mapping[str, Row] = {}
    attributes: Mapping[str, Attribute] = {}


COUNT = Row(kinds=INTEGER, low=0)
PROBABILITY = Row(kinds="f", low=0, high=1)


def require(path: pathlib.Path, dataset: "xr.Dataset", table: Table) -> None:
    """Checks a data set against the table of its kind.

    Args:
        path: where it was read, for the message.
        dataset: of any kind.
        table: of the kind that it must be.

    Raises:
        InvalidInput: naming the file, the first variable or attribute that does not fit, what it is
            and what is allowed.
    """
    for complaint in _complaints(dataset, table):
        raise refusal(f"results = {path}: not {table.kind}, {complaint}")


def _complaints(dataset: "xr.Dataset", table: Table) -> Iterator[str]:
    # First, as they may bound variables.
    for name, attribute in table.attributes.items():
        if name in dataset.attrs:
            yield from _of_attribute(name, dataset.attrs[name], attribute)
        elif not attribute.optional:
            yield f"it has no attribute {name!r}"
    rows = (table.variables, dataset.data_vars), (table.coordinates, dataset.coords)
    for named, present in rows:
        for name, row in named.items():
            if name in present:
                yield from _of_variable(name, dataset, row)
            elif not row.optional:
                yield f"it has no {name!r}"
    # Last, when both are known to be numbers.
    for name, row in table.variables.items():
        if row.at_most and name in dataset:
            yield from _above(name, dataset, row.at_most)


def _of_variable(name: str, dataset: "xr.Dataset", row: Row) -> Iterator[str]:
    variable = dataset[name]
    values = variable.values
    if row.dims is not None and not _fits(variable.dims, row.dims):
        yield f"{name} has the dimensions ({_list(variable.dims)}): must be ({_list(row.dims)})"
    if not _is_kind(values, row.kinds):
        yield f"{name} is of type {values.dtype}: must be {_words(row.kinds)}"
    if row.kinds != TEXT:
        yield from _of_values(name, values, row)
    elif row.json and (broken := [text for text in values.flat if not _is_json(text)]):
        yield f"{name} has a value {shown(str(broken[0]), 40)}: must be JSON"
    if row.unique and len(set(values.ravel().tolist())) < values.size:
        yield f"{name} has a value twice: each must be there once"


def _of_values(name: str, values: "np.ndarray[Any, Any]", row: Row) -> Iterator[str]:
    inside = (values >= row.low) & (values <= row.high)
    if row.nan:
        inside |= values != values
    if not inside.all():
        first = values[~inside].flat[0]
        yield f"{name} has a value {first}: must be in {_range(row.low, row.high)}"


def _above(name: str, dataset: "xr.Dataset", bound: str) -> Iterator[str]:
    variable = dataset[name]
    most = dataset.attrs.get(bound[1:]) if bound[0] == "@" else dataset.get(bound)
    if most is None or isinstance(most, str):
        yield f"it has no {bound!r}, which {name} may not be above"
    elif not set(getattr(most, "dims", ())) <= set(variable.dims):
        yield f"{bound} has the dimensions ({_list(most.dims)}): must be among those of {name}"
    elif not (within := variable <= most).all():
        first = variable.values[~within.transpose(*variable.dims).values][0]
        meant = bound if bound in dataset else f"its attribute {bound[1:]} = {most}"
        yield f"{name} has a value {first}: must be at most {meant}"


def _of_attribute(name: str, value: Any, attribute: Attribute) -> Iterator[str]:
    import numpy as np

    values = np.asarray(value)
    if values.ndim or not _is_kind(values, attribute.kinds):
        yield f"its attribute {name} = {shown(value)}: must be {_words(attribute.kinds)}"
    elif attribute.kinds == TEXT:
        if attribute.choices and str(value) not in attribute.choices:
            yield f"its attribute {name} = {shown(value)}: must be {' or '.join(attribute.choices)}"
    elif not attribute.low <= values.item() <= attribute.high:
        allowed = _range(attribute.low, attribute.high)
        yield f"its attribute {name} = {value}: must be in {allowed}"


def _fits(dims: tuple[Any, ...], pattern: tuple[str | EllipsisType, ...]) -> bool:
    """Returns whether dims are those of the pattern, in which `...` stands for any others."""
    if ... not in pattern:
        return dims == pattern
    at = pattern.index(...)
    before, after = pattern[:at], pattern[at + 1 :]
    ends = dims[:at] == before and dims[len(dims) - len(after) :] == after
    return ends and len(dims) >= len(before) + len(after)


def _is_kind(values: "np.ndarray[Any, Any]", kinds: str) -> bool:
    if values.dtype.kind == "O":
        # Texts of any length; numbers in an array of objects are of no type that we write.
        return "O" in kinds and all(isinstance(value, str) for value in values.flat)
    return values.dtype.kind in kinds


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _words(kinds: str) -> str:
    return " or ".join(dict.fromkeys(KINDS.get(kind, "text") for kind in kinds))


def _range(low: float, high: float) -> str:
    left = "(-inf" if low == -math.inf else f"[{low:g}"
    return f"{left}, " + ("inf)" if high == math.inf else f"{high:g}]")


def _list(dims: tuple[Any, ...]) -> str:
    return ", ".join("..." if dim is ... else str(dim) for dim in dims)
