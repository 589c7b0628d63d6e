"""Who may import whom: packages by exact names, rooms without circles, processes that stay light.

The simulator must not know the formula that it checks. That is a rule about imports, and about what
a fresh process has loaded, as a module may also come in through another.
"""

import pathlib

import pytest

from support.import_graph import (
    arrows,
    circles,
    crowded,
    forbidden,
    loads_too_much,
    modules,
    past_the_door,
    public_names,
    read_imports,
    upward,
)

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = ("theory", "sims", "nets", "figures")
IMPORTS = read_imports(ROOT, PACKAGES)

# What counts draws knows the nouns and the claims' data, and nothing that predicts.
NOUNS = ("theory.domain", "theory.numerics.noun", "theory.problem", "theory.claims.claim")
# Exact modules of other packages that a package, or a room of it, may import.
ALLOWED = {
    "theory": (),
    "sims": (
        *NOUNS,
        # The claims, by name; what they predict is computed by them, and unknown here.
        "theory.claims.evaluate",
        "theory.claims.registry",
        "theory.claims.controls",
        "theory.claims.settings.noise_law",
        "theory.command_line.frame",
        "theory.command_line.lasting",
        "theory.command_line.numbers",
        "theory.command_line.words",
    ),
    "sims.simulate": NOUNS,
    "sims.random": ("theory.domain",),
    "sims.stats": ("theory.domain",),
    "sims.files": ("theory.domain",),
    "nets": (
        "sims.cli.frame",
        "sims.files",
        "sims.files.digest",
        "sims.files.manifest",
        "sims.files.records",
        "sims.files.refusal",
        "sims.files.schema",
        "sims.provenance",
        "sims.random.bits",
        "sims.random.draws",
        "sims.simulate.attack",
        "sims.stats.average_mean",
        "sims.stats.interval",
        "theory.command_line.numbers",
        "theory.domain",
        "theory.problem",
        "theory.fairness.mixup",
        "theory.weights.dafa",
        "theory.weights.long_tail",
        "theory.weights.rules",
    ),
    "figures": None,
}
# The rooms of each package from the ground up: a room imports those before it only.
LAYERS = {
    "theory": "domain command_line numerics problem stable weights rules linear optimal "
    "multiclass regression spurious fairness claims __main__",
    "sims": "files provenance stats random noise simulate sweep rare projection training "
    "waterbirds cli __main__",
    "nets": "configs compute models data attacks runs objectives fairness training evaluation "
    "experiment study cli __main__",
    "figures": "kit papers results gallery __main__",
}
MOST_ARROWS = 45
MOST_ENTRIES = 14
# Packages whose __init__ imports: it is itself the public part, or joins that of its modules.
EAGER = {
    "theory.stable",
    "theory.claims.kinds",
    "theory.claims.hu2023",
    "theory.claims.lee2024",
    "theory.claims.moayeri2022",
    "theory.claims.zhong2024",
    "sims.files",
    "sims.sweep",
    "figures.papers.hu2023",
    "figures.papers.lee2024",
    "figures.papers.moayeri2022",
    "figures.papers.zhong2024",
}
FOLDERS = [path for path in modules(ROOT, PACKAGES).values() if path.name == "__init__.py"]


def _name(path):
    return ".".join(path.parent.relative_to(ROOT).parts)


def _layers(package):
    return [f"{package}.{room}" for room in LAYERS[package].split()]


def test_a_package_imports_only_what_it_may_know():
    assert forbidden(IMPORTS, ALLOWED) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_downward_only(package):
    pairs = arrows(IMPORTS, package)
    assert upward(pairs, _layers(package)) == []
    assert circles(pairs) == []
    assert len(pairs) <= MOST_ARROWS


def test_no_module_needs_itself_to_load():
    loading = [(entry.importer, entry.imported) for entry in IMPORTS if not entry.deferred]
    assert circles(pair for pair in loading if pair[0] != pair[1]) == []


def test_a_package_is_entered_by_its_public_part():
    assert past_the_door(IMPORTS, ROOT, EAGER) == []


def test_no_folder_is_crowded():
    assert crowded(ROOT, [*PACKAGES, "tests", "benchmarks"], MOST_ENTRIES) == []


@pytest.mark.parametrize("path", FOLDERS, ids=_name)
def test_a_package_names_its_public_part_and_loads_nothing(path):
    """A reader of files must not load JAX, nor a simulator a formula, by the folder's name."""
    names = public_names(path)
    assert names, f"{_name(path)} has no __all__"
    if _name(path) in EAGER:
        return
    loaded = [entry.imported for entry in IMPORTS if entry.importer == _name(path)]
    assert loaded == []
    known = modules(path.parents[1], [path.parent.name])
    missing = [name for name in names if f"{path.parent.name}.{name}" not in known]
    assert missing == []


