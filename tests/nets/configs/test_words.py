"""Settings from files and words: what takes the place of what, and what is refused."""

import re

import pytest

from nets.configs import recipes
from nets.configs.settings import Config
from theory.domain import InvalidInput


@pytest.mark.parametrize("name", recipes.names())
def test_every_file_says_what_to_expect(name):
    head = recipes.path_of(name).read_text("utf-8").split("format =")[0]
    for word in ("Paper:", "Command:", "Time:", "Expected:"):
        assert f"# {word}" in head
    assert re.search(r"Command: +python -m nets train", head)
    assert recipes.read([name])[0] == name


def test_words_take_the_place_of_the_file():
    name, found = recipes.read([])
    assert name == recipes.DEFAULT
    assert found.optimisation.milestones == ()
    words = ["radius=8/255", "epochs=3", "schedule=piecewise", "milestones=[1, 2]", "rate=1"]
    _, changed = recipes.read([name, *words, "options.hidden=[7]", "flip=true"])
    assert changed.objective.radius == 8 / 255
    optimisation = changed.optimisation
    assert (optimisation.epochs, optimisation.schedule) == (3, "piecewise")
    assert changed.objective.flip is True
    assert optimisation.milestones == (1, 2)
    assert isinstance(optimisation.rate, float)
    assert changed.network.options == found.network.options | {"hidden": [7]}
    assert changed.network.model == found.network.model


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mnist-5k-pgt"], "mnist-5k-pgd"),
        (["nowhere.toml"], "config = nowhere.toml: no such file"),
        (["epoch=3"], "did you mean epochs"),
        (["model.hidden=3"], "model is no table"),
        (["epochs=three"], "epochs = 'three': must be of type int"),
        (["epochs=3.5"], "epochs = 3.5"),
        (["flip=1"], "flip = 1"),
        (["radius=8/0"], "radius = '8/0'"),
        (["milestones=[1.5]"], "milestones"),
        (["options=3"], "options = 3"),
        (["mnist-5k-pgd", "epochs"], r"must be key=value; perhaps epochs="),
    ],
)
def test_bad_words_are_refused(words, message):
    with pytest.raises(InvalidInput, match=message):
        recipes.read(words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = 3", "format = missing, must be 1"),
        ("format = 2", "format = 2, must be 1"),
        ("format = 1\nepoch = 3", "did you mean epochs"),
        ("format = 1\nepochs = ", "not TOML"),
        ('format = 1\nmodel = ["mlp"]', "model = "),
    ],
)
def test_bad_files_are_refused(text, message, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message):
        recipes.read([str(path)])
    path.write_text("format = 1\nepochs = 3", encoding="utf-8")
    assert recipes.read([str(path), "batch=7"]) == ("own", Config.of(epochs=3, batch=7))
