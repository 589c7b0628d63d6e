"""Keys of trainings: each declared once, flat as ever, and read from earlier records."""

import dataclasses
import json
import pathlib

import pytest

from nets.configs import recipes
from nets.configs.settings import EVALUATION_KEYS, KEYS, Config, completed
from nets.study import file as study_file
from theory.domain import InvalidInput

RESULTS = pathlib.Path(__file__).parents[3] / "benchmarks" / "results"


def test_every_key_has_a_default_a_meaning_and_one_place():
    places = {(key.record, key.field) for key in KEYS.values()}
    fields = {
        (record.name, field.name)
        for record in dataclasses.fields(Config)
        for field in dataclasses.fields(getattr(Config(), record.name))
    }
    assert places == fields
    assert len(places) == len(KEYS)
    assert all(key.meaning for key in KEYS.values())
    assert list(Config().flat()) == list(KEYS)


def test_flat_keys_go_to_their_records_and_come_back():
    config = Config.of(data="fashion-mnist", objective="trades", radius=0.1, milestones=(2, 3))
    assert config.data.name == "fashion-mnist"
    assert config.objective.name == "trades"
    assert config == Config.of(**config.flat())
    assert config.as_json()["milestones"] == [2, 3]
    assert config.replace(epochs=3).replace(epochs=config.optimisation.epochs) == config
    with pytest.raises(InvalidInput, match="did you mean epochs"):
        config.replace(epoch=3)


def test_tables_are_not_shared():
    first, second = Config(), Config()
    first.network.options["hidden"] = [1]
    assert second.network.options == {}


def test_a_committed_run_is_that_of_its_recipe():
    """What a run recorded before settings were records of their own is what they still say."""
    recorded = json.loads((RESULTS / "mnist-pgd" / "run.json").read_text("utf-8"))["training"]
    ours = recipes.read(["mnist-pgd"])[1].replace(devices=1).as_json()
    settings = {name: ours[name] for name in ours if name not in EVALUATION_KEYS}
    theirs = completed(recorded, settings)
    assert {name: theirs[name] for name in settings} == settings
    # Keys of that time, in their order: later ones were put between them.
    assert [name for name in settings if name in recorded] == [k for k in recorded if k in settings]
    assert set(recorded) - set(settings) == {"fingerprint", "versions", "backend", "float64"}


def test_committed_runs_of_a_study_have_keys_of_today():
    study = study_file.load(RESULTS / "fashion-fairness" / "study.nc")
    for text in study["settings"].values.ravel():
        recorded = json.loads(str(text))["training"]
        keys = set(recorded) - {"fingerprint", "versions", "backend", "float64"}
        assert keys <= set(KEYS)
        # Of the types of today: what is written is what is read.
        values = {key: tuple(v) if isinstance(v := recorded[key], list) else v for key in keys}
        assert {k: v for k, v in Config.of(**values).as_json().items() if k in keys} == {
            key: recorded[key] for key in keys
        }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs=three"], r"of type int \(passes over the training images\)"),
        (["options=3"], "options = 3: must be of type table"),
        (["classes=3"], "classes = 3: must be of type list of int or str"),
    ],
)
def test_a_message_says_type_and_meaning(words, message):
    with pytest.raises(InvalidInput, match=message):
        recipes.read(words)


def test_a_string_is_taken_as_it_is_written():
    assert recipes.read(["data=3"])[1].data.name == "3"
