"""TOML files with a format number, and single values as TOML writes them."""

import pathlib
import tomllib
from typing import Any

from theory.domain import InvalidInput


def read(path: pathlib.Path, kind: str, number: int) -> dict[str, Any]:
    """Returns what a TOML file holds beside its format.

    Args:
        path: of the file.
        kind: what it is, for errors.
        number: the format that it must have.

    Raises:
        InvalidInput: naming the file: unreadable or of another format.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"{kind} = {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InvalidInput(f"{kind} = {path}: not TOML ({error})") from error
    its_format = content.pop("format", "missing")
    if its_format != number:
        raise InvalidInput(f"{kind} = {path}: format = {its_format}, must be {number}")
    return content


def as_value(text: str) -> Any:
    """Returns a value as TOML reads it; what TOML cannot read is a string without quotes."""
    try:
        # A whole document of one line: TOML knows no values by themselves.
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text
