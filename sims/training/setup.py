"""What is trained: data, models that share them, and settings that all models share."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from theory.domain import NON_NEGATIVE, POSITIVE, UNIT_INTERVAL, InvalidInput, require_inside

# On the host of numpy, inside the executable of JAX.
Array = Any


class Settings(NamedTuple):
    """What all models of a run share; static, so another value is another executable.

    Args:
        loss: "logistic", with labels -1 and +1, or "squared", with real targets.
        optimiser: "adam" (0.9, 0.999, 1e-8) or "sgd".
        attack: "worst-case", or "one-step": the gradient step of advertorch, which moves a point
            by radius * gradient / max(|gradient|, 1e-6) under l_2 and not at all where the slope
            of its loss underflows; the gradient is that of the batch's mean loss.
        gradient: "adversarial", or "mixed": clean plus adversarial, as in a loop that sets the
            gradients to zero before the attack, whose own backward pass then adds to them.
        validation: the loss that stops a lane and chooses its rule: "natural", or "robust", under
            the worst case of the lane's own attack.
        mixup: whether any lane mixes points, which takes two more matrix products a step.
        batch: points in a batch; the last of an epoch is what is left.
        patience: epochs without a better validation loss after which a lane stops.
    """

    loss: Literal["logistic", "squared"] = "logistic"
    optimiser: Literal["adam", "sgd"] = "adam"
    attack: Literal["worst-case", "one-step"] = "worst-case"
    gradient: Literal["adversarial", "mixed"] = "adversarial"
    validation: Literal["natural", "robust"] = "natural"
    mixup: bool = False
    batch: int = 64
    patience: int = 50


class Lanes(NamedTuple):
    """What may differ from model to model, each (lanes,).

    Args:
        rate: learning rate of the weight and the bias, > 0.
        radius: of the attack, >= 0; zero is natural training.
        order: p of the l_p ball: 1, 2 or infinity.
        mixup: coefficient lambda in [0, 1] of lambda x + (1 - lambda) x', x' of the same class;
            1 mixes nothing.
        negative, positive: weights of the two classes in the mean loss of a batch, >= 0.
    """

    rate: Array
    radius: Array
    order: Array
    mixup: Array
    negative: Array
    positive: Array


class Rule(NamedTuple):
    """The models of a block: weight (d, lanes) and bias (lanes,)."""

    weight: Array
    bias: Array


class Points(NamedTuple):
    """A data set on the host: x (n, d) and y (n,), labels -1 and +1 or real targets."""

    x: np.ndarray
    y: np.ndarray


class Group(NamedTuple):
    """Models that share their data, their first weights and their batches.

    Args:
        train, validation: the data.
        seed: of the shuffles and the same-class partners.
        lanes: what differs, each field (models,).
        start: weights (d, models) and biases (models,) to begin with.
    """

    train: Points
    validation: Points
    seed: int
    lanes: Lanes
    start: Rule


_CHOICES = {
    "loss": ("logistic", "squared"),
    "optimiser": ("adam", "sgd"),
    "attack": ("worst-case", "one-step"),
    "gradient": ("adversarial", "mixed"),
    "validation": ("natural", "robust"),
}


def require_settings(settings: Settings, epochs: int) -> None:
    """Raises InvalidInput, naming what is wrong, unless these settings mean something."""
    for name, allowed in _CHOICES.items():
        if (value := getattr(settings, name)) not in allowed:
            raise InvalidInput(f"{name} = {value!r}: must be {' or '.join(allowed)}")
    if epochs < 1:
        raise InvalidInput(f"epochs = {epochs}: must be at least 1")
    if settings.patience < 1:
        raise InvalidInput(f"patience = {settings.patience}: must be at least 1 epoch")


def require_batch(batch: int, points: int) -> None:
    """Raises InvalidInput unless a batch is no larger than the smallest training set."""
    if not 1 <= batch <= points:
        raise InvalidInput(
            f"batch = {batch}: must lie between 1 and the size of the smallest training set, "
            f"{points}"
        )


def require_valid(groups: Sequence[Group], settings: Settings, epochs: int) -> None:
    """Raises InvalidInput, naming what is wrong, unless these groups can be trained."""
    require_settings(settings, epochs)
    if not groups:
        raise InvalidInput("groups: must be at least one")
    require_batch(settings.batch, min(len(group.train.y) for group in groups))
    for group in groups:
        _require_data(group, settings, groups[0].train.x.shape[-1])
        _require_lanes(group.lanes, settings)


def _require_data(group: Group, settings: Settings, dimension: int) -> None:
    for name, points in (("train", group.train), ("validation", group.validation)):
        if points.x.shape != (len(points.y), dimension):
            shapes = f"{points.x.shape} beside y {points.y.shape}"
            raise InvalidInput(f"{name}: x must be (n, {dimension}) and y (n,), not {shapes}")
        if not (np.isfinite(points.x).all() and np.isfinite(points.y).all()):
            raise InvalidInput(f"{name}: every coordinate and label must be a finite number")
        if settings.loss == "logistic" and not np.isin(points.y, (-1, 1)).all():
            raise InvalidInput(f"{name}: labels of the logistic loss must be -1 or +1")
        if not len(points.y):
            raise InvalidInput(f"{name}: must hold at least one point")
    models = len(group.lanes.rate)
    start = tuple(np.shape(leaf) for leaf in group.start)
    if start != ((dimension, models), (models,)):
        raise InvalidInput(
            f"start: must be weights ({dimension}, {models}) and biases ({models},), not {start}"
        )


def _require_lanes(lanes: Lanes, settings: Settings) -> None:
    if len({np.shape(field) for field in lanes}) > 1 or np.ndim(lanes.rate) != 1:
        raise InvalidInput("lanes: every field must have the shape (models,)")
    require_inside("rate", np.asarray(lanes.rate), POSITIVE, "the learning rate")
    require_inside("radius", np.asarray(lanes.radius), NON_NEGATIVE, "the perturbation radius")
    require_inside("mixup", np.asarray(lanes.mixup), UNIT_INTERVAL, "the mixing coefficient")
    for name in ("negative", "positive"):
        require_inside(name, np.asarray(getattr(lanes, name)), NON_NEGATIVE, "the class weight")
    if not np.isin(lanes.order, (1, 2, np.inf)).all():
        raise InvalidInput(f"order = {lanes.order}: the norm of an attack must be 1, 2 or inf")
    mixes = np.any(np.asarray(lanes.mixup) != 1)
    # Without the setting no mixing is compiled, and the coefficient would do nothing.
    if mixes and not settings.mixup:
        raise InvalidInput("mixup: a coefficient other than 1 needs settings with mixup = True")
    weighted = any(np.any(np.asarray(field) != 1) for field in lanes[-2:])
    if settings.loss == "squared" and (mixes or weighted):
        raise InvalidInput("mixup, negative, positive: must be 1 for the squared loss, no classes")
