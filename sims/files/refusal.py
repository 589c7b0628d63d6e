"""The error of bad input, without loading NumPy before there is one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from theory.domain import InvalidInput


def refusal(message: str) -> "InvalidInput":
    """Returns the InvalidInput of that one line, to be raised."""
    # theory.domain loads NumPy; command lines import this package and print their help first.
    from theory.domain import InvalidInput

    # One line, whatever a file's name or content holds.
    return InvalidInput("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def shown(value: object, most: int = 80) -> str:
    """Returns a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
