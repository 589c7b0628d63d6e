"""The words of a command line become typed values, or one line that says what is wrong with them.

tyro reads the signature of a command. Numbers follow `numbers`; paths can be the name of a file;
an option that takes several values may be given several times, and no other may.
"""

import contextlib
import functools
import inspect
import io
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from theory.command_line.numbers import parse_number, parse_whole

# Bytes in a name that a command makes a file of, with room for its ending; in one part of a path
# and in the whole, as file systems have it.
LONGEST_NAME, LONGEST_PART, LONGEST_PATH = 200, 255, 4095


def parse(command: Callable[..., int], program: str, words: Sequence[str]) -> Callable[[], int]:
    """Returns the call of a command with the values that its words say.

    Args:
        command: each of its parameters is an option, or a positional.
        program: what the help calls it.
        words: of the command line.

    Raises:
        InvalidInput: naming the option, its value and what is allowed.
        SystemExit: after --help, which is printed.
    """
    refused: list[str] = []
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                _deferred(command),
                prog=program,
                args=_gathered(command, words),
                # Only the words that the signature has: no --no-... beside each flag.
                config=(tyro.conf.FlagCreatePairsOff,),
                registry=_registry(refused),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        message = f"{_in_a_line(said.getvalue(), refused)}; see {program} --help"
    raise _refusal(message)


def require_file_name(argument: str, name: str) -> None:
    """Raises InvalidInput unless a name can be that of a file inside the folder it is meant for.

    Args:
        argument: what the message calls it.
        name: without its ending.
    """
    is_plain = name.isprintable() and not set(name) & set("/\\\0") and not name.startswith(".")
    if not (name.strip() and is_plain and len(os.fsencode(name)) <= LONGEST_NAME):
        raise _refusal(
            f"{argument} = {name!r}: must be the name of a file: not empty, no slash, no dot in "
            f"front, no control characters, at most {LONGEST_NAME} bytes"
        )


def _refusal(message: str) -> ValueError:
    # Not at the top: --help needs no NumPy, which the module of the error loads.
    from theory.domain import InvalidInput

    return InvalidInput(message)


def _deferred(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Returns a function of the same signature that returns the call instead of making it."""

    @functools.wraps(command)
    def parsed(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return lambda: command(*args, **kwargs)

    return parsed


def _gathered(command: Callable[..., int], words: Sequence[str]) -> list[str]:
    """Returns the words with all values of an option together, behind its first mention.

    The parser would take the last mention of an option alone, and no value at all for no value.
    """
    takes_several = {
        "--" + name.replace("_", "-")
        for name, parameter in inspect.signature(command).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and isinstance(parameter.default, tuple)
    }
    mentions: dict[str, list[str]] = {"": []}
    current = mentions[""]
    for word in words:
        if not word.startswith("--"):
            current.append(word)
            continue
        option, equals, value = word.partition("=")
        option = option.replace("_", "-")
        if option in mentions and option not in takes_several:
            raise _refusal(f"{option}: is given twice; once is enough")
        current = mentions.setdefault(option, [])
        if option not in takes_several:
            current.append(word)
        elif equals:
            current.append(value)
    for option in takes_several & mentions.keys():
        if not mentions[option]:
            raise _refusal(f"{option}: at least one value must follow")
        mentions[option].insert(0, option)
    return [word for mention in mentions.values() for word in mention]


def _registry(refused: list[str]) -> ConstructorRegistry:
    """Returns what reads numbers and paths; their messages are kept in `refused`."""
    registry = ConstructorRegistry()
    readers: dict[Any, tuple[str, Callable[[str], Any]]] = {
        int: ("INT", parse_whole),
        float: ("FLOAT", parse_number),
        pathlib.Path: ("PATH", _parse_path),
    }

    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type not in readers:
            return None
        metavar, read = readers[info.type]

        def instance(words: list[str]) -> Any:
            try:
                return read(words[0])
            except ValueError as error:
                refused.append(str(error))
                raise

        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=instance,
            is_instance=lambda value: isinstance(value, info.type) or _is_whole(info.type, value),
            str_from_instance=lambda value: [str(value)],
        )

    registry.primitive_rule(rule)
    return registry


def _is_whole(wanted: Any, value: Any) -> bool:
    """Returns whether a default such as 1 stands for a float."""
    return wanted is float and isinstance(value, int)


def _parse_path(text: str) -> pathlib.Path:
    path = pathlib.Path(text)
    sizes = [len(os.fsencode(part)) for part in path.parts]
    is_short = max(sizes, default=0) <= LONGEST_PART and len(os.fsencode(text)) <= LONGEST_PATH
    if not (text and "\0" not in text and is_short):
        shown = repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")
        raise ValueError(
            f"{shown}: must be a path, of at most {LONGEST_PATH} bytes and {LONGEST_PART} in each "
            "part"
        )
    return path


def _in_a_line(said: str, refused: Sequence[str]) -> str:
    """Returns what the parser says in a box of several lines, as one line.

    Args:
        said: title, message, perhaps options that are like the one misspelt.
        refused: what the readers of numbers and paths have said, which the box may leave out.
    """
    # The title stands in the frame of the box or, on a terminal without such signs, above a line.
    framed = re.sub(r"(?m)^╭.*$", "title\n---", said)
    inside = [
        line.strip("│╰─╯ ") if "╰" in line else line.strip("│ ") for line in framed.split("\n")
    ]
    # A line of dashes parts the message from what it adds.
    _, *parts = re.split(r"\n[─-]{3,}\n", "\n".join(inside))
    message, *more = parts or [said]
    message = " ".join(message.split())
    if (parsing := re.match(r"Error parsing ([^:]+):", message)) and refused:
        return f"{parsing[1]} = {refused[-1]}"
    alike = [word for text in more for word in re.findall(r"(?m)^--[\w-]+", text)]
    is_guess = any(text.startswith("Perhaps you meant") for text in more)
    hint = f"; did you mean {' or '.join(dict.fromkeys(alike))}?" if is_guess else ""
    return message.rstrip(".") + hint
