"""TOML files with a format number, and single values as TOML writes them."""

import pathlib
import tomllib
from typing import Any

from sims import files
from sims.files import records
from theory.domain import InvalidInput

# Bytes of a file: recipes and studies have a few thousand.
MOST = 2**20


def read(path: pathlib.Path, kind: str, number: int) -> dict[str, Any]:
    """Returns what a TOML file holds beside its format.

    Args:
        path: of the file.
        kind: what it is, for errors.
        number: the format that it must have.

    Raises:
        InvalidInput: naming the file: unreadable, too large or of another format.
    """
    content = records.from_toml(files.contents(path, kind, MOST), f"{kind} = {path}")
    its_format = content.pop("format", "missing")
    # By `type`: true is 1 to Python.
    if type(its_format) is not int or its_format != number:
        raise InvalidInput(f"{kind} = {path}: format = {its_format}, must be {number}")
    return content


def as_value(text: str) -> Any:
    """Returns a value as TOML reads it; what TOML cannot read is a string without quotes.

    Raises:
        InvalidInput: for numbers and levels that no file may hold either.
    """
    # A whole document of one line: TOML knows no values by themselves.
    line = f"value = {text}"
    try:
        # A second line would be a second key.
        if list(tomllib.loads(line)) != ["value"]:
            return text
        document = line.encode()
    except RecursionError:
        document = line.encode()
    except ValueError:
        return text
    return records.from_toml(document, "setting")["value"]
