"""What every public name promises: a docstring, shapes, errors, references that exist.

`python -m pytest tests/house -k protocol` lists all that is missing, folder by folder.
"""

import itertools
import pathlib

import pytest

from support.import_graph import modules
from support.protocol import bibliography_of, shared_class_names, violations

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("theory", "sims", "nets", "figures")
BIBLIOGRAPHY = bibliography_of(ROOT)
SOURCES = {name: (path, path.read_text("utf-8")) for name, path in modules(ROOT, PACKAGES).items()}


def _folder(name):
    return str(SOURCES[name][0].parent.relative_to(ROOT))


FOLDERS = {
    folder: list(names)
    for folder, names in itertools.groupby(sorted(SOURCES, key=_folder), key=_folder)
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_protocol(folder):
    """Every module of a folder, so that an __all__ that is too short hides nothing."""
    wrong = [
        str(violation)
        for name in FOLDERS[folder]
        for violation in violations(name, SOURCES[name][1], BIBLIOGRAPHY)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_protocol_of_class_names():
    """One name means one thing, wherever one meets it."""
    assert shared_class_names({name: text for name, (_, text) in SOURCES.items()}) == []


SOUND = '''"""A module."""

import jax
from jaxtyping import Array, Float

from theory.claims.claim import Source

KEY = "hoeffding1963"
SOURCE = Source(KEY, "T1")


def norm(points: jax.Array, power: float) -> jax.Array:
    """Returns the norms (n,) of points (n, d).

    Args:
        points: one a row.
        power: at least 1.

    Raises:
        ValueError: for a power below 1.

    References:
        hoeffding1963, theorem 1; new.
    """
    if power < 1:
        raise ValueError(power)
    return points


def total(points: Float[Array, "n d"]) -> Float[Array, ""]:
    """Returns the sum."""

    def inner():
        raise ValueError("of a function inside, which is no promise of this one")

    return points.sum()


class Rule:
    """A rule.

    Args:
        weight: (d,).
    """

    weight: jax.Array

    def scores(self, points: jax.Array) -> jax.Array:
        """Returns the scores (...) of points (..., d)."""
        return points @ self.weight


def _private(points: jax.Array):
    return points
'''
BROKEN = {
    "norm: takes or returns jax.Array and states no shape": (" (n,) of points (n, d)", ""),
    "norm: raises and does not say so": ("Raises:\n        ValueError:", "Note:\n       "),
    "norm: documents exponent, which is no argument": ("        power: at", "        exponent: at"),
    "Rule: documents weights, which is no argument": (
        "        weight: (d,).",
        "        weights: (d,).",
    ),
    "norm: reference hoeffding1964 is no entry of references.bib": (
        "hoeffding1963, theorem",
        "hoeffding1964, theorem",
    ),
    "norm: references name no entry of references.bib": (
        "hoeffding1963, theorem 1; new.",
        "folklore (well known).",
    ),
    "Source: key hoeffding1965 is no entry of references.bib": (
        'KEY = "hoeffding1963"',
        'KEY = "hoeffding1965"',
    ),
    "Source: key claimed1999 is no entry of references.bib": ("(KEY,", '("claimed1999",'),
    "total: has no docstring": ('"""Returns the sum."""', ""),
    "total: takes or returns Array and states no shape": ('Float[Array, "n d"]', "Array"),
    "Rule: takes or returns jax.Array and states no shape": ("(d,)", "one a coordinate (first)"),
    "Rule.scores: takes or returns jax.Array and states no shape": (
        " (...) of points (..., d)",
        " (see `norm`)",
    ),
    "module: has no docstring": ('"""A module."""', ""),
}


@pytest.mark.parametrize(("rule", "change"), BROKEN.items(), ids=BROKEN)
def test_a_broken_promise_is_seen(rule, change):
    assert violations("theory.rules.norm", SOUND, BIBLIOGRAPHY) == []
    assert SOUND.count(change[0]) == 1
    seen = violations("theory.rules.norm", SOUND.replace(*change), BIBLIOGRAPHY)
    assert [f"{violation.name}: {violation.rule}" for violation in seen] == [rule]


def test_a_short_public_list_hides_its_own_module_only():
    listed = SOUND.replace("KEY =", '__all__ = ["norm"]\nKEY =').replace("Returns the sum.", "")
    assert violations("theory.rules.norm", listed, BIBLIOGRAPHY) == []


def test_two_classes_of_one_name_are_seen():
    sources = {"theory.a": "class State: ...\nclass _Own: ...", "nets.b": "class State: ..."}
    assert shared_class_names(sources | {"nets.c": "class _Own: ..."}) == [
        "State is defined in theory.a, nets.b"
    ]
