"""The grid of trained models: its data, its axes, its result file and what it refuses."""

import resource
import signal

import jax
import numpy as np
import pytest
import xarray as xr

from sims.simulate import attack
from sims.stats.interval import clopper_pearson
from sims.training import data as training_data
from sims.training import file as training_file
from sims.training import run as training_run
from sims.training.data import LAWS, splits
from sims.training.grid import Grid, GridThreat, parse_threat, published, published_threats
from sims.training.setup import Settings
from theory import stable
from theory.domain import InvalidInput
from theory.problem import L1Ball, L2Ball, LinearClassifier, LinfBall

BALLS = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}
THREATS = tuple(map(parse_threat, ("natural", "l2=2.5", "linf=0.5", "l1=4")))
SMALL = Grid(
    "gaussian",
    ratios=(2.0, 10.0),
    seeds=(3, 8),
    rates=(0.05, 0.01, 0.001),
    threats=THREATS,
    mixups=(1.0, 0.6),
    minority_weights=(1.0, 4.0),
    epochs=4,
)


@pytest.fixture(scope="module")
def small():
    return training_run.train_grid(SMALL)


def test_the_published_grid_has_1120_models():
    for law in LAWS:
        assert published(law).shape == (4, 5, 8, 7, 1, 1)
    assert list(map(str, published_threats("gaussian"))) == [
        *("natural", "l2=5", "l2=3.75", "l2=2.5", "linf=1", "linf=0.75", "linf=0.5")
    ]


@pytest.mark.parametrize("law", LAWS)
def test_the_data_are_of_the_law_and_the_sets_independent(law):
    data = splits(law, (1.0, 3.0), 5)
    balanced, three = data[1.0], data[3.0]
    assert [len(points.y) for points in three] == [1333, 1333, 1333, 2000]
    np.testing.assert_array_equal(three.train.x, balanced.train.x[:1333])
    np.testing.assert_array_equal(three.balanced.x, balanced.test.x)
    pairs = [np.ascontiguousarray(points.x[:, :2]).view(np.complex64) for points in balanced[:3]]
    assert np.unique(np.concatenate(pairs)).size == 6000
    # How often the noise exceeds its scale: exact intervals, false alarm 1e-7 for each of 12; a
    # scale off by 4 % would be seen.
    mean = np.where(np.arange(100) < 25, LAWS[law].l2[0] / 5, 0)
    for points in balanced:
        noise = (points.x - points.y[:, None] * mean) / LAWS[law].scale
        if law == "gaussian":
            noise = noise * np.sqrt(2)  # alpha = 2 is N(0, 2)
        count = np.sum(np.abs(noise) > 1)
        chance = 2 * float(stable.sf(1.0, LAWS[law].alpha))
        bounds = clopper_pearson(count, noise.size, 1e-7)
        assert bounds.low < chance < bounds.high
        wrong = 2 * float(stable.sf(1.04, LAWS[law].alpha))
        assert not bounds.low < wrong < bounds.high


def test_a_model_is_where_its_coordinates_say(small):
    for place in ((0, 1, 2, 3, 1, 0), (1, 0, 0, 1, 0, 1)):
        values = zip(
            (SMALL.ratios, SMALL.seeds, SMALL.rates, THREATS, SMALL.mixups, SMALL.minority_weights),
            place,
            strict=True,
        )
        one = Grid("gaussian", *((axis[k],) for axis, k in values))._replace(epochs=SMALL.epochs)
        alone = training_run.train_grid(one)
        there = small.isel(dict(zip(training_run.AXES, place, strict=True)))
        for name in ("validation_loss", "best_epoch", "epochs", "errors", "robust_errors"):
            expected = there[name].values
            if SMALL.mixups[place[4]] == 1 and name == "validation_loss":
                # Without mixup another executable, which rounds on its own.
                np.testing.assert_allclose(alone[name].values.squeeze(), expected, rtol=1e-4)
            elif SMALL.mixups[place[4]] != 1:
                np.testing.assert_array_equal(alone[name].values.squeeze(), expected)


def test_errors_are_those_of_explicitly_perturbed_points(small):
    data = splits("gaussian", SMALL.ratios, SMALL.data_seed)
    for place in ((0, 0, 0, 0, 0, 0), (0, 1, 0, 1, 1, 0), (1, 0, 1, 2, 0, 1), (1, 1, 0, 3, 0, 0)):
        model = small.isel(dict(zip(training_run.AXES, place, strict=True)))
        split = data[float(model["imbalance_ratio"])]
        rule = LinearClassifier(model["weight"].values, model["bias"].values)
        threat = BALLS[str(model["norm"].values)](np.float32(model["radius"]))
        cases = (
            ("errors", split.balanced, None),
            ("robust_errors", split.balanced, threat),
            ("imbalanced_errors", split.test, None),
        )
        for name, points, used in cases:
            x, y = jax.numpy.asarray(points.x), jax.numpy.asarray(points.y)
            wrong = attack.errs(attack.score(rule, attack.perturb(used, rule, x, y)), y)
            counts = [int(np.sum(np.asarray(wrong)[points.y == label])) for label in (-1, 1)]
            assert model[name].values.tolist() == counts
    robust = small.sel(threat=[str(t) for t in THREATS[1:]])
    assert (robust["robust_errors"] >= robust["errors"]).all()


def test_the_rate_of_least_validation_loss_is_chosen(small):
    best = training_run.best_rates(small)
    assert (best["validation_loss"] == small["validation_loss"].min("rate")).all()
    assert set(np.unique(best["rate"])) <= set(SMALL.rates)


