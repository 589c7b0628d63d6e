"""An evaluation that was stopped goes on to the same bytes; what it judged is known by its file."""

import jax
import numpy as np
import pytest

from nets.compute import compiler
from nets.data.load import DataSet, Images
from nets.evaluation import file as evaluation_file
from nets.evaluation import outcomes, protocols, unfinished
from nets.evaluation import run as evaluation_run
from nets.evaluation.run import Request, evaluate_run, load_of_run, require_no_orphan
from nets.models.registry import build, initialise
from nets.runs import folder as run_folder
from nets.runs import lock
from sims import files
from theory.domain import InvalidInput
from theory.problem import LinfBall

SHAPE, NAMES, COUNT, BLOCK = (4, 4, 1), ("a", "b", "c"), 90, 16
OPTIONS = {"hidden": [8]}
rng = np.random.default_rng(1)
IMAGES = rng.integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
REQUEST = Request("linf", 0.05, "quick", None, seed=3, block=BLOCK)


def variables(seed):
    return initialise(jax.random.key(seed), build("mlp", 3, **OPTIONS), SHAPE)


def labels():
    logits = build("mlp", 3, **OPTIONS).apply(variables(0), IMAGES.astype(np.float32) / 255)
    return np.where(np.arange(COUNT) % 9, np.argmax(logits, -1), np.arange(COUNT) % 3)


@pytest.fixture(scope="module")
def data():
    images = Images(IMAGES, labels().astype(np.int32))
    return DataSet("made-up", images, images, NAMES, "f")


def trained(folder, seed=0):
    settings = {
        "model": "mlp",
        "options": OPTIONS,
        "image_shape": list(SHAPE),
        "class_names": list(NAMES),
        "data": "made-up",
        "fingerprint": "f",
    }
    module = build("mlp", 3, **OPTIONS)
    run_folder.save(folder, run_folder.Run(settings, module, variables(seed)))
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run, its evaluation in one go, and the folder that others are copied from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "options", lambda: {"xla_backend_optimization_level": 0})
        folder = trained(tmp_path_factory.mktemp("runs") / "run")
        evaluated(folder, data)
        yield folder


def evaluated(folder, data, name="evaluation", **changes):
    path = folder / f"{name}.nc"
    request = REQUEST._replace(**changes)
    return evaluate_run(folder, path, request, lambda _: lambda share: None, data=data)


class _Kill(BaseException):
    """Stands for what ends a process."""


def count_blocks(monkeypatch, most=10**6):
    """Counts the blocks that attacks compute; the process ends before one more than `most`."""
    counted, over_blocks = [], outcomes.over_blocks

    def counting(function, shared, samples, **more):
        # Clean blocks have the salts of no attack.
        if int(shared[1]) not in (0, np.uint32(outcomes.zlib.crc32(b"clean"))):
            if len(counted) >= most:
                raise _Kill
            counted.append(len(samples[0]))
        return over_blocks(function, shared, samples, **more)

    monkeypatch.setattr(outcomes, "over_blocks", counting)
    return counted


def test_an_evaluation_goes_on_to_the_same_bytes(whole, data, monkeypatch):
    monkeypatch.setattr(unfinished, "SAVE_EVERY", 0.0)
    once = (whole / "evaluation.nc").read_bytes()
    kept = whole / "killed.unfinished"
    alone = 0
    for most in (1, 3, 2, 10**6):
        with monkeypatch.context() as patch:
            counted = count_blocks(patch, most)
            if most < 10**6:
                with pytest.raises(_Kill):
                    evaluated(whole, data, "killed")
                assert list(kept.glob("*.nc"))
                assert not (whole / "killed.nc").exists()
            else:
                evaluated(whole, data, "killed")
            alone += len(counted)
    assert (whole / "killed.nc").read_bytes() == once
    assert not kept.exists()
    # In four goes what one go computes: nothing twice.
    with monkeypatch.context() as patch:
        assert len(count_blocks(patch)) == 0
        again = count_blocks(patch)
        evaluated(whole, data, "once")
    assert alone == len(again)
    assert (whole / "once.nc").read_bytes() == once


def test_it_is_that_of_one_call(whole, data):
    run = run_folder.load(whole)
    threat = LinfBall(REQUEST.radius)
    once = outcomes.evaluate(
        jax.random.key(REQUEST.seed),
        run.module.apply,
        run.variables,
        IMAGES,
        data.test.labels,
        threat,
        protocols.methods("quick", 3, threat),
        classes=3,
        block=BLOCK,
    )
    dataset = evaluation_file.load(whole / "evaluation.nc")
    assert not once.correct[-1].all()
    np.testing.assert_array_equal(dataset["correct"], once.correct)
    np.testing.assert_array_equal(dataset["predicted"], once.predicted)
    made = evaluation_file.make(once, data.test.labels, NAMES, REQUEST.level, dataset.attrs)
    assert dataset.equals(made)


