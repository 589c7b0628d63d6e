"""JSON, TOML and values are typed strictly: one line names the file, the key, and what may be."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from sims.files import records
from theory.domain import InvalidInput

LABEL = "run = a.json"


def require_one_line(read, data, words):
    with pytest.raises(InvalidInput) as error:
        read(data, LABEL)
    line = str(error.value)
    assert line.startswith(f"{LABEL}: ")
    assert words in line
    assert "\n" not in line


class Layer(msgspec.Struct, forbid_unknown_fields=True):
    """A table inside of another."""

    kind: Literal["linear", "conv"]
    width: Annotated[int, msgspec.Meta(ge=1)] = 1


class LayeredRecipe(msgspec.Struct, forbid_unknown_fields=True):
    """One field of each kind."""

    name: str
    layers: list[Layer | None] = []
    by_name: dict[str, Layer] = {}
    shape: tuple[int, int] = (1, 1)
    rate: float = 0.1
    options: dict[str, Any] | None = None
    names: Annotated[list[str], msgspec.Meta(min_length=2)] | None = None


CASES = [
    ({}, "has no 'name'"),
    ([], "value = []: must be a table of keys and values"),
    ({"name": 3}, "name = 3: must be a text"),
    ({"name": None}, "name = null: must be a text"),
    ({"name": "a", "rat": 1}, "rat: unknown; did you mean rate?"),
    (
        {"name": "a", "zzz": 1},
        "zzz: unknown; known: by_name, layers, name, names, options, rate, shape",
    ),
    ({"name": "a", "rate": "0.5"}, "rate = '0.5': must be a number"),
    ({"name": "a", "rate": True}, "rate = True: must be a number"),
    ({"name": "a", "shape": [1, 2.5]}, "shape[1] = 2.5: must be an integer"),
    ({"name": "a", "shape": [1]}, "shape = [1]: must be a list of length 2"),
    ({"name": "a", "names": ["a"]}, "names = ['a']: must be a list of length >= 2"),
    ({"name": "a", "options": []}, "options = []: must be a table of keys and values or null"),
    (
        {"name": "a", "layers": [None, {"kind": "con"}]},
        "layers[1].kind = 'con': must be one of conv, linear",
    ),
    (
        {"name": "a", "layers": [{"kind": "conv", "width": 0}]},
        "layers[0].width = 0: must be an integer >= 1",
    ),
    (
        {"name": "a", "layers": [{"kind": "conv", "wide": 2}]},
        "layers[0].wide: unknown; did you mean width?",
    ),
    # Of a table with any keys, the one that does not fit is found.
    (
        {
            "name": "a",
            "by_name": {"first": {"kind": "conv"}, "se.co[nd]": {"kind": "conv", "width": 0}},
        },
        "by_name.se.co[nd].width = 0: must be an integer >= 1",
    ),
    ({"name": "a", "layers": "x" * 500}, f"layers = '{'x' * 76}...: must be a list"),
]


@pytest.mark.parametrize(("value", "line"), CASES)
def test_a_value_of_another_type_is_named(value, line):
    with pytest.raises(InvalidInput) as error:
        records.typed(value, LayeredRecipe, LABEL)
    assert str(error.value) == f"{LABEL}: {line}"


def test_a_value_inside_of_a_file_is_named_by_its_whole_key():
    with pytest.raises(InvalidInput, match=r"^run = a.json: layers\[3\]\.width = 0: must be"):
        records.typed({"kind": "conv", "width": 0}, Layer, LABEL, at="layers[3]")


def test_what_fits_is_converted():
    value = {"name": "a", "layers": [{"kind": "conv"}], "shape": [3, 4], "rate": 1}
    recipe = records.typed(value, LayeredRecipe, LABEL)
    assert (recipe.layers, recipe.shape, recipe.rate) == ([Layer("conv")], (3, 4), 1.0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not readable as JSON (Expecting value: line 1 column 1 (char 0))"),
        (b'{"a": 1', "not readable as JSON (Expecting ',' delimiter"),
        (b"\xff\xfe", "not UTF-8: byte 0"),
        (b"[" * 100_000, "more than 64 levels"),
        (b"[" * 66 + b"]" * 66, "more than 64 levels"),
        (b'{"a": [1, {"b": NaN}]}', "a[1].b = nan: must be finite"),
        (b'{"a": -1e999}', "a = -inf: must be finite"),
        (b"9" * 30, "must fit in 64 bits"),
        (b"9" * 5000, "a number of too many digits"),
        (b'{"a": 1, "a": 2}', "the key 'a' is given twice"),
        (rb'{"a": "\ud800"}', "must be Unicode text"),
        (rb'{"\ud800": 1}', "must be Unicode text"),
    ],
)
def test_what_is_no_modest_json_is_refused(data, words):
    require_one_line(records.from_json, data, words)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a = [1,", "not TOML (Invalid value (at end of document))"),
        (b"a = 1\na = 2", "not TOML (Cannot overwrite a value"),
        (b"a = '\xff'", "not UTF-8: byte 5"),
        (b"a = " + b"[" * 100_000, "more than 64 levels"),
        (b"[x]\na = [1, nan]", "x.a[1] = nan: must be finite"),
        (b"a.b = inf", "a.b = inf: must be finite"),
        (b"a = " + b"9" * 30, "must fit in 64 bits"),
        (b"a = " + b"9" * 5000, "a number of too many digits"),
    ],
)
def test_what_is_no_modest_toml_is_refused(data, words):
    require_one_line(records.from_toml, data, words)


def test_files_that_are_right_are_read():
    assert records.from_json(b'{"a": [1, 2.5, null, "\xc3\xa9"]}', LABEL) == {
        "a": [1, 2.5, None, "é"]
    }
    assert records.from_toml(b"a.b = 9223372036854775807", LABEL) == {"a": {"b": 2**63 - 1}}
