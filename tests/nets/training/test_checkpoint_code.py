"""A checkpoint goes on under the code and the libraries that made it, and under no other."""

import importlib.metadata
import json
import pathlib
import shutil

import pytest

from nets.configs.settings import Config
from nets.experiment.prepare import prepare
from nets.training import checkpoint
from sims import provenance
from sims.files import manifest
from support import small_training
from theory.domain import InvalidInput

ROOT = pathlib.Path(__file__).parents[3]
SETTINGS = {"a": 1}
CONFIG = Config.of(model="logistic", attack_steps=1, radius=0.1, epochs=3, batch=20)


@pytest.fixture(scope="module")
def fresh():
    return prepare(CONFIG, small_training.digits()).fresh


@pytest.fixture(scope="module")
def made(fresh, tmp_path_factory):
    """A folder with a checkpoint of one epoch; where it has come to does not matter here."""
    folder = tmp_path_factory.mktemp("made")
    checkpoint.save(folder, SETTINGS, fresh._replace(records=({"epoch": 1},)))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the code that made the checkpoint."""
    folder = tmp_path_factory.mktemp("source")
    for package in provenance.PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.toml")
        )
    return folder


@pytest.fixture
def edited(source, tmp_path, monkeypatch):
    """Returns a function that edits a module, for checkpoints alone."""

    def edit(module, old, new):
        root = shutil.copytree(source, tmp_path / "source")
        path = root.joinpath(*module.split(".")).with_suffix(".py")
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")
        monkeypatch.setattr(provenance, "installed", lambda: provenance.SourceTree.under(root))

    return edit


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("nets.training.step", "jax.random.split(key, 3)", "jax.random.split(key, 4)"),
        ("nets.training.epoch", "ORDER = 7", "ORDER = 70"),
        ("nets.experiment.build", "count // settings.batch", "1 + count // settings.batch"),
        ("nets.objectives.losses", "beta * other", "other"),
        # Whatever it is: a statement more is other code.
        ("nets.fairness.frl", "\n\n\n", "\n\n\nMORE = 1\n\n\n"),
        ("theory.domain", "\n\n\n", "\n\n\nMORE = 1\n\n\n"),
    ],
)
def test_other_code_is_refused_and_the_checkpoint_left(module, old, new, edited, made, fresh):
    edited(module, old, new)
    before = contents(made)
    with pytest.raises(InvalidInput, match=r"other versions \(code \w+, here \w+\)") as error:
        checkpoint.restore(made, SETTINGS, fresh)
    assert "\n" not in str(error.value)
    assert "move it away to start anew" in str(error.value)
    assert contents(made) == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        # Words: a comment and a docstring of what an epoch runs.
        ("nets.training.step", "        # Three keys", "        # A comment more. Three keys"),
        ("nets.training.step", '"""The training step', '"""This is the training step'),
        # Modules that no epoch runs, whose numbers are not those of a training.
        ("nets.attacks.apgd", "\n\n\n", "\n\n\nMORE = 1\n\n\n"),
        ("nets.evaluation.protocols", '"quick": 20', '"quick": 21'),
        ("nets.study.report", "\n\n\n", "\n\n\nMORE = 1\n\n\n"),
    ],
)
def test_what_changes_no_number_of_an_epoch_goes_on(module, old, new, edited, made, fresh):
    edited(module, old, new)
    assert len(checkpoint.restore(made, SETTINGS, fresh).records) == 1


@pytest.mark.parametrize("library", checkpoint.LIBRARIES)
def test_another_version_of_a_library_is_refused(library, made, fresh, monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.0.1" if name == library else version(name)
    )
    with pytest.raises(InvalidInput, match=rf"\({library} {version(library)}, here 0\.0\.1\)"):
        checkpoint.restore(made, SETTINGS, fresh)


def test_a_checkpoint_that_names_no_code_is_refused(made, fresh, tmp_path):
    """One from before they did: nothing says that its epochs are those of this code."""
    folder = shutil.copytree(made, tmp_path / "run")
    (path,) = (folder / checkpoint.FOLDER / "1" / "text").glob("metadata")
    text = json.loads(path.read_text("utf-8"))
    del text["made_by"]
    path.write_text(json.dumps(text), "utf-8")
    manifest.write(folder / checkpoint.FOLDER / "1")
    before = contents(folder)
    with pytest.raises(InvalidInput, match="from before checkpoints recorded what made them"):
        checkpoint.restore(folder, SETTINGS, fresh)
    assert contents(folder) == before


def test_the_code_of_an_epoch_is_all_that_it_runs_and_no_more():
    reached = set(provenance.reached_modules(*checkpoint.CODE))
    for module in ("training.step", "objectives.losses", "fairness.cfa", "models.resnet"):
        assert f"nets.{module}" in reached
    for room in ("evaluation", "study", "runs", "cli", "configs"):
        assert not [name for name in reached if name.startswith(f"nets.{room}")]
