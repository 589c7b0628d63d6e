"""The one grammar of numbers: what is one, exactly which, and what is none."""

import fractions
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.command_line.numbers import parse_number, parse_whole

NONE = [
    "",
    " ",
    "x",
    "1 ",
    " 1",
    "1,5",
    "--1",
    "1e",
    "1/",
    "/2",
    "1/2/3",
    "8/0",
    "0x10",
    "1__0",
    "_1",
]
NOT_FINITE = ["nan", "inf", "-inf", "Infinity", "1e400", "1e-400", "1e999999999", "1/1e-400"]
OTHER_SCRIPTS = ["\u0663", "\uff11", "1\u0660", "\u00b2", "\u00bd", "\u22121"]
LONG = ["9" * 5000, "0." + "1" * 5000, "1" * 200 + "/" + "1" * 250]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        ("-3/4", -0.75),
        (".5/255", 0.5 / 255),
        ("1e6", 1e6),
        ("1_000.5", 1000.5),
        ("+2.", 2.0),
        ("0", 0.0),
        ("-0.0", -0.0),
        ("0/7", 0.0),
        ("1e-320", 1e-320),
        ("1e300/1e-9", None),
        ("1e-300/1e300", None),
        ("1e308/1e300", 1e8),
    ],
)
def test_a_number_is_the_nearest_float(text, value):
    if value is None:
        with pytest.raises(ValueError, match="beyond the numbers"):
            parse_number(text)
    else:
        assert math.copysign(1, parse_number(text)) == math.copysign(1, value)
        assert parse_number(text) == value


@pytest.mark.parametrize("text", [*NONE, *NOT_FINITE, *OTHER_SCRIPTS, *LONG])
@pytest.mark.parametrize("parse", [parse_number, parse_whole])
def test_what_is_no_number_is_refused_with_an_example(parse, text):
    with pytest.raises(
        ValueError, match=r"must be a (whole )?number, such as|beyond the num"
    ) as error:
        parse(text)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e6", 10**6), ("-12", -12), ("1.5e3", 1500), ("6/2", 3), ("1_000", 1000), ("2.0", 2)],
)
def test_a_whole_number_may_be_written_in_other_ways(text, value):
    assert parse_whole(text) == value
    assert type(parse_whole(text)) is int


@pytest.mark.parametrize("text", ["1.5", "1e-3", "8/255", "1e15/7"])
def test_what_is_not_whole_is_refused(text):
    with pytest.raises(ValueError, match="must be a whole number, such as 100000 or 1e5"):
        parse_whole(text)


@settings(max_examples=200, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 10**6))
def test_what_python_writes_is_read_back_and_ratios_are_rounded_once(value, below):
    assert parse_number(repr(value)) == value
    numerator = int(value) % 10**9
    assert parse_number(f"{numerator}/{below}") == float(fractions.Fraction(numerator, below))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_number_or_refused(text):
    try:
        value = parse_number(text)
    except ValueError:
        return
    assert math.isfinite(value)
    assert text.isascii()
