"""Files of settings that are damaged, endless or odd: one line that names file and key, or good."""

import os
import time

import pytest

from nets.configs import recipes
from nets.configs.settings import KEYS, Config
from nets.study import plan as study_plan
from support.faults.corruptions import corruptions
from theory.domain import InvalidInput

DEEP = "[" * 100_000
TEXTS = [
    (b"", "format = missing"),
    (b"format = true", "format = True, must be 1"),
    (b"format = 1.0", "format = 1.0, must be 1"),
    (b"format = 1\nepochs = \xff", "not UTF-8"),
    (b"\x00" * 100, "not TOML"),
    (b"format = 1\nepochs = \x00", "not TOML"),
    (f"format = 1\nmilestones = {DEEP}".encode(), "levels"),
    (f"format = 1\nmilestones = {'[' * 500}{']' * 500}".encode(), "levels"),
    (b"format = 1\nepochs = 1" + b"0" * 400, "must fit in 64 bits"),
    (b"format = 1\nepochs = 1" + b"0" * 5000, "too many digits"),
    (b"format = 1\nrate = nan", "rate = nan: must be finite"),
    (b"format = 1\nrate = -inf", "rate = -inf: must be finite"),
    (b"format = 1\nrate = 1e999", "rate = inf: must be finite"),
    (b"format = 1\nepochs = 2020-01-01", "epochs = .*: must be of type int"),
    (b"format = 1\n[options]\nhidden = 2020-01-01", "options = .*: must be of type table"),
    (b"format = 1\nepochs = '" + b"9" * 10**6 + b"'", "epochs = '999.*: must be of type int"),
    (b"format = 1\nclasses = [true]", "classes = .*: must be of type list of int or str"),
    (b"format = 1\nmilestones = [[1]]", "milestones = .*: must be of type list of int"),
    (b"format = 1\nflip = 1", "flip = 1: must be of type bool"),
    (b"format = 1\nepochs = true", "epochs = True: must be of type int"),
    (b"format = 1\nepochs = '3'", "epochs = '3': must be of type int"),
    (b"format = 1\nradius = '8/'", "radius = '8/': must be of type float"),
    (b"format = 1\n[option]\nhidden = [3]", "key = 'option': unknown; did you mean .*options"),
    (b"format = 1\n[epochs]\na = 3", "epochs = {'a': 3}: must be of type int"),
    (b"format = 1\nepochs = 3\nepochs = 4", "not TOML"),
    (b"#" * (2**20 + 1), "at most 1048576 are read"),
]


@pytest.mark.parametrize(("data", "message"), TEXTS, ids=[message for _, message in TEXTS])
def test_a_file_that_is_no_config_is_one_line_that_names_it(data, message, tmp_path):
    path = tmp_path / "own.toml"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=message) as error:
        recipes.read([str(path)])
    said = str(error.value)
    assert said.startswith(f"config = {path}: ")
    assert "\n" not in said
    assert len(said) < len(str(path)) + 400


@pytest.mark.parametrize("read", [recipes.read, study_plan.read])
@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "device", "too long", "in a file"])
def test_what_is_no_file_is_refused_without_waiting(read, kind, tmp_path):
    path = tmp_path / "own.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "too long":
        path = tmp_path / f"{'a' * 300}.toml"
    elif kind == "in a file":
        (tmp_path / "file").write_text("mine")
        path = tmp_path / "file" / "own.toml"
    begun = time.monotonic()
    with pytest.raises(InvalidInput, match=r"own.toml: |\.toml: cannot be read \(File name too"):
        read([str(path)])
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs=nan", "epochs = nan|value = nan: must be finite"),
        ("radius=inf", "must be finite"),
        ("radius=8/0", "radius = '8/0': must be of type float"),
        ("radius=\u0668/255", "radius = '\u0668/255': must be of type float"),
        ("epochs=\u0663", "epochs = '\u0663': must be of type int"),
        ("epochs=1e-2", "epochs = 0.01: must be of type int"),
        ("epochs=1e400", "must be finite"),
        (f"epochs={'9' * 400}", "must fit in 64 bits"),
        (f"epochs={'9' * 5000}", "epochs = '999.*: must be of type int"),
        (f"milestones={DEEP}", "levels"),
        ("epochs=3\nbatch = 4", "epochs = .*: must be of type int"),
        ("options={hidden=2020-01-01}", "options = .*: must be of type table of numbers"),
        ("options.hidden=nan", "must be finite"),
        (f"{'x' * 10**6}=3", "key = 'xxx.*: unknown"),
        ("x" * 10**6, "config = 'xxx.*: unknown"),
    ],
)
def test_a_bad_word_is_one_line(word, message):
    with pytest.raises(InvalidInput, match=message):
        recipes.read([word])


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["epochs=1e2", "batch=1_00"], {"epochs": 100, "batch": 100}),
        (["rate=1/10", "beta=3/2"], {"rate": 0.1, "beta": 1.5}),
        (["milestones=[1e1, 20.0]"], {"milestones": (10, 20)}),
        (["radius=.5/255"], {"radius": 0.5 / 255}),
    ],
)
def test_numbers_are_written_in_one_way_everywhere(words, values):
    _, config = recipes.read(words)
    flat = config.flat()
    assert {key: flat[key] for key in values} == values
    assert [type(flat[key]) for key in values] == [type(value) for value in values.values()]


def test_a_ratio_in_a_file_is_a_number_of_every_float(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('format = 1\nradius = "8/255"\nmomentum = "9/10"\nepochs = 1e1', "utf-8")
    assert recipes.read([str(path)])[1] == Config.of(radius=8 / 255, momentum=0.9, epochs=10)


SOUND = """format = 1
model = "mlp"
data = "mnist-5k"
classes = [1, "7"]
objective = "trades"
radius = "8/255"
milestones = [2, 3]
flip = true
epochs = 3

[options]
hidden = [8, 8]
"""
STUDY = """format = 1
config = "mnist-5k-natural"
seeds = [1, 2]
reference = "plain"
level = 0.1

[settings]
epochs = 2

[warm_up]
rate = 0.2

[methods.plain]

[methods.mixed]
mix = 0.8

[evaluation]
protocol = "quick"
samples = 100
"""


@pytest.mark.parametrize(
    ("read", "text", "kind"),
    [(recipes.read, SOUND, "config"), (study_plan.read, STUDY, "study")],
    ids=["config", "study"],
)
def test_300_corruptions_of_a_file_are_refused_in_a_line_or_good_settings(
    read, text, kind, tmp_path
):
    path = tmp_path / "own.toml"
    refused = []
    for done, data in corruptions(text.encode(), 300, seed=16):
        path.write_bytes(data)
        try:
            settings = read([str(path)])
        except InvalidInput as error:
            refused.append(str(error))
        else:
            # A changed comment, letter or digit may be another config, of the types that it must.
            config = settings[1] if kind == "config" else settings.shared
            assert Config.of(**config.flat()) == config, done
    assert len(refused) > 150
    assert all("\n" not in said and len(said) < 1000 for said in refused)


def test_every_key_refuses_another_type(tmp_path):
    path = tmp_path / "own.toml"
    for key in KEYS:
        path.write_text(f"format = 1\n{key} = 2020-01-01\n", "utf-8")
        with pytest.raises(InvalidInput, match=rf"{key} = datetime.*: must be of type"):
            recipes.read([str(path)])