SIMULATORS = [name for name in modules(ROOT, ["sims"]) if name.startswith("sims.simulate")]


def test_a_simulator_loads_no_formula():
    """What is counted, in a process of its own: no formula comes in, by whatever road."""
    known = {"theory", "theory.claims", "theory.numerics", *NOUNS}
    assert loads_too_much(ROOT, SIMULATORS, "theory", known) == []


def test_locks_and_files_do_not_load_jax():
    light = [
        "theory",
        "sims",
        "nets",
        "figures",
        "theory.domain",
        "theory.command_line.frame",
        "sims.files",
        "nets.runs.lock",
    ]
    assert loads_too_much(ROOT, light, "jax", ()) == []


# Each rule, broken on purpose, must be seen to be broken.


def _plant(root, **sources):
    """Writes modules, given by dotted names with __ for a dot, and the __init__ of each folder."""
    for name, source in sources.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        for folder in path.relative_to(root).parents[:-1]:
            (root / folder / "__init__.py").touch()
    return root


@pytest.mark.parametrize(
    "cheat",
    [
        "from theory.claims.claim_formulas import risk",
        "from theory.claims import claim_formulas",
        "import theory.claims.claim_formulas as formulas",
        "def risk():\n    from theory.claims import claim_formulas as hidden",
        "import importlib\nhidden = importlib.import_module('theory.claims.claim_formulas')",
    ],
)
def test_a_formula_by_a_name_that_begins_like_an_allowed_one_is_seen(cheat, tmp_path):
    root = _plant(
        tmp_path,
        theory__claims__claim="",
        theory__claims__claim_formulas="risk = None",
        sims__simulate__honest="from theory.claims import claim",
        sims__simulate__cheat=cheat,
    )
    line = len(cheat.splitlines())
    seen = forbidden(read_imports(root, PACKAGES), ALLOWED)
    assert seen == [f"sims.simulate.cheat:{line} imports theory.claims.claim_formulas"]


def test_an_upward_reference_to_another_package_is_seen(tmp_path):
    root = _plant(tmp_path, figures__kit="", theory__rules__risk="from figures import kit")
    assert forbidden(read_imports(root, PACKAGES), ALLOWED) == [
        "theory.rules.risk:1 imports figures.kit"
    ]


def test_a_formula_that_comes_in_through_an_allowed_module_is_seen(tmp_path):
    root = _plant(
        tmp_path,
        theory__rules__risk="",
        theory__problem="import importlib\nimportlib.import_module('theory.rules.risk')",
        sims__simulate__honest="",
        sims__simulate__cheat="import theory.problem",
    )
    names = ["sims.simulate.honest", "sims.simulate.cheat"]
    assert loads_too_much(root, names, "theory", {"theory", *NOUNS}) == [
        "sims.simulate.cheat loads theory.rules",
        "sims.simulate.cheat loads theory.rules.risk",
    ]


def test_a_circle_and_an_upward_arrow_are_seen(tmp_path):
    root = _plant(
        tmp_path,
        theory__rules__risk="from theory.stable import law",
        theory__stable__law="def late():\n    from ..rules import risk",
        theory__stable__line="from . import law",
    )
    pairs = arrows(read_imports(root, PACKAGES), "theory")
    assert circles(pairs) == ["theory.rules", "theory.stable"]
    assert upward(pairs, ["theory.stable", "theory.rules"]) == [
        "theory.stable imports theory.rules, which stands above it"
    ]
    assert (
        upward(pairs, ["theory.stable"])
        == ["theory.rules has no place in the order of the rooms"] * 2
    )


def test_a_back_door_is_seen(tmp_path):
    root = _plant(
        tmp_path,
        theory__stable__kernel="",
        theory__stable__law="from theory.stable import kernel",
        theory__rules__risk="from theory.stable import kernel, law",
    )
    (root / "theory" / "__init__.py").write_text('__all__ = ["rules", "stable"]')
    (root / "theory" / "stable" / "__init__.py").write_text('__all__ = ["law"]')
    assert past_the_door(read_imports(root, PACKAGES), root, ()) == [
        "theory.rules.risk:1 imports theory.stable.kernel: inside"
    ]


def test_a_fifteenth_entry_is_seen(tmp_path):
    names = {f"theory__rules__rule_{i}": "" for i in range(MOST_ENTRIES)}
    root = _plant(tmp_path, **names)
    (root / "theory" / "rules" / "__main__.py").touch()
    (root / "theory" / "rules" / "recipes").mkdir()
    assert crowded(root, ["theory"], MOST_ENTRIES) == []
    _plant(root, theory__rules__room__rule="")
    assert crowded(root, ["theory"], MOST_ENTRIES) == ["theory/rules has 15 entries"]
