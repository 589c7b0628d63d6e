"""A training that stops early says so: in words, in its run, and in the status of the command."""

import json

import numpy as np
import pytest

from nets import __main__ as command
from nets.configs import recipes
from nets.configs.settings import Config
from nets.experiment import seeds
from nets.experiment.prepare import prepare
from nets.experiment.run import write_run
from nets.runs import folder as run_folder
from nets.training.progress import begin
from support import small_training
from theory.domain import InvalidInput

CONFIG = Config.of(
    model="logistic", options={}, held_out=2, batch=60, attack_steps=1, radius=0.1, epochs=8
)


@pytest.fixture(scope="module")
def digits():
    return small_training.digits()


def ended(prepared, robust, clean):
    """Returns the progress of a training whose probe has had these counts of 100."""
    records = [
        {"probe": {"robust": r, "clean": c, "of": 100}, "score": r, "collapsed": False}
        for r, c in zip(robust, clean, strict=True)
    ]
    records[-1]["collapsed"] = True
    return begin(prepared.training, prepared.fresh.chosen)._replace(records=tuple(records))


@pytest.mark.parametrize(
    ("robust", "clean", "advice"),
    [
        ([40, 55, 61, 30], [60, 70, 80, 81], "raise attack_steps or lower rate"),
        ([40, 55, 61, 30], [60, 70, 80, 40], "lower rate"),
    ],
)
def test_it_says_what_happened_what_is_kept_and_what_to_change(
    robust, clean, advice, digits, tmp_path
):
    prepared = prepare(CONFIG, digits)
    words = write_run(prepared, tmp_path, ended(prepared, robust, clean))
    assert words == (
        f"{tmp_path}: stopped after epoch 4 of 8: robust accuracy of the probe fell from 61 % to "
        f"30 %; kept epoch 3; {advice}, or take drop=100 to go on (now drop=20)"
    )
    record = json.loads((tmp_path / run_folder.SETTINGS).read_text("utf-8"))
    assert record["stopped"] == {"epoch": 4, "epochs": 8, "robust": [61, 30], "of": 100}
    assert record["epoch"] == 3
    assert seeds.any_stopped([tmp_path])


WORDS = (
    "mnist-5k-pgd",
    "model=logistic",
    "options={}",
    "held_out=2",
    "batch=60",
    "attack_steps=1",
    "attack_step=0",
    "radius=0.1",
    "radius_warm_up=0",
    "epochs=8",
    "samples=0",
)


@pytest.mark.parametrize(("last", "status"), [(30, 4), (60, 0)])
def test_the_status_of_the_command_tells_a_script(last, status, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("nets.data.load.load", lambda *_: digits)
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: 0)
    prepared = prepare(recipes.read(WORDS)[1], digits)
    progress = ended(prepared, [40, 55, 61, last], [60, 70, 80, 81])
    if status == 0:
        progress.records[-1]["collapsed"] = False
    write_run(prepared, tmp_path, progress)
    # The run is there, and only its evaluation is left to do.
    assert command.train(WORDS, out=tmp_path) == status
    record = json.loads((tmp_path / run_folder.SETTINGS).read_text("utf-8"))
    assert (record["stopped"] is None) == (status == 0)


def test_a_radius_beyond_the_whole_box_is_refused_in_every_norm(digits):
    side = np.prod(digits.train.images.shape[1:])
    for norm, radius, most in (("l2", 128, side**0.5), ("l1", 2000, side), ("linf", 2, 1)):
        for objective in ("pgd", "natural"):
            words = {"attack_steps": 0} if objective == "natural" else {}
            config = CONFIG.replace(norm=norm, radius=radius, objective=objective, **words)
            with pytest.raises(InvalidInput, match=rf"radius = {radius}: must be at most {most:g}"):
                prepare(config, digits)
