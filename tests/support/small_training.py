"""A training of seconds in which everything has a state: for what goes on and what agrees."""

from nets.configs.settings import Config
from nets.data.load import DataSet, Images, load
from nets.data.subsets import hold_out

# A network with batch statistics, a method with a state, an average, crops, flips and mixup.
CONFIG = Config.of(
    model="preact-resnet-18",
    options={"stem": 4, "widths": [4], "blocks": 1},
    objective="pgd",
    attack_steps=1,
    radius=0.1,
    fairness="dafa",
    fairness_options={"warm_up": 1},
    held_out=2,
    epochs=4,
    batch=60,
    ema=0.9,
    crop=2,
    flip=True,
    mix=0.8,
    rate=0.05,
)


def digits():
    """Returns 200 real digits at a third of their resolution, to train and to test on."""
    found = load()
    _, part = hold_out(found.train, 20, 1)
    part = Images(part.images[:, ::3, ::3], part.labels)
    return DataSet("digits", part, part, found.class_names, found.fingerprint)
