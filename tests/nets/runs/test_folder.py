"""A run is read when all its files are as they were written, and its record has its types."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from nets.runs import folder as runs
from nets.runs import record
from support.faults import kinds
from theory.domain import InvalidInput

DAMAGED = pathlib.Path(__file__).parent / "damaged.npz"
KEPT = pathlib.Path(__file__).parents[3] / "benchmarks" / "results" / "mnist-pgd"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    return folder, kinds.run(folder)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "run")


def edited(folder, change):
    """Writes the record without its digests, as one of an earlier version, with changed fields."""
    path = folder / runs.SETTINGS
    settings = json.loads(path.read_text("utf-8"))
    plain = {key: value for key, value in settings.items() if key not in record.SEALS}
    path.write_text(json.dumps(plain | change), "utf-8")


def refused(folder):
    with pytest.raises(InvalidInput) as error:
        runs.load(folder)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_a_run_comes_back_verified_and_is_saved_to_the_same_bytes(saved, tmp_path):
    folder, made = saved
    read = runs.load(folder)
    assert read.verified
    assert read.settings == {"format": 1} | made.settings
    assert runs.checksum(read.variables) == runs.checksum(made.variables)
    assert [line["epoch"] for line in runs.read_log(folder)] == [1, 2]
    again = tmp_path / "again"
    again.mkdir()
    shutil.copyfile(folder / runs.LOG, again / runs.LOG)
    runs.save(again, read)
    for name in (runs.SETTINGS, runs.PARAMETERS):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_the_record_is_json_that_ends_in_its_digest(folder):
    text = (folder / runs.SETTINGS).read_text("utf-8")
    assert list(json.loads(text))[-2:] == ["files", "sha256"]
    assert sorted(json.loads(text)["files"]) == [runs.LOG, runs.PARAMETERS]


def test_a_run_of_an_earlier_version_is_read_unverified(folder, capsys):
    assert runs.load(folder).verified
    assert capsys.readouterr().err == ""
    edited(folder, {})
    assert not runs.load(folder).verified
    assert f"{folder} is unverified" in capsys.readouterr().err
    assert len(runs.read_log(folder)) == 2
    kept = record.read(KEPT / runs.SETTINGS)
    assert (kept.verified, kept.settings["model"]) == (False, "small-cnn")
    assert len(runs.read_log(KEPT)) == 13


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (runs.SETTINGS, "run.json: damaged, its digest does not fit its content"),
        (runs.PARAMETERS, "parameters.npz: not readable as parameters (damaged or of another run"),
    ],
)
def test_a_flip_of_any_bit_is_refused(name, words, folder):
    data = (folder / name).read_bytes()
    at = data.index(b'"b"') + 1 if name == runs.SETTINGS else len(data) // 2
    (folder / name).write_bytes(data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :])
    assert words in refused(folder)


def test_files_of_another_run_are_refused(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    made = kinds.run(other)
    made.variables["params"]["head"]["bias"][0] = 1
    runs.write_log(other, [{"epoch": 1}])
    runs.save(other, made)
    assert runs.load(other).verified
    shutil.copyfile(other / runs.PARAMETERS, folder / runs.PARAMETERS)
    assert "of another run: its digest is not that in run.json" in refused(folder)
    shutil.copyfile(other / runs.LOG, folder / runs.LOG)
    with pytest.raises(InvalidInput, match=r"log\.jsonl: not readable as log .*of another run"):
        runs.read_log(folder)


CASES = [
    ({"classes": None}, "classes = null: must be a list"),
    ({"classes": [0.5]}, "classes[0] = 0.5: must be an integer or a text"),
    ({"class_names": None}, "class_names = null: must be a list"),
    ({"class_names": ["a"]}, "class_names = ['a']: must be a list of length >= 2"),
    ({"class_names": ["a", 2, "c"]}, "class_names[1] = 2: must be a text"),
    ({"image_shape": [4, 4]}, "image_shape = [4, 4]: must be a list of length 3"),
    ({"image_shape": [4, 0, 1]}, "image_shape[1] = 0: must be an integer >= 1"),
    ({"image_shape": [4, 4, 10**9]}, "image_shape[2] = 1000000000: must be an integer <= 16384"),
    ({"image_shape": "4x4x1"}, "image_shape = '4x4x1': must be a list"),
    ({"model": None}, "model = null: must be a text"),
    ({"model": "logistik"}, "name = 'logistik': unknown; did you mean logistic?"),
    ({"options": None}, "options = null: must be a table of keys and values"),
    ({"options": {"mean": "x"}}, "options.mean = 'x': must be a number or a list or null"),
    ({"options": {"mean": [0.1, 0.2]}}, "mean = (0.1, 0.2): must be one number or one for each"),
    ({"options": {"widths": [3]}}, "option of logistic = 'widths': unknown"),
    ({"model": "mlp", "options": {"hidden": 3}}, "options.hidden = 3: must be a list"),
    (
        {"model": "mlp", "options": {"hidden": [0]}},
        "options.hidden[0] = 0: must be an integer >= 1",
    ),
    (
        {"model": "resnet-18", "options": {"blocks": 10**9}},
        "options.blocks = 1000000000: must be an integer <= 1000",
    ),
    ({"precision": "float16"}, "precision = 'float16': must be one of bfloat16, float32"),
    ({"training": []}, "training = []: must be a table of keys and values or null"),
    ({"data": 3}, "data = 3: must be a text"),
    ({"fingerprint": None}, "fingerprint = null: must be a text"),
    ({"epoch": "2"}, "epoch = '2': must be an integer"),
    ({"format": "1"}, "format '1', must be 1"),
    ({"format": 99}, "format 99, must be 1"),
    (
        {"model": "mlp"},
        "parameters of another model: params/head/kernel is (16, 3), mlp has (200, 3)",
    ),
]


@pytest.mark.parametrize(("change", "words"), CASES, ids=[words for _, words in CASES])
def test_a_field_of_another_type_is_named(change, words, folder):
    edited(folder, change)
    line = refused(folder)
    assert line.startswith(f"run = {folder}")
    assert words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not readable as JSON"),
        ("null", "value = null: must be a table of keys and values"),
        ("3", "value = 3: must be a table of keys and values"),
        ("[]", "value = []: must be a table of keys and values"),
        ("{}", "has no 'format'"),
        ("[" * 10**5, "more than 64 levels"),
        ('{"format": 1, "format": 1}', "the key 'format' is given twice"),
        ('{"format": 1, "model": "mlp", "epoch": NaN}', "epoch = nan: must be finite"),
    ],
)
def test_what_is_no_record_is_refused(text, words, folder):
    (folder / runs.SETTINGS).write_text(text, "utf-8")
    assert words in refused(folder)


def test_parameters_that_numpy_cannot_read_are_a_line(folder):
    """Without a digest, as those of earlier versions: NumPy raises errors of many types."""
    edited(folder, {})
    path = folder / runs.PARAMETERS
    data = path.read_bytes()
    cases = [DAMAGED.read_bytes(), b"", data[:100], data[:-30], b"PK\x05\x06" + bytes(18)]
    # The header of an array: no dictionary, a shape beyond all memory, another type.
    for old, new in ((b"{'descr'", b"{'descr("), (b"(16, 3)", b"(9**99,)"), (b"<f4", b"<U4")):
        cases.append(data.replace(old, new))
    for damaged in cases:
        assert damaged != data
        path.write_bytes(damaged)
        line = refused(folder)
        assert "not readable as parameters" in line or "parameters of another model" in line
    np.savez(path, **{"params/head/bias": np.array([{}], object)})
    assert "not readable as parameters (Object arrays cannot" in refused(folder)
    np.savez(path, **{"params/head/bias": np.zeros(3), "params/head/kernel": np.zeros((16, 3))})
    assert "params/head/bias is of type float64: must be float32" in refused(folder)
    path.unlink()
    assert "no such file: not readable as parameters" in refused(folder)


def test_a_folder_in_the_place_of_a_file_is_refused(folder):
    (folder / runs.PARAMETERS).unlink()
    (folder / runs.PARAMETERS).mkdir()
    assert "parameters.npz: is a folder" in refused(folder)
    (folder / runs.SETTINGS).unlink()
    assert "no run.json there" in refused(folder)
    (folder / runs.SETTINGS).mkdir()
    assert "run.json: is a folder" in refused(folder)
