"""Training of a whole grid, and the errors of its models on regenerated test sets.

A model is its rule at the epoch of least validation loss, and among the rates the one of
least validation loss is meant (`best_rates`), as in the published analysis.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import xarray as xr

from sims.training import data as training_data
from sims.training.grid import AXES, ORDERS, Grid, coordinates, identity, record, require_grid
from sims.training.loop import Progress, Trained, train
from sims.training.setup import Group, Lanes, Points, Rule, Settings

# Two logits are trained as their difference, which moves at twice the rate.
LOGITS = 2


def _settings(grid: Grid) -> Settings:
    return grid.settings._replace(mixup=any(c != 1 for c in grid.mixups))


def _group(grid: Grid, seed: int, split: training_data.Split) -> Group:
    """Returns the models of one seed and ratio, which share data, first weights and batches."""
    models = itertools.product(grid.rates, grid.threats, grid.mixups, grid.minority_weights)
    rates, threats, mixups, weights = zip(*models, strict=True)
    # In the order of `AXES` after ratio and seed, which `_stacked` relies on.
    lanes = Lanes(
        rate=LOGITS * np.array(rates),
        radius=np.array([threat.radius for threat in threats]),
        order=np.array([ORDERS[threat.norm] for threat in threats]),
        mixup=np.array(mixups),
        negative=np.ones(len(rates)),
        positive=np.array(weights),
    )
    start = first_weights(seed, training_data.DIMENSION)
    every = Rule(*(np.repeat(part[..., None], len(rates), axis=-1) for part in start))
    return Group(split.train, split.validation, seed, lanes, every)


def first_weights(seed: int, dimension: int) -> Rule:
    """Returns the difference of two logits, each uniform in +-1/sqrt(dimension)."""
    # Of seed and dimension alone, so that all ratios and threats of a seed begin alike.
    rng = np.random.default_rng((seed, dimension))
    bound = 1 / np.sqrt(dimension)
    logits = rng.uniform(-bound, bound, (LOGITS, dimension + 1))
    difference = logits[1] - logits[0]
    return Rule(difference[:-1], difference[-1])


def train_grid(grid: Grid, progress: Progress | None = None) -> xr.Dataset:
    """Returns the trained models of a grid and their errors on regenerated test sets.

    Args:
        grid: what to train.
        progress: called with the share of epochs done, in [0, 1].

    Returns:
        over `AXES`: `weight` (with `feature`) and `bias`, `validation_loss`, `best_epoch`,
        `epochs`; and with `label`, as counts, `errors` and `robust_errors` on the balanced test
        set, without attack and under the worst attack of the model's own threat, and
        `imbalanced_errors` on the test set of its own ratio. `trials` (label) and
        `imbalanced_trials` (imbalance_ratio, label) are the sizes of the two sets.

    Raises:
        InvalidInput: for a bad grid, before any computation.
    """
    require_grid(grid)
    data = training_data.splits(grid.law, grid.ratios, grid.data_seed)
    pairs = list(itertools.product(grid.ratios, grid.seeds))
    groups = [_group(grid, seed, data[r]) for r, seed in pairs]
    trained = train(groups, _settings(grid), epochs=grid.epochs, progress=progress)
    errors = [
        _errors(data[r], group, models)
        for (r, _), group, models in zip(pairs, groups, trained, strict=True)
    ]
    return _dataset(grid, data, _stacked(grid, trained), _stacked(grid, errors))


def _stacked(grid: Grid, parts: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Returns each field of the groups over the axes of the grid."""
    fields = (np.stack(field) for field in zip(*parts, strict=True))
    return [field.reshape(*grid.shape, *field.shape[2:]) for field in fields]


def _errors(
    split: training_data.Split, group: Group, trained: Trained
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns errors, robust errors and errors on the imbalanced set, (models, label) each."""
    lanes, weight = group.lanes, trained.weight
    # A margin falls by the radius times the dual norm of the weight: that of l_1 is l_inf.
    duals = [np.linalg.norm(weight, order, axis=1) for order in (np.inf, 2, 1)]
    dual = np.select([lanes.order == 1, lanes.order == 2], duals[:2], duals[2])
    reach = lanes.radius * dual
    return (
        count_errors(split.balanced, trained, 0 * reach),
        count_errors(split.balanced, trained, reach),
        count_errors(split.test, trained, 0 * reach),
    )


def count_errors(points: Points, trained: Trained, reach: np.ndarray) -> np.ndarray:
    """Returns how many points of each class err once every margin falls by `reach`, (models, 2).

    A margin of exactly zero is an error.

    Args:
        points: x (n, d) and y (n,).
        trained: the models.
        reach: by how much the attack lowers the margins of a model, >= 0, (models,).
    """
    scores = points.x @ trained.weight.T + trained.bias
    wrong = points.y[:, None] * scores <= reach
    return np.stack([wrong[points.y == label].sum(0) for label in (-1, 1)], -1)


def _dataset(
    grid: Grid,
    data: dict[float, training_data.Split],
    trained: list[np.ndarray],
    errors: list[np.ndarray],
) -> xr.Dataset:
    weight, bias, loss, best_epoch, epochs = trained
    natural, robust, imbalanced = errors
    sizes = [[int((data[r].test.y == label).sum()) for label in (-1, 1)] for r in grid.ratios]
    dataset = xr.Dataset(
        {
            "weight": ((*AXES, "feature"), weight, {"long_name": "difference of the two logits"}),
            "bias": (AXES, bias),
            "validation_loss": (AXES, loss, {"long_name": "least validation loss"}),
            "best_epoch": (AXES, best_epoch, {"long_name": "epoch of that loss, from 0"}),
            "epochs": (AXES, epochs, {"long_name": "epochs run before the stop"}),
            "errors": ((*AXES, "label"), natural, {"long_name": "errors, balanced test set"}),
            "robust_errors": ((*AXES, "label"), robust, {"long_name": "under the own threat"}),
            "imbalanced_errors": ((*AXES, "label"), imbalanced),
            "trials": ("label", [training_data.MAJORITY] * 2),
            "imbalanced_trials": (("imbalance_ratio", "label"), sizes),
        },
        coords=coordinates(grid),
    )
    return dataset.assign_attrs(identity(grid) | record())


def best_rates(dataset: xr.Dataset) -> xr.Dataset:
    """Returns the models of least validation loss over the rates."""
    return dataset.isel(rate=dataset["validation_loss"].argmin("rate"))
