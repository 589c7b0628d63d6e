"""The rules of the house: who imports whom, file lengths, the README's commands, the wheel."""

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
ALLOWED = {
    "theory": ("theory",),
    "sims": ("sims", "theory.problem", "theory.claims.claim", "theory.claims"),
    "nets": ("nets", "sims", "theory.problem", "theory.weights.dafa", "theory.fairness.mixup"),
    "figures": PACKAGES,
}
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_imports_only_what_it_may_know(path):
    package = path.relative_to(ROOT).parts[0]
    modules = {n for n in _imports(path) if n.split(".")[0] in PACKAGES and "." in n}
    for name in modules:
        known = name.startswith(ALLOWED[package]) or name.rpartition(".")[0] in ALLOWED[package]
        assert known, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
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


def test_the_readmes_python_runs():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(rates[0].shape)"], capture_output=True, text=True
    )
    assert done.stdout == "(5,)\n", done.stderr


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
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) >= 8


def test_the_wheel_works_from_another_directory(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("robust_risk-*.whl")
    installed = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
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
