"""Several seeds trained together: each in the bits of a run alone, also after a kill."""

import json
import shutil
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets import __main__ as command
from nets.experiment import seeds
from nets.experiment.prepare import identity, prepare
from nets.runs import folder as run_folder
from nets.training import batched_seeds, checkpoint, loop, monitor
from nets.training import step as training_step
from nets.training.progress import stopped
from support import quick, small_training
from theory.domain import InvalidInput

# With other images for each seed.
CONFIG = small_training.CONFIG.replace(epochs=2, seed=4)
PLAIN = CONFIG.replace(model="logistic", options={}, fairness="none", fairness_options={})


@pytest.fixture(scope="module")
def digits():
    return small_training.digits()


@pytest.fixture
def quickly(monkeypatch):
    for module in (training_step, monitor):
        monkeypatch.setattr(module, "jit", quick.jit)


def ended(prepared):
    return loop.run_seeds([one.training for one in prepared], [one.fresh for one in prepared])


def alone(config, digits, like):
    """Returns what a training of its own comes to, with functions that are compiled already."""
    one = prepare(config, digits)
    watch = like.training.monitor._replace(seed=config.optimisation.seed)
    return loop.run(one.training._replace(step=like.training.step, monitor=watch), one.fresh)


def leaves(progress):
    return jax.tree_util.tree_flatten_with_path((progress.state, progress.chosen))[0]


@pytest.mark.slow
def test_each_seed_has_the_bits_of_a_training_alone(digits, quickly):
    prepared = seeds.prepare(CONFIG.replace(seeds=2), digits)
    found = ended(prepared)
    for seed, ours in zip((4, 5), found, strict=True):
        theirs = alone(CONFIG.replace(seed=seed), digits, prepared[0])
        assert ours.records == theirs.records
        for (path, one), (_, two) in zip(leaves(ours), leaves(theirs), strict=True):
            assert one.dtype == two.dtype, path
            np.testing.assert_array_equal(one, two, err_msg=str(path))
    kernels = [one.state.variables["params"]["head"]["kernel"] for one in found]
    assert (kernels[0] != kernels[1]).all()
    assert (found[0].state.fairness.weights != found[1].state.fairness.weights).any()
    assert found[0].records[0]["loss"] != found[1].records[0]["loss"]


@pytest.mark.slow
def test_where_seeds_are_batched_only_rounding_differs(digits, quickly, monkeypatch):
    monkeypatch.setattr(batched_seeds, "seeds_take_turns", lambda spec: False)
    prepared = seeds.prepare(PLAIN.replace(seeds=2), digits)
    assert [identity(one)["seeds"] for one in prepared] == [2, 2]
    like = prepare(PLAIN, digits)
    theirs = [alone(PLAIN.replace(seed=seed), digits, like) for seed in (4, 5)]
    for ours, own in zip(ended(prepared), theirs, strict=True):
        one, two = (p.state.variables["params"]["head"]["kernel"] for p in (ours, own))
        # Ten sums of sixty terms, and no pixel is near the change of a sign.
        np.testing.assert_allclose(one, two, atol=1e-6)
    one, two = (p.state.variables["params"]["head"]["kernel"] for p in theirs)
    assert jnp.abs(one - two).max() > 0.1


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_a_batched_step_of_convolutions_is_a_program(digits, monkeypatch, platform):
    monkeypatch.setattr(batched_seeds, "seeds_take_turns", lambda spec: False)
    monkeypatch.setattr(training_step, "jit", jax.jit)
    prepared = seeds.prepare(CONFIG.replace(seeds=2), digits)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[one.fresh.state for one in prepared])
    images, chosen = digits.train, np.zeros((2, 60), np.int32)
    numbers = np.uint32(1), np.uint32(0), np.arange(2, dtype=np.uint32)
    step = cast(Any, prepared[0].training.step)
    traced = step.trace(states, images.images, images.labels, chosen, *numbers)
    assert "stablehlo.convolution" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_a_seed_that_collapses_stops_and_the_others_go_on(digits, quickly):
    shares = {4: iter([200, 20]), 5: iter([100, 200, 150])}
    below = [0]

    def judge(shared, pixels, labels, place):
        if place[0] == 0:
            below[0] = next(shares[int(shared[2])])
        robust = np.asarray(place) < below[0]
        return np.ones_like(robust), robust

    config = PLAIN.replace(seeds=2, epochs=3, ema=0.0)
    prepared = seeds.prepare(config, digits)
    plans = [
        one.training._replace(
            monitor=one.training.monitor._replace(judge=judge),
            images=one.training.images._replace(held_out=None),
        )
        for one in prepared
    ]
    kept = []
    first, second = loop.run_seeds(plans, [one.fresh for one in prepared], kept.append)
    assert (len(first.records), len(second.records)) == (2, 3)
    assert stopped(first)
    assert not stopped(second)
    assert int(second.state.steps) == 9
    again = seeds.unpacked(seeds.packed((first, second)))
    assert [one.records for one in again] == [first.records, second.records]
    assert [again[place].state is one.state for place, one in enumerate((first, second))]