def stopped(whole, data, monkeypatch, name):
    """Leaves an evaluation that was stopped after two pieces."""
    monkeypatch.setattr(unfinished, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patch:
        count_blocks(patch, 2)
        with pytest.raises(_Kill):
            evaluated(whole, data, name)
    return whole / f"{name}.unfinished"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.06}, "radius = 0.05, this one has 0.06"),
        ({"seed": 4}, "seed = 3, this one has 4"),
        ({"block": 8}, "block = 16, this one has 8"),
        ({"protocol": "budget"}, "protocol = quick"),
        ("code", "code = .*, this one has other"),
        ("parameters", "parameters = "),
    ],
)
def test_what_other_settings_or_code_have_found_is_refused(
    change, message, whole, data, tmp_path, monkeypatch
):
    folder = trained(tmp_path / "run")
    kept = stopped(folder, data, monkeypatch, "evaluation")
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    if change == "code":
        monkeypatch.setattr(unfinished, "code_digest", lambda *_: "other")
    elif change == "parameters":
        trained(folder, seed=1)
    changes = change if isinstance(change, dict) else {}
    with pytest.raises(InvalidInput, match=f"evaluation.unfinished: .*{message}"):
        evaluated(folder, data, **changes)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def test_a_damaged_piece_is_computed_again(whole, data, monkeypatch):
    kept = stopped(whole, data, monkeypatch, "damaged")
    path = kept / "1.nc"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    evaluated(whole, data, "damaged")
    assert (whole / "damaged.nc").read_bytes() == (whole / "evaluation.nc").read_bytes()
    assert not kept.exists()


def test_a_full_disk_at_the_end_loses_nothing(whole, data, monkeypatch):
    save = files.save

    def full(dataset, path):
        if path.name == "full.nc":
            raise InvalidInput(f"results = {path}: cannot be written (No space left on device)")
        save(dataset, path)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_run.files, "save", full)
        with pytest.raises(InvalidInput, match="No space left"):
            evaluated(whole, data, "full")
    counted = count_blocks(monkeypatch)
    evaluated(whole, data, "full")
    assert not counted
    assert (whole / "full.nc").read_bytes() == (whole / "evaluation.nc").read_bytes()


def test_one_process_evaluates_into_a_file(whole, data):
    kept = whole / "evaluation.unfinished"
    kept.mkdir()
    with lock.held(kept), pytest.raises(InvalidInput, match="another process is evaluating into"):
        evaluated(whole, data)
    # What a kill leaves of a lock blocks nobody.
    (kept / lock.NAME).write_bytes(b"")
    evaluated(whole, data)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "linf", "radius": 8.0}, "radius = 8: must be at most 1, .*perhaps 8/255"),
        ({"norm": "l2", "radius": 128.0}, "radius = 128: must be at most 4, .*perhaps 128/255"),
        ({"norm": "l1", "radius": 2000.0}, "radius = 2000: must be at most 16, .*2000/255"),
        ({"radius": float("nan")}, "radius = nan"),
        ({"radius": 0.0, "masking": True}, "masking: the radius must be above 0"),
        ({"level": 1.0}, "level = 1"),
        ({"seed": 2**32}, "seed = 4294967296"),
        ({"name": 200 * "n"}, "a name of 203 bytes, must be at most 150"),
        ({"classes": ("a", "b", "a")}, "class_names: 'a': each must be a printable text"),
        ({"classes": ("a", "b", "c\0")}, r"class_names: 'c\\x00'"),
        ({"classes": ("a", "b", "")}, "class_names: ''"),
        ({"data": None}, "attributes: data = None: must be a text"),
        ({"data": [["a"], 1]}, "attributes: data = .*: must be a text"),
    ],
)
def test_what_no_file_could_hold_is_refused_before_anything_is_computed(
    change, message, whole, data, monkeypatch
):
    monkeypatch.setattr(outcomes, "over_blocks", None)
    before = sorted(path.name for path in whole.iterdir())
    names = change.pop("classes", NAMES)
    changed = data._replace(class_names=names, name=change.pop("data", data.name))
    with pytest.raises(InvalidInput, match=message) as refused:
        evaluated(whole, changed, **({"name": "new"} | change))
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in whole.iterdir()) == before


def test_an_evaluation_does_not_outlive_its_network(whole, data, tmp_path):
    folder = trained(tmp_path / "run")
    path = folder / "evaluation.nc"
    path.write_bytes((whole / "evaluation.nc").read_bytes())
    recorded = load_of_run(folder, path).attrs[evaluation_file.PARAMETERS]
    assert recorded == run_folder.checksum(run_folder.load(folder).variables)
    trained(folder, seed=1)
    for read in (lambda: load_of_run(folder, path), lambda: evaluated(folder, data)):
        with pytest.raises(InvalidInput, match=rf"another evaluation \(parameters = {recorded}"):
            read()
    (folder / run_folder.SETTINGS).unlink()
    with pytest.raises(InvalidInput, match=r"holds evaluation\.nc, but not the run"):
        require_no_orphan(path)
    # One of an earlier version is read, and replaced.
    trained(folder, seed=1)
    old = files.read(path)
    del old.attrs[evaluation_file.PARAMETERS]
    files.save(old, path)
    load_of_run(folder, path)
    evaluated(folder, data)
    assert load_of_run(folder, path).attrs[evaluation_file.PARAMETERS] != recorded
