"""The digest of code: what changes it and what does not, on copies of the packages."""

import pathlib
import shutil
import time

import pytest

from sims import provenance
from sims.provenance import SourceTree, code_digest, reached_modules
from theory.domain import InvalidInput

ROOT = "sims.simulate.two_classes"
REACHED = pathlib.Path("sims/simulate/attack.py")


@pytest.fixture
def copied(tmp_path):
    """Returns a function that copies the packages, changed as asked, and gives their digest."""
    count = iter(range(100))

    def digest(file=None, change=None, root=ROOT):
        folder = tmp_path / str(next(count))
        for package, source in provenance.installed().folders:
            shutil.copytree(source, folder / package)
        if file is not None:
            path = folder / file
            path.write_text(change(path.read_text("utf-8")), "utf-8")
        return code_digest(root, tree=SourceTree.under(folder))

    return digest


def test_a_copy_elsewhere_has_the_digest_of_what_is_installed(copied):
    assert copied() == code_digest(ROOT)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n# A comment.\n",
        lambda text: "\n\n" + text.replace("\n\n\n", "\n\n\n\n"),
        lambda text: text.replace('"""', '"""Other words. ', 1),
        lambda text: text.replace('    """Returns', '    """Gives'),
        lambda text: text + '\n__all__ = ["steepest"]\n',
    ],
    ids=["comment", "formatting", "docstring of the module", "docstrings", "__all__"],
)
def test_what_the_numbers_cannot_depend_on_keeps_the_digest(copied, change):
    before = (provenance.installed().file("sims.simulate.attack") or REACHED).read_text("utf-8")
    assert change(before) != before
    assert copied(REACHED, change) == code_digest(ROOT)


def test_a_change_of_a_module_that_is_not_reached_keeps_the_digest(copied):
    other = "sims/simulate/regression.py"
    assert copied(other, lambda text: text + "\nMOST_BLOCKS = 3\n") == code_digest(ROOT)


@pytest.mark.parametrize(
    "file",
    [
        "sims/simulate/two_classes.py",
        "sims/simulate/attack.py",
        "sims/random/polynomials.py",
        "theory/problem.py",
        "sims/__init__.py",
        "sims/random/__init__.py",
    ],
)
def test_a_changed_number_in_a_module_that_is_reached_changes_the_digest(copied, file):
    assert copied(file, lambda text: text + "\nSMALL = 0.1\n") != code_digest(ROOT)


def test_a_number_changed_inside_a_function_changes_the_digest(copied):
    def change(text):
        assert "BLOCK - 1" in text
        return text.replace("BLOCK - 1", "BLOCK - 2")

    assert copied("sims/simulate/two_classes.py", change) != code_digest(ROOT)


def test_a_data_file_that_a_module_names_is_part_of_it(tmp_path):
    folder = tmp_path / "theory"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "law.py").write_text("TABLE = 'table.npz'\n")
    digests = []
    for number in range(2):
        (folder / "table.npz").write_bytes(bytes([number]))
        provenance._read.cache_clear()
        digests.append(code_digest("theory.law", tree=SourceTree.under(tmp_path)))
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("import theory.other", True),
        ("from theory import other", True),
        ("from theory.other import number", True),
        ("from .other import number", True),
        ("from . import other", True),
        ("if True:\n    import theory.other", True),
        ("try:\n    import theory.other\nexcept ImportError:\n    pass", True),
        ("def f():\n    import theory.other", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import theory.other", False),
        ("import numpy.other", False),
    ],
)
def test_imports_are_followed_in_all_their_forms(tmp_path, text, reached):
    (tmp_path / "theory").mkdir()
    for name, content in (("__init__", ""), ("module", text), ("other", "number = 1")):
        (tmp_path / "theory" / f"{name}.py").write_text(content)
    names = reached_modules("theory.module", tree=SourceTree.under(tmp_path))
    assert names == ["theory", "theory.module"] + ["theory.other"] * reached


def test_a_package_that_is_passed_through_brings_none_of_what_it_exports(tmp_path):
    (tmp_path / "theory").mkdir()
    for name, content in (("__init__", "import theory.other"), ("module", ""), ("other", "")):
        (tmp_path / "theory" / f"{name}.py").write_text(content)
    tree = SourceTree.under(tmp_path)
    assert reached_modules("theory.module", tree=tree) == ["theory", "theory.module"]
    assert reached_modules("theory", tree=tree) == ["theory", "theory.other"]


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(InvalidInput, match="must be a module of theory, sims, nets"):
        code_digest("theory.nothing")


def test_the_digest_takes_little_time():
    provenance._read.cache_clear()
    start = time.process_time()
    code_digest("sims.sweep.run", "theory.claims.kinds")
    assert time.process_time() - start < 1  # measured: 0.15 s
