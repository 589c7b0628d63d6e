"""The recipes that come with the package: each becomes a plan, with the attack its paper has."""

import numpy as np
import pytest

from nets.configs import recipes
from nets.data.load import DEFAULT, DataSet, Images, fingerprint
from nets.data.sources import DIGITS, SOURCES
from nets.experiment.prepare import description, prepare
from nets.runs import folder as run_folder

# Small networks: what is tested is the recipe, and initialising a large one takes seconds.
RESNET = {"stem": 4, "widths": [4], "blocks": 1}
SMALL = {
    "preact-resnet-18": RESNET,
    "resnet-18": {"widths": [4], "blocks": 1},
    "small-cnn": {"hidden": [8]},
}
PER_CLASS = 400
# Steps of the attack in training, in 1/255 or, of radius .031, as they are written.
STEPS = {"8/255": 2 / 255, "0.031": 0.007, "0.2": 0.1, "0.1": 0.05, "0.3": 0.075}


def synthetic(name):
    source = None if name == DEFAULT else SOURCES[name]
    shape, names = (source.shape, source.class_names) if source else ((28, 28, 1), DIGITS)
    labels = np.tile(np.arange(len(names), dtype=np.int32), PER_CLASS)
    train = Images(np.zeros((len(labels), *shape), np.uint8), labels)
    test = Images(train.images[: len(names)], labels[: len(names)])
    return DataSet(name, train, test, names, fingerprint(test))


@pytest.fixture(scope="module")
def sets():
    return {name: synthetic(name) for name in (DEFAULT, "mnist", "fashion-mnist", "cifar-10")}


def small(name, **changes):
    found = recipes.read([name])[1]
    fewer = min(found.data.training_samples, PER_CLASS // 2)
    options = found.network.options | SMALL[found.network.model]
    return found.replace(options=options, training_samples=fewer, **changes)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_becomes_a_plan(name, sets, tmp_path):
    wanted = small(name, start="")
    prepared = prepare(wanted, sets[wanted.data.name])
    if recipes.read([name])[1].optimisation.start:
        settings = description(prepared)
        run_folder.save(tmp_path, run_folder.Run(settings, prepared.network, prepared.fresh.chosen))
        again = small(name, start=str(tmp_path), seed=wanted.optimisation.seed)
        begun = prepare(again, sets[wanted.data.name])
        assert run_folder.checksum(begun.fresh.chosen) == run_folder.checksum(prepared.fresh.chosen)
    training = prepared.training
    images = training.images.train.labels
    if wanted.data.imbalance == 1:
        per_class = wanted.data.training_samples or PER_CLASS - wanted.data.held_out
        assert len(images) == 10 * per_class
    else:
        assert np.bincount(images).tolist()[::9] == [300, 6]
    inner = training.spec.inner
    if inner is None:
        return
    (move,) = inner.moves
    radius = wanted.objective.radius
    step = STEPS[{8 / 255: "8/255"}.get(radius, f"{radius:g}")]
    if wanted.objective.name == "fgsm-rs":
        step = 10 / 255
    assert radius * move.step == pytest.approx(step, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        # The first epochs, from 1, of a lower rate, as their codes count them.
        ("cifar10-prn18-pgd", (101, 151)),
        ("cifar10-prn18-cfa", (101, 151)),
        ("cifar10-prn18-trades", (75,)),
        ("cifar10-rn18-dafa", (100, 105)),
        ("cifar10-prn18-wat", (75, 90, 100)),
        ("cifar10-prn18-mart", (75, 90, 100)),
        ("cifar10-prn18-faal", (2,)),
    ],
)
def test_rates_fall_at_the_epochs_of_the_paper(name, epochs):
    found = recipes.read([name])[1]
    optimisation = found.optimisation
    assert optimisation.schedule == "piecewise"
    assert tuple(milestone + 1 for milestone in optimisation.milestones) == epochs
    assert max(epochs) <= optimisation.epochs
