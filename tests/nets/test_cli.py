"""python -m nets: from training to a comparison and a picture, and every refusal on the way."""

import json
import sys

import numpy as np
import pytest

from figures.__main__ import make
from nets import __main__ as command
from nets.evaluation import file as evaluation_file
from nets.models import registry as models
from nets.runs import folder as run_folder
from theory.domain import InvalidInput

NATURAL = ("mnist-5k-natural", "model=logistic", "options={}")

EVALUATION = f"{command.DEFAULT_NAME}.nc"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs of a small network on the images that need no download, both evaluated."""
    made = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("runs") / f"seed-{seed}"
        words = (*NATURAL, "epochs=2", "batch=128", "schedule=cosine", f"seed={seed}")
        words = (*words, "radius=0.05", "samples=300")
        assert command.train(words, out=folder, report=False) == 0
        assert not (folder / EVALUATION).exists()
        trained = (folder / run_folder.PARAMETERS).read_bytes()
        assert command.train(words, out=folder) == 0  # what is left to do: the evaluation
        assert (folder / run_folder.PARAMETERS).read_bytes() == trained
        made.append(folder)
    return made


def call(capsys, monkeypatch, *words):
    """Returns status, standard output and error of a command line."""
    monkeypatch.setattr(sys, "argv", ["nets", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        command.main()
    out, error = capsys.readouterr()
    return stop.value.code, out, error


@pytest.mark.slow
def test_a_network_learns_and_its_classes_are_reported(folders, capsys, monkeypatch):
    status, out, _ = call(
        capsys, monkeypatch, "evaluate", folders[0], "--samples", "300", "--name", "evaluation"
    )
    assert status == 0
    assert "worst class" in out
    average = float(out.split("clean: average ")[1].split(";")[0])
    assert average > 75  # of ten classes; chance is 10
    robust = float(out.split("robust: average ")[1].split(";")[0])
    assert robust < average - 10
    # The network is linear, so the attacks of the protocol give way to the exact one.
    assert "still correct in % after clean" in out
    assert ", exact " in out
    assert "robust accuracy is exact" in out


def test_signs_of_gradient_masking_are_looked_for_when_asked(folders, capsys, monkeypatch):
    words = ("evaluate", folders[0], "--samples", "300")
    status, out, _ = call(capsys, monkeypatch, *words, "--masking", "--name", "checked")
    assert status == 0
    assert "gradient masking: no sign of it in 9 checks on 100 samples" in out
    (path,) = folders[0].glob("checked.nc")
    assert evaluation_file.load(path)["check"].size == 9
    # The other numbers are those of an evaluation that did not ask.
    plain = evaluation_file.load(folders[0] / EVALUATION)
    assert plain.equals(evaluation_file.load(path).drop_dims("check"))
    status, _, error = call(
        capsys, monkeypatch, *words, "--masking", "--radius", "0", "--name", "zero"
    )
    assert status == 2
    assert "masking: the radius must be above 0" in error
    assert not (folders[0] / "zero.nc").exists()


def test_two_runs_are_compared_class_by_class(folders, capsys, monkeypatch):
    status, out, _ = call(capsys, monkeypatch, "compare", *folders)
    assert status == 0
    assert out.count("p = ") == 22
    assert out.count("rho") == 2


def test_an_evaluation_is_drawn(folders, tmp_path, capsys):
    assert make(data=(folders[0] / "evaluation.nc",), out=tmp_path / "gallery") == 0
    assert (tmp_path / "gallery" / "seed-0-evaluation.png").stat().st_size > 10_000
    with pytest.raises(InvalidInput, match=r"parameters\.npz"):
        make(data=(folders[0] / "parameters.npz",), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_finished_run_is_never_overwritten(folders, capsys, monkeypatch):
    before = (folders[0] / run_folder.PARAMETERS).read_bytes()
    status, _, error = call(capsys, monkeypatch, "train", *NATURAL, "--out", folders[0])
    assert status == 2
    assert "holds a run already" in error
    assert (folders[0] / run_folder.PARAMETERS).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "mnist-5k-pgt"), "mnist-5k-pgd"),
        (("train", "model=small-cn"), "small-cnn"),
        (("train", "data=mnist5k"), "mnist-5k"),
        (("train", "epoch=3"), "epochs"),
        (("train", "epochs=0"), "epochs = 0"),
        (("train", "batch=5000"), "batch = 5000"),
        (("train", "seed=-1"), "seed = -1"),
        (("evaluate", "nowhere"), "no run.json there"),
        (("compare", "nowhere", "nowhere"), "no such file"),
        (("draw",), "command = 'draw'"),
    ],
)
def test_bad_words_are_refused_in_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, error = call(capsys, monkeypatch, *words)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert not out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--radius", "8"), "radius = 8"),
        (("--radius", "-0.1"), "radius"),
        (("--samples", "0"), "samples = 0"),
        (("--samples", "5"), "no sample of class 5"),
        (("--protocol", "quik"), "quick"),
        (("--level", "2"), "level = 2"),
        (("--block", "0"), "block = 0"),
    ],
)
def test_bad_settings_of_an_evaluation_leave_the_last_one(
    words, message, folders, capsys, monkeypatch
):
    before = (folders[1] / EVALUATION).read_bytes()
    status, _, error = call(capsys, monkeypatch, "evaluate", folders[1], *words, "--name", "other")
    assert status == 2
    assert message in error
    assert (folders[1] / EVALUATION).read_bytes() == before
    assert not (folders[1] / "other.nc").exists()


def test_an_evaluation_of_other_settings_is_never_overwritten(folders, capsys, monkeypatch):
    before = (folders[1] / EVALUATION).read_bytes()
    for words, message in (
        (("--samples", "300", "--radius", "0.1"), "radius = 0.05, this one has 0.1"),
        (("--samples", "200"), "split = first 300 of the test set"),
    ):
        status, _, error = call(capsys, monkeypatch, "evaluate", folders[1], *words)
        assert status == 2
        assert message in error
        assert "--name" in error
    assert (folders[1] / EVALUATION).read_bytes() == before


def copied(folder, target):
    target.mkdir()
    for name in (run_folder.SETTINGS, run_folder.PARAMETERS):
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def test_parameters_come_back_as_they_were(folders):
    run = run_folder.load(folders[0])
    with np.load(folders[0] / run_folder.PARAMETERS) as archive:
        assert sorted(archive) == ["params/head/bias", "params/head/kernel"]
        np.testing.assert_array_equal(
            run.variables["params"]["head"]["kernel"], archive["params/head/kernel"]
        )
    assert run.settings["data"] == "mnist-5k"
    assert isinstance(run.module, models.Logistic)


def test_parameters_of_another_model_are_named(folders, tmp_path):
    folder = copied(folders[0], tmp_path / "run")
    settings = run_folder.load(folder).settings
    for change, message in (
        ({"model": "mlp"}, "params/head/kernel"),
        ({"class_names": ["a", "b", "c"]}, "params/head/bias"),
        ({"model": "logistik"}, "logistic"),
        ({"format": 99}, "format 99"),
        ({"options": {"widths": 3}}, "widths"),
    ):
        (folder / run_folder.SETTINGS).write_text(json.dumps(settings | change), encoding="utf-8")
        with pytest.raises(InvalidInput, match=message):
            run_folder.load(folder)
    (folder / run_folder.SETTINGS).write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(InvalidInput, match="has no 'model'"):
        run_folder.load(folder)
    (folder / run_folder.SETTINGS).write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInput, match="not readable as JSON"):
        run_folder.load(folder)


@pytest.mark.parametrize("damage", ["cut", "pickle", "missing"])
def test_damaged_parameters_are_refused(damage, folders, tmp_path):
    folder = copied(folders[0], tmp_path / "run")
    path = folder / run_folder.PARAMETERS
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    elif damage == "pickle":
        np.savez(path, **{"params/head/bias": np.array([{}], object)})
    else:
        path.unlink()
    with pytest.raises(InvalidInput, match="not readable as parameters"):
        run_folder.load(folder)


def test_data_that_changed_since_training_are_refused(folders, tmp_path, capsys, monkeypatch):
    folder = copied(folders[0], tmp_path / "run")
    settings = run_folder.load(folder).settings
    settings["fingerprint"] = "0" * 64
    (folder / run_folder.SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
    status, _, error = call(capsys, monkeypatch, "evaluate", folder)
    assert status == 2
    assert "fingerprint" in error


def test_a_run_that_cannot_be_written_leaves_the_old_one(folders, tmp_path, monkeypatch):
    folder = copied(folders[0], tmp_path / "run")
    before = (folder / run_folder.PARAMETERS).read_bytes()
    run = run_folder.load(folder)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InvalidInput, match="No space left on device"):
        run_folder.save(folder, run)
    assert (folder / run_folder.PARAMETERS).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["parameters.npz", "run.json"]
