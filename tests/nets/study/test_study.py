"""A study from its file to its tables: what is refused, kept, gone on with, and said."""

import json
import pathlib
import shutil
import sys

import numpy as np
import pytest

from nets import __main__ as command
from nets.compute import compiler
from nets.configs import recipes
from nets.evaluation import file as evaluation_file
from nets.runs import folder as run_folder
from nets.study import file as study_file
from nets.study import plan as study_plan
from nets.study import run as study_run
from nets.training import checkpoint
from sims import files
from theory.domain import InvalidInput

TINY = """
format = 1
config = "mnist-5k-natural"
seeds = [3]
reference = "plain"

[settings]
model = "logistic"
options = {}
radius = 0.05
epochs = 1
training_samples = 40
held_out = 0

[warm_up]
rate = 0.2

[methods.plain]

[methods.mixed]
mix = 0.8

[evaluation]
protocol = "quick"
samples = 200
"""


@pytest.fixture
def written(tmp_path):
    """Returns a function that writes a study's file with some lines changed."""

    def write(*changes):
        text = TINY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "tiny.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_what_comes_with_the_package_is_whole():
    assert "fashion-fairness" in study_plan.names()
    for name in study_plan.names():
        found = study_plan.read([name])
        planned = study_plan.plan(found, pathlib.Path("out"))
        assert len(planned) == len(found.seeds) * (len(found.methods) + 1)
        assert len({one.folder for one in planned}) == len(planned)


def test_a_plan_pairs_seeds_and_begins_from_the_warm_up(written):
    words = [written(), "seeds=[4, 5]", "rate=0.3", "methods.mixed.mix=0.6", "evaluation.samples=7"]
    found = study_plan.plan(study_plan.read(words), pathlib.Path("out"))
    names = ["warm-up-seed4", "plain-seed4", "mixed-seed4"]
    assert [one.folder.name for one in found] == [*names, *(n.replace("4", "5") for n in names)]
    warm, plain, mixed = (one.config for one in found[:3])
    trio = (warm, plain, mixed)
    assert [config.optimisation.rate for config in trio] == [0.2, 0.3, 0.3]
    starts = [config.optimisation.start for config in trio]
    assert starts == ["", *["out/warm-up-seed4"] * 2]
    assert [config.objective.mix for config in trio] == [1.0, 1.0, 0.6]
    assert {one.config.evaluation.samples for one in found} == {7}
    assert [one.config.optimisation.seed for one in found] == [4, 4, 4, 5, 5, 5]
    base = recipes.read(["mnist-5k-natural"])[1]
    schedules = {config.optimisation.schedule for config in (warm, plain, base)}
    assert len(schedules) == 1


def test_a_plan_is_what_train_would_read(written):
    """So that runs of `python -m nets train` in these folders are runs of the study."""
    one = study_plan.plan(study_plan.read([written()]), pathlib.Path("out"))[2]
    words = [
        "mnist-5k-natural",
        "model=logistic",
        "options={}",
        "radius=0.05",
        "epochs=1",
        "seed=3",
    ]
    words += ["training_samples=40", "held_out=0", "mix=0.8", "protocol=quick", "samples=200"]
    assert one.config == recipes.read([*words, "start=out/warm-up-seed3"])[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("format = 1", "format = 2"), "format = 2, must be 1"),
        (("format = 1", "format ="), "not TOML"),
        (("seeds = [3]", ""), "has no 'seeds'"),
        (("seeds = [3]", "seeds = [3, 3]"), r"seeds = \[3, 3\]"),
        (("seeds = [3]", "seeds = [-1]"), r"seeds = \[-1\]"),
        (("seeds = [3]", "seed = [3]"), "did you mean seeds"),
        (("seeds = [3]", "seeds = [3]\nlevel = 1.5"), "level = 1.5"),
        (("seeds = [3]", "seeds = [3]\nlevel = 'a'"), "level = 'a'"),
        (('reference = "plain"', 'reference = "plane"'), "did you mean plain"),
        (('config = "mnist-5k-natural"', 'config = "mnist-5k-nat"'), "mnist-5k-natural"),
        (('config = "mnist-5k-natural"', "config = 3"), "config = 3"),
        (("[warm_up]", "[warmup]"), "did you mean warm_up"),
        (("rate = 0.2", "rates = 0.2"), "warm_up: key = 'rates'"),
        (("rate = 0.2", "seed = 1"), "warm_up: seed"),
        (("mix = 0.8", "mixx = 0.8"), "methods.mixed: key = 'mixx'"),
        (("mix = 0.8", "mix = 'a'"), "mix = 'a': must be of type float"),
        (("mix = 0.8", "model = 'mlp'"), "methods.mixed: model"),
        (("[methods.mixed]", "[methods.'a/b']"), "methods.'a/b'"),
        (("[methods.mixed]", "[methods.warm-up]"), "not warm-up"),
        (("[methods.plain]", "[methods]\nplain = 3\n"), "methods.plain = 3: must be a table"),
        (('protocol = "quick"', 'protocol = "quik"'), "quick"),
        (('protocol = "quick"', "seed = 3"), "evaluation: key = 'seed'"),
        (("held_out = 0", "start = 'x'"), "settings: start"),
    ],
)
def test_bad_files_are_refused(change, message, written):
    with pytest.raises(InvalidInput, match=message):
        study_plan.read([written(change)])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epoch=3", "epochs"),
        ("epochs", "must be key=value"),
        ("config.a=1", "config is no table"),
        ("methods.plain=3", "methods.plain = 3"),
        ("seeds=3", "seeds = 3"),
    ],
)
def test_bad_words_are_refused(word, message, written):
    with pytest.raises(InvalidInput, match=message):
        study_plan.read([written(), word])


