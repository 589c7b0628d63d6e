"""Words of a command line: typed values or one line, which names the option and what is allowed."""

import io
import pathlib
import sys
from typing import Any, Literal

import pytest
import tyro

from theory.command_line.words import parse, require_file_name
from theory.domain import InvalidInput


def command(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    trials: int = 5,
    until: float | None = None,
    grid: tuple[str, ...] = (),
    ratios: tuple[float, ...] = (1, 2),
    merge: tuple[pathlib.Path, ...] = (),
    out: pathlib.Path = pathlib.Path("results"),
    norm: Literal["l1", "l2"] = "l1",
    self_test: bool = False,
) -> int:
    """Returns its arguments, as no command does, for the tests."""
    return names, trials, until, grid, ratios, merge, out, norm, self_test


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        ("--trials 1e6", 1, 1_000_000),
        ("--trials=1_000", 1, 1000),
        ("--until 8/255", 2, 8 / 255),
        ("--ratios 1 1/2 1e-3", 4, (1.0, 0.5, 1e-3)),
        ("--grid a b", 3, ("a", "b")),
        ("--grid a --trials 3 --grid b c", 3, ("a", "b", "c")),
        ("--grid=a --grid=b", 3, ("a", "b")),
        ("--ratios -1 -2", 4, (-1.0, -2.0)),
        ("x y --self-test", 0, ("x", "y")),
        ("--self-test x", 0, ("x",)),
        ("--self_test", 8, True),
        ("--merge a b", 5, (pathlib.Path("a"), pathlib.Path("b"))),
        ("", 4, (1, 2)),
    ],
)
def test_words_become_values(words, place, value):
    values: Any = parse(command, "prog", words.split())()
    assert values[place] == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trials", "x"], "--trials = 'x': must be a whole number, such as 100000 or 1e5"),
        (["--trials", "1.5"], "--trials = '1.5': must be a whole number"),
        (["--trials", "\u0663"], "--trials = '\u0663': must be a whole number"),
        (["--trials", "9" * 5000], r"--trials = '9{40}\.\.\.9{10}': must be a whole"),
        (["--until", "nan"], "--until = 'nan': must be a number, such as 0.5, 1e-3 or 8/255"),
        (["--ratios", "1", "x"], "--ratios = 'x': must be a number"),
        (["--until", "1e999999999"], "--until = '1e999999999': must be a number"),
        (["--trials", "3", "--trials", "4"], "--trials: is given twice"),
        (["--self-test", "--self_test"], "--self-test: is given twice"),
        (["--merge"], "--merge: at least one value must follow"),
        (["--merge", "--trials", "3"], "--merge: at least one value must follow"),
        (["--trials"], "Missing value for argument '--trials'"),
        (["--tirals", "3"], "Unrecognized options: --tirals, 3; did you mean --trials"),
        (["--norm", "l9"], r"invalid choice 'l9' for argument '--norm'.*'l1', 'l2'"),
        (["--out", ""], "--out = '': must be a path"),
        (["--out", "a" * 300], r"--out = 'a{40}\.\.\.a{10}': must be a path, of at most 4095"),
        (["--merge", "a/" * 3000], "--merge = .*: must be a path"),
        (["--out", "a\0b"], "--out = .*: must be a path"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_bad_word_is_one_line(words, message, encoding, monkeypatch):
    # The parser draws its box with other signs where the output has no better ones.
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    with pytest.raises(InvalidInput, match=message) as error:
        parse(command, "prog", words)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_the_help_keeps_the_types(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(command, "prog", ["--help"])
    assert not stop.value.code
    shown = capsys.readouterr().out
    for words in ("--trials INT", "FLOAT", "--out PATH", "--ratios [FLOAT [FLOAT ...]]", "1 2"):
        assert words in shown


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../escaped",
        "a/b",
        "/etc/x",
        "a\\b",
        ".hidden",
        "a\nb",
        "a\0b",
        "a" * 201,
        "\u00e9" * 101,
    ],
)
def test_a_name_that_is_no_file_in_its_folder_is_refused(name):
    with pytest.raises(InvalidInput, match=r"name = .*: must be the name of a file"):
        require_file_name("name", name)


@pytest.mark.parametrize("name", ["evaluation", "a b", "l2-8.255", "\u00e9" * 100, "a" * 200])
def test_a_name_of_a_file_is_taken(name):
    require_file_name("name", name)