def test_mixup_and_weights_reach_the_models(small):
    """More weight to the minority errs less on it."""
    minority = training_run.best_rates(small)["errors"].sel(label="positive", imbalance_ratio=10)
    by_weight = minority.sum(["seed", "threat", "mixup"])
    assert by_weight.sel(minority_weight=4) < by_weight.sel(minority_weight=1)
    weights = small["weight"].sel(mixup=1.0) - small["weight"].sel(mixup=0.6)
    assert float(abs(weights).min(["feature"]).max()) > 0


TINY = SMALL._replace(seeds=(3,), ratios=(10.0,), rates=(0.01,), mixups=(1.0,), epochs=2)


@pytest.fixture(scope="module")
def tiny():
    return training_run.train_grid(TINY)


@pytest.fixture
def file(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training_file, "train_grid", lambda *_: tiny)
    path = tmp_path / "grid.nc"
    training_file.run_grid(TINY, path)
    monkeypatch.setattr(training_file, "train_grid", None)
    return path


def test_the_file_holds_the_grid_and_is_not_made_twice(file, tiny):
    again = training_file.run_grid(TINY, file)
    xr.testing.assert_identical(again, tiny)
    assert again.attrs["law"] == "gaussian"
    assumed = [again.attrs[f"assumption_{i + 1}"] for i in range(len(training_data.ASSUMPTIONS))]
    assert tuple(assumed) == training_data.ASSUMPTIONS
    assert file.stat().st_size < training_file.size_of(TINY)
    assert "R = 10" in training_file.summary(again)
    assert "minority weight 4" in training_file.summary(again)


OTHERS = {
    "law": TINY._replace(law="cauchy"),
    "data_seed": TINY._replace(data_seed=1),
    "attack": TINY._replace(settings=Settings(attack="one-step")),
    "gradient": TINY._replace(settings=Settings(gradient="mixed")),
    "epochs": TINY._replace(epochs=3),
    "grid of radius": TINY._replace(threats=(*TINY.threats[:-1], GridThreat("l1", 5.0))),
    "grid of rate": TINY._replace(rates=(0.02,)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_other_settings_is_refused_and_left_alone(name, file):
    before = file.read_bytes()
    with pytest.raises(InvalidInput, match=f"belongs to another sweep .*{name[:4]}"):
        training_file.run_grid(OTHERS[name], file)
    assert file.read_bytes() == before


def test_a_truncated_file_is_refused_and_left_alone(file):
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InvalidInput, match="not a readable file"):
        training_file.run_grid(TINY, file)
    assert file.stat().st_size == 2000


def test_a_folder_that_cannot_hold_the_file_stops_the_run_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(training_file, "train_grid", None)
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InvalidInput, match="must be a folder that can be written to"):
        training_file.run_grid(TINY, tmp_path / "taken" / "grid.nc")
    # A limit on the size of files stands for a full disk.
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    try:
        with pytest.raises(InvalidInput, match="must be a folder that can be written to"):
            training_file.run_grid(TINY, tmp_path / "grid.nc")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


BAD = [
    (TINY._replace(law="gausian"), "law = 'gausian': unknown; did you mean gaussian"),
    (
        TINY._replace(threats=(GridThreat("l2", -1.0),)),
        "radius = -1: the perturbation radius must lie",
    ),
    (TINY._replace(threats=(GridThreat("l7", 1.0),)), "threat = 'l7': must be one of l1, l2, linf"),
    (TINY._replace(settings=Settings(batch=1101)), "batch = 1101: .* smallest training set, 1100"),
    (TINY._replace(settings=Settings(attack="pgd")), "attack = 'pgd': must be worst-case or"),
    (TINY._replace(ratios=(0.5,)), "ratio = 0.5: the majority over the minority must lie in"),
    (TINY._replace(ratios=()), "imbalance_ratio = \\(\\): must be at least one value"),
    (TINY._replace(rates=(0.1, 0.1)), "rate = .*: must be at least one value, none twice"),
    (TINY._replace(rates=(-0.1,)), "rate = -0.1: the learning rate must lie in"),
    (TINY._replace(mixups=(1.5,)), "mixup = 1.5: the mixing coefficient must lie in"),
    (TINY._replace(minority_weights=(-1.0,)), "minority_weight = -1: the weight"),
    (TINY._replace(seeds=(-1,)), "seed = -1: must lie in"),
    (TINY._replace(epochs=0), "epochs = 0: must be at least 1"),
    (TINY._replace(threats=(GridThreat("l2", 1e38),)), "radius = 1e.38: must be .* float32"),
    (TINY._replace(threats=(GridThreat("linf", 1e-300),)), "radius = 1e-300: must be .* float32"),
    (TINY._replace(rates=(1e30,)), "rate = 1e.30: must be .* float32"),
    (TINY._replace(minority_weights=(1e30,)), "minority_weight = 1e.30: must be .* float32"),
]


@pytest.mark.parametrize(("grid", "message"), BAD)
def test_bad_input_is_refused_before_anything_is_made(grid, message, tmp_path, monkeypatch):
    monkeypatch.setattr(training_data, "_draw", None)
    monkeypatch.setattr(training_run, "train", None)
    with pytest.raises(InvalidInput, match=message):
        training_run.train_grid(grid)
    with pytest.raises(InvalidInput, match=message):
        training_file.run_grid(grid, tmp_path / "new" / "grid.nc")
    assert not list(tmp_path.iterdir())


def test_a_threat_is_written_as_norm_and_radius():
    assert parse_threat("linf=0.5") == GridThreat("linf", 0.5)
    with pytest.raises(InvalidInput, match="threat = 'l2': must look like"):
        parse_threat("l2")
