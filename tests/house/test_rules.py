"""The rules of the house: file lengths, docstrings, the README's commands, doctests, the wheel."""

import ast
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("theory", "sims", "nets", "figures")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTING = [path for name in ("tests", "benchmarks") for path in sorted((ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("path", [*SOURCES, *TESTING], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_needs_a_table_of_contents(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_definition_has_a_docstring(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), path.name
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_ci_runs_exactly_the_readmes_test_command():
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(commands) >= 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands[:2])


@pytest.mark.slow
def test_the_readmes_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(rates[0].shape)"], capture_output=True, text=True
    )
    assert done.stdout == "(5,)\n", done.stderr


def test_the_readmes_layout_names_every_package():
    rows = re.findall(r"(?m)^\| (`[\w/]+`.*?) \|", (ROOT / "README.md").read_text("utf-8"))
    named = set()
    for row in rows:
        # `nets/data`, `models`: the second is beside the first.
        first, *others = re.findall(r"`([\w/]+)`", row)
        named |= {first, *(str(pathlib.PurePath(first).parent / other) for other in others)}
    rooms = {path for name in PACKAGES for path in (ROOT / name).glob("*/__init__.py")}
    folders = {str(path.parent.relative_to(ROOT)) for path in rooms if path.parts[-3] != "figures"}
    assert folders | {*PACKAGES, "tests", "benchmarks"} <= named
    assert all((ROOT / name).is_dir() for name in named)


@pytest.mark.slow
def test_doctests_pass():
    # Most of their time is compilation, which the lowest level of optimisation halves.
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--doctest-modules",
            "-p",
            "no:cacheprovider",
            *(str(ROOT / package) for package in ("theory", "sims", "nets")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) >= 8


@pytest.mark.slow
def test_the_wheel_works_from_another_directory(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("robust_risk-*.whl")
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    # A user's type checker reads the annotations of these packages only if each says so.
    assert all((installed / package / "py.typed").exists() for package in PACKAGES)
    code = (
        "import figures, theory, sys; assert 'site' in theory.__file__ + figures.__file__\n"
        "import runpy; sys.argv = ['figures', 'robust-risk-bound-l2', '--trials', '1000']\n"
        "runpy.run_module('figures', run_name='__main__')"
    )
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gallery" / "index.html").exists()