def call(capsys, monkeypatch, *words):
    """Returns status, standard output and error of a command line."""
    monkeypatch.setattr(sys, "argv", ["nets", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        command.main()
    out, error = capsys.readouterr()
    return stop.value.code, out, error


def contents(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study whose warm-up `train` had made, killed once after a training and once after all."""
    folder = tmp_path_factory.mktemp("study")
    file, out = folder / "tiny.toml", folder / "out"
    file.write_text(TINY, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "options", lambda: {"xla_backend_optimization_level": 0})
        words = ["mnist-5k-natural", "model=logistic", "options={}", "radius=0.05", "epochs=1"]
        words += ["training_samples=40", "held_out=0", "rate=0.2", "seed=3"]
        assert command.train(tuple(words), out=out / "warm-up-seed3", report=False) == 0
        warm = contents(out)
        for function in ("evaluate_run", "collect"):
            with pytest.MonkeyPatch.context() as kill:
                kill.setattr(study_run, function, _killed)
                with pytest.raises(_Kill):
                    command.study((str(file),), out=out)
            assert not (out / study_run.STUDY_FILE).exists()
        assert contents(out / "warm-up-seed3") == warm
        assert command.study((str(file),), out=out) == 0
    return file, out


class _Kill(BaseException):
    """Stands for what ends a process."""


def _killed(*_, **__):
    raise _Kill


@pytest.mark.slow
def test_a_study_goes_on_and_leaves_plain_runs(done, tmp_path, capsys, monkeypatch):
    file, out = done
    assert sorted(path.name for path in out.iterdir()) == [
        *("mixed-seed3", "plain-seed3", "study.nc", "warm-up-seed3")
    ]
    before = {k: v for k, v in contents(out).items() if k.name != study_run.STUDY_FILE}
    status, text, _ = call(capsys, monkeypatch, "study", file, "--out", out)
    assert status == 0
    assert text.count("trained already") == 3
    assert text.count("evaluated already") == 2
    assert {k: v for k, v in contents(out).items() if k.name != study_run.STUDY_FILE} == before
    start = run_folder.checksum(run_folder.load(out / "warm-up-seed3").variables)
    for name in ("plain", "mixed"):
        assert run_folder.load(out / f"{name}-seed3").settings["training"]["start"] == start


def test_a_result_file_has_what_tables_and_figures_need(done):
    _, out = done
    found = study_file.load(out / study_run.STUDY_FILE)
    assert dict(found["correct"].sizes) == {"training": 2, "seed": 1, "condition": 2, "sample": 200}
    for name in ("plain", "mixed"):
        one = evaluation_file.load(out / f"{name}-seed3" / "evaluation.nc")
        part = found.sel({"training": name, "seed": 3})
        np.testing.assert_array_equal(part["correct"], one["correct"][[0, -1]])
        np.testing.assert_array_equal(part["confusion"], one["confusion"].sel(condition="robust"))
        settings = json.loads(str(part["settings"].values))
        assert settings["training"]["mix"] == (1.0 if name == "plain" else 0.8)
        loaded = run_folder.load(out / f"{name}-seed3")
        assert settings["parameters"] == run_folder.checksum(loaded.variables)
    assert (found["label"].values == np.arange(200) % 10).all()
    warm = json.loads(str(found["warm_up"].values[0]))
    assert warm["parameters"] == run_folder.checksum(
        run_folder.load(out / "warm-up-seed3").variables
    )
    assert (found["epochs"] == 1).all()
    assert study_file.stopped(found) == []
    assert found.attrs["radius"] == 0.05
    assert (out / study_run.STUDY_FILE).stat().st_size < 60_000


def test_reports_are_printed(done, capsys, monkeypatch):
    path = done[1] / study_run.STUDY_FILE
    status, text, _ = call(capsys, monkeypatch, "report", path)
    assert status == 0
    assert "mixed: rho" in text
    status, text, _ = call(capsys, monkeypatch, "report", path, "--markdown", "--level", "0.1")
    assert status == 0
    assert "all of them together 90 %" in text
    status, _, error = call(capsys, monkeypatch, "report", done[1] / "plain-seed3/evaluation.nc")
    assert status == 2
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("methods.mixed.mix=0.7",), "mixed-seed3: holds a run of other settings (mix = 0.8"),
        (("warm_up.rate=0.3",), "warm-up-seed3: holds a run of other settings (rate = 0.2"),
        (("evaluation.samples=100",), "belongs to another evaluation"),
        (("methods.mixed.fairness=dafa", "methods.mixed.fairness_options.a=1"), "mixed, seed 3"),
        (("methods.mixed.batch=4000",), "batch = 4000"),
        (("evaluation.samples=2000",), "samples = 2000: must lie in [1, 1000]"),
        (("evaluation.samples=5",), "no sample of class 5"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_done(
    words, message, done, capsys, monkeypatch
):
    file, out = done
    before = contents(out)
    monkeypatch.setattr(study_run, "_finish", _killed)
    status, _, error = call(capsys, monkeypatch, "study", file, *words, "--out", out)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert contents(out) == before


def test_a_run_of_another_warm_up_is_refused(done, tmp_path, monkeypatch):
    """The folder is right, but the network that the method began from is not."""
    file, out = done
    copy = shutil.copytree(out, tmp_path / "out")
    run = run_folder.load(copy / "warm-up-seed3")
    moved = {"params": {"head": {k: v + 1 for k, v in run.variables["params"]["head"].items()}}}
    run_folder.save(copy / "warm-up-seed3", run._replace(variables=moved))
    with pytest.raises(InvalidInput, match=r"plain-seed3: holds a run of other settings \(start"):
        command.study((str(file),), out=copy)


@pytest.mark.parametrize("removed", [(), ("run.json", "parameters.npz", "log.jsonl")])
def test_an_evaluation_of_another_network_is_refused(removed, done, tmp_path, monkeypatch):
    """A run that was trained anew, or is to be, stands beside results of the one before it."""
    file, out = done
    copy = shutil.copytree(out, tmp_path / "out")
    folder, message = copy / "mixed-seed3", r"holds evaluation\.nc, but not the run"
    for name in removed:
        (folder / name).unlink()
    if not removed:
        run, message = run_folder.load(folder), r"another evaluation \(parameters = "
        moved = {"params": {"head": {k: v + 1 for k, v in run.variables["params"]["head"].items()}}}
        run_folder.save(folder, run._replace(variables=moved))
    monkeypatch.setattr(study_run, "_finish", _killed)
    with pytest.raises(InvalidInput, match=message):
        command.study((str(file), "methods.mixed.mix=0.7")[: 1 + bool(removed)], out=copy)


def test_an_evaluation_of_an_earlier_version_is_taken_with_a_word(done, tmp_path, capsys):
    file, out = done
    copy = shutil.copytree(out, tmp_path / "out")
    path = copy / "mixed-seed3" / "evaluation.nc"
    old = evaluation_file.load(path)
    del old.attrs[evaluation_file.PARAMETERS]
    files.save(old, path)
    assert command.study((str(file),), out=copy) == 0
    assert "evaluated already (by an earlier version" in capsys.readouterr().out


def test_a_radius_beyond_the_box_is_refused(written, tmp_path):
    words = [written(), "norm=l2", "radius=128"]
    with pytest.raises(InvalidInput, match=r"radius = 128: .*perhaps 128/255"):
        command.study(tuple(words), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_from_before_a_key_was_there_is_taken_as_of_its_default(done, tmp_path):
    file, out = done
    copy = shutil.copytree(out, tmp_path / "out")
    path = copy / "plain-seed3" / run_folder.SETTINGS
    settings = run_folder.load(path.parent).settings
    for text in (settings["training"].pop("flip"), settings["training"].pop("mix")):
        assert text in (False, 1.0)
    settings["training"]["versions"] = "jax of another day"
    path.write_text(json.dumps(settings), encoding="utf-8")
    assert command.study((str(file),), out=copy) == 0
    del settings["training"]
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(InvalidInput, match="plain-seed3: holds a network from elsewhere"):
        command.study((str(file),), out=copy)


def test_a_checkpoint_of_another_training_is_refused(done, tmp_path, monkeypatch):
    file, out = done
    copy = shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(copy / "mixed-seed3")
    (copy / "mixed-seed3" / checkpoint.FOLDER / "1").mkdir(parents=True)
    monkeypatch.setattr(study_run, "_finish", _killed)
    with pytest.raises(InvalidInput, match="not readable as a checkpoint"):
        command.study((str(file),), out=copy)


# Of a study made up: three methods, two seeds, three classes.
