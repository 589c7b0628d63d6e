"""The one grammar of numbers: of options, grids, settings in words and in files.

A number is a decimal, `0.5` or `1e-3`, or a ratio of two decimals, `8/255`. Digits are those of
ASCII: Python reads those of other scripts too, but what JAX passes on to C++ does not. As in Python
and TOML an underscore may stand between two digits. `nan` and `inf` are no numbers here.
"""

import re

# Four digits at most in an exponent: 10 to a larger one is beyond any float, and takes for ever.
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_DECIMAL = rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?[0-9]{{1,4}})?"
_NUMBER = re.compile(rf"({_DECIMAL})(?:/({_DECIMAL}))?")
_WHOLE = re.compile(rf"[+-]?{_DIGITS}")
LONGEST = 400  # characters: all digits of the largest float, and a few more


def parse_number(text: str) -> float:
    """Returns the float nearest to a number written as a decimal or a ratio.

    Raises:
        ValueError: for anything else, and for what is not zero but no float either.

    >>> parse_number("8/255") == 8 / 255, parse_number("1e-3"), parse_number("1_000")
    (True, 0.001, 1000.0)
    """
    match = _matched(_NUMBER, text)
    value = float(match[1]) if match and not match[2] else None
    if match and match[2] and any(digit in "123456789" for digit in match[2].lower().split("e")[0]):
        # Not at the top: --help of the commands needs no fractions. Exact, then rounded once.
        import fractions

        try:
            value = float(fractions.Fraction(match[1]) / fractions.Fraction(match[2]))
        except OverflowError:
            value = float("inf")
    if match is None or value is None:
        raise ValueError(f"{_shown(text)}: must be a number, such as 0.5, 1e-3 or 8/255")
    digits = match[1].lower().split("e")[0]
    if value in (float("inf"), float("-inf")) or (
        value == 0 and any(digit in "123456789" for digit in digits)
    ):
        raise ValueError(f"{_shown(text)}: is beyond the numbers that a computer holds (float64)")
    return value


def parse_whole(text: str) -> int:
    """Returns a whole number, written in digits or as a decimal or ratio that is whole.

    Raises:
        ValueError: for anything else.

    >>> parse_whole("1e6"), parse_whole("1.5e3"), parse_whole("-3")
    (1000000, 1500, -3)
    """
    if _matched(_WHOLE, text):
        return int(text)
    match = _matched(_NUMBER, text)
    try:
        value = parse_number(text)
    except ValueError:
        match = None
    else:
        import fractions

        assert match is not None
        exact = fractions.Fraction(match[1]) / fractions.Fraction(match[2] or 1)
        if exact.denominator == 1 and float(exact) == value:
            return int(exact)
    raise ValueError(f"{_shown(text)}: must be a whole number, such as 100000 or 1e5")


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return pattern.fullmatch(text) if len(text) <= LONGEST else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")
