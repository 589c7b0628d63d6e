"""The images of a config: classes by name, long tails, and the same test set ever after."""

import json

import numpy as np
import pytest

from nets import __main__ as command
from nets.configs import recipes
from nets.configs.settings import Config
from nets.data.load import DataSet, Images, fingerprint, load
from nets.data.select import select_classes, select_training
from nets.evaluation import file as evaluation_file
from nets.experiment.prepare import prepare
from nets.runs import folder as run_folder
from theory.domain import InvalidInput

NAMES = ("ape", "bat", "cat", "dog")


def some(counts, first=0):
    """Returns images in random order, each with its own number in its pixels."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    np.random.default_rng(first).shuffle(labels)
    numbers = np.arange(first, first + len(labels), dtype=">u4").view(np.uint8)
    return Images(numbers.reshape(-1, 1, 4, 1), labels)


@pytest.fixture(scope="module")
def animals():
    train, test = some((40, 50, 60, 30)), some((5, 6, 7, 8), first=1000)
    return DataSet("animals", train, test, NAMES, fingerprint(train, test))


@pytest.mark.parametrize("classes", [("dog", "bat"), (3, 1), ("dog", 1)])
def test_classes_are_those_of_the_set_in_the_order_given(animals, classes):
    found = select_classes(animals, classes)
    assert found.class_names == ("dog", "bat")
    for ours, theirs in ((found.train, animals.train), (found.test, animals.test)):
        for label, old in ((0, 3), (1, 1)):
            kept = theirs.images[theirs.labels == old]
            np.testing.assert_array_equal(ours.images[ours.labels == label], kept)
        assert len(ours.labels) == np.isin(theirs.labels, (1, 3)).sum()
    assert found.fingerprint == fingerprint(found.train, found.test) != animals.fingerprint
    assert select_classes(animals) is animals


def counts_of(images, **settings):
    part = select_training(images, NAMES, **settings)
    known = {image.tobytes(): label for image, label in zip(*images, strict=True)}
    assert all(known[image.tobytes()] == label for image, label in zip(*part, strict=True))
    assert len({image.tobytes() for image in part.images}) == len(part.labels)
    return np.bincount(part.labels).tolist()


def test_training_images_are_as_many_of_each_class_or_a_long_tail(animals):
    images = animals.train
    assert select_training(images, NAMES) is images
    assert counts_of(images, samples=7) == [7] * 4
    assert counts_of(images, imbalance=8.0) == [30, 15, 7, 3]
    assert counts_of(images, imbalance=8.0, samples=40) == [40, 20, 10, 5]
    assert counts_of(images, imbalance=4.0, samples=40, profile="step") == [40, 40, 10, 10]
    small, large = (select_training(images, NAMES, count) for count in (5, 9))
    assert {i.tobytes() for i in small.images} < {i.tobytes() for i in large.images}
    other = select_training(images, NAMES, 5, seed=1)
    assert other.images.tobytes() != small.images.tobytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("dgo", "cat")}, "did you mean dog"),
        ({"classes": (1, 4)}, "classes = 4: must be one of the 4"),
        ({"classes": (-1, 2)}, "classes = -1"),
        ({"classes": ("cat",)}, "at least two different"),
        ({"classes": ("cat", 2)}, "at least two different"),
        ({"imbalance": 0.5}, "imbalance = 0.5"),
        ({"imbalance": 31.0}, "at most 30"),
        ({"profile": "stairs"}, "step"),
        ({"training_samples": -1}, "training_samples = -1"),
        ({"training_samples": 41}, "41 images of class 'ape', and there are 40"),
        # What is held out is not there to train on.
        ({"training_samples": 27, "held_out": 4}, "27 images of class 'dog', and there are 26"),
    ],
)
def test_what_the_data_do_not_have_is_refused(animals, settings, message):
    wanted = Config.of(model="logistic", batch=4, attack_steps=1).replace(**settings)
    with pytest.raises(InvalidInput, match=message):
        prepare(wanted, animals)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("classes=[cat, dog]", "must be of type list of int or str"),
        ("classes=[1.5, 2]", "classes = "),
        ("imbalance=ten", "imbalance = 'ten'"),
    ],
)
def test_bad_words_are_refused(word, message):
    with pytest.raises(InvalidInput, match=message):
        recipes.read([word])


@pytest.mark.parametrize("fairness", ["class-balanced", "frl"])
def test_a_method_is_refused_what_it_needs(animals, fairness):
    train = animals.train
    without = Images(train.images[train.labels != 2], train.labels[train.labels != 2])
    wanted = Config.of(model="logistic", batch=4, fairness=fairness)
    lacking = animals._replace(train=without) if fairness == "class-balanced" else animals
    message = "none of 'cat'" if fairness == "class-balanced" else "must be held out"
    with pytest.raises(InvalidInput, match=message):
        prepare(wanted, lacking)


WORDS = (
    "mnist-5k-natural",
    "model=logistic",
    "options={}",
    'classes=["8", 3]',
    "training_samples=60",
    "imbalance=4",
    "epochs=20",
    "rate=0.1",
    "batch=25",
    "held_out=5",
    "radius=0.05",
    "samples=0",
    "protocol=quick",
)


@pytest.mark.slow
def test_training_and_evaluation_see_the_same_classes(tmp_path):
    out = tmp_path / "run"
    assert command.train(WORDS, out=out) == 0
    found = evaluation_file.load(out / f"{command.DEFAULT_NAME}.nc")
    digits = load()
    labels = digits.test.labels[np.isin(digits.test.labels, (3, 8))]
    assert found["class"].values.tolist() == ["8", "3"]
    np.testing.assert_array_equal(found["label"], labels == 3)
    assert (1 - found["errors"].sel(condition="clean") / found["trials"] > 0.75).all()
    settings = json.loads((out / run_folder.SETTINGS).read_text("utf-8"))
    whole = select_classes(digits, ("8", "3"))
    assert settings["classes"] == ["8", 3]
    assert settings["fingerprint"] == found.attrs["fingerprint"] == whole.fingerprint
    prepared = prepare(recipes.read(WORDS)[1], digits)
    training = prepared.training.images.train
    assert np.bincount(training.labels).tolist() == [60, 15]
    assert np.bincount(prepared.training.images.held_out.labels).tolist() == [5, 5]
    assert settings["training_fingerprint"] == fingerprint(training)