WORDS = ("model=logistic", "options={}", "epochs=3", "batch=500", "attack_steps=1", "held_out=5")
FILES = (run_folder.LOG, run_folder.PARAMETERS, run_folder.SETTINGS)
EVALUATION = f"{command.DEFAULT_NAME}.nc"


class Stopped(Exception):
    """Stands for what ends a process."""


def evaluated(folder, **settings):
    """Stands for the evaluation of a folder, which is tested with the commands."""
    assert settings["protocol"] == "budget"
    (folder / EVALUATION).touch(exist_ok=False)


@pytest.fixture
def stubbed(quickly, monkeypatch):
    monkeypatch.setattr(command, "evaluate", evaluated)
    # What stands for an evaluation is empty; whether one is of its run is tested with evaluations.
    monkeypatch.setattr("nets.evaluation.run.load_of_run", lambda *_: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder of two seeds whose training was stopped after the second epoch, then went on."""
    folder = tmp_path_factory.mktemp("runs") / "together"
    write = run_folder.write_log

    def dying(place, records):
        if len(records) == 2:
            raise Stopped
        write(place, records)

    with pytest.MonkeyPatch.context() as patch:
        for module in (training_step, monitor):
            patch.setattr(module, "jit", quick.jit)
        patch.setattr(command, "evaluate", evaluated)
        patch.setattr(run_folder, "write_log", dying)
        with pytest.raises(Stopped):
            command.train((*WORDS, "seeds=2"), out=folder, report=False)
        patch.setattr(run_folder, "write_log", write)
        assert [path.name for path in (folder / checkpoint.FOLDER).iterdir()] == ["2"]
        with pytest.raises(InvalidInput, match="seeds = 2, this training has 3"):
            command.train((*WORDS, "seeds=3"), out=folder, report=False)
        assert command.train((*WORDS, "seeds=2"), out=folder) == 0
    return folder


@pytest.mark.slow
def test_a_training_that_was_stopped_leaves_the_runs_of_each_seed_alone(whole, stubbed, tmp_path):
    assert command.train((*WORDS, "seed=1"), out=tmp_path / "own", report=False) == 0
    for name in FILES:
        assert (whole / "seed-1" / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
    first, second = (run_folder.load(whole / f"seed-{seed}") for seed in (0, 1))
    assert [run.settings["training"]["seed"] for run in (first, second)] == [0, 1]
    kernels = [run.variables["params"]["head"]["kernel"] for run in (first, second)]
    assert (kernels[0] != kernels[1]).any()
    assert sorted(path.name for path in whole.iterdir()) == ["seed-0", "seed-1"]
    for seed in (0, 1):
        names = sorted(path.name for path in (whole / f"seed-{seed}").iterdir())
        assert names == sorted((*FILES, EVALUATION))


def test_only_what_is_missing_is_evaluated_again(whole, stubbed):
    with pytest.raises(InvalidInput, match="holds a run already"):
        command.train((*WORDS, "seeds=2"), out=whole)
    (whole / "seed-1" / EVALUATION).unlink()
    assert command.train((*WORDS, "seeds=2"), out=whole) == 0
    assert (whole / "seed-1" / EVALUATION).exists()


def test_a_folder_that_holds_another_run_is_refused(whole, tmp_path):
    shutil.copytree(whole / "seed-1", tmp_path / "own")
    shutil.copytree(whole / "seed-1", tmp_path / "below" / "seed-1")
    for out, words in (("own", ("seeds=2",)), ("below", ("seeds=2", "rate=0.2"))):
        with pytest.raises(InvalidInput, match="holds a run already"):
            command.train((*WORDS, *words), out=tmp_path / out)
    settings = json.loads((tmp_path / "own" / run_folder.SETTINGS).read_text("utf-8"))
    assert (settings["training"]["seed"], settings["training"]["seeds"]) == (1, 1)


@pytest.mark.parametrize(("seed", "count"), [(0, 0), (2**32 - 1, 2)])
def test_seeds_out_of_range_are_refused(digits, seed, count):
    with pytest.raises(InvalidInput, match=f"seeds = {count}"):
        seeds.prepare(PLAIN.replace(seed=seed, seeds=count), digits)
