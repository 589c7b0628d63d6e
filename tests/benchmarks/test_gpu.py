"""The GPU benchmark at its smallest: all fields, honest clocks, right counts, no wrong kernel."""

import functools
import json
import pathlib
import sys
from typing import Any, cast

import jax
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks.gpu_phases import baseline as gpu_baseline
from benchmarks.gpu_phases import fairness, judge
from benchmarks.gpu_phases import setup as gpu_setup
from benchmarks.gpu_phases import speed as gpu_speed
from benchmarks.gpu_phases.clock import Clock, EpochGuard, OutOfTime, Record
from nets.evaluation import file as evaluation_file
from nets.experiment.prepare import prepare
from nets.models import registry as models
from nets.runs import folder as run_folder
from sims.stats.interval import Bounds

TINY = gpu_setup.SMALL._replace(
    options={"stem": 2, "widths": [2], "blocks": 1},
    small={"stages": [[2]], "hidden": []},
    checks=(2, 8, 8, 3),
    matmul=32,
    batches=(20,),
    steps=1,
    speed=1e6,
    images=40,
    judged=20,
    part=10,
    block=10,
    attack_steps=(2, 3),
    reserve=0.0,
    compilation=0.0,
)


class Remembering:
    """A side that computes everything once, and gives it again, changed if so told."""

    known: dict = {}  # noqa: RUF012

    def __init__(self, change=lambda name, found: found):
        self.change = change

    def __call__(self, function, *arguments):
        name = repr(function)
        if name not in self.known:
            cpu = functools.partial(jax.jit, compiler_options=QUICK)
            self.known[name] = jax.device_get(cpu(function)(*arguments))
        return self.change(name, self.known[name])


QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="module")
def quickly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nets.compute.compiler.options", lambda: QUICK)
        # What is trained is linear, which compiles at once.
        linear = gpu_setup.settings(TINY, 0).replace(model="logistic", options={})
        for module in (gpu_baseline, fairness):
            patch.setattr(module, "settings", lambda sizes, seed: linear)
        yield


@pytest.fixture(scope="module")
def baseline(quickly, tmp_path_factory):
    out, work = (tmp_path_factory.mktemp(name) for name in ("out", "work"))
    data = gpu_setup.synthetic(TINY.images, TINY.judged, 8)
    begun = gpu_baseline.start(TINY, data, out, work, Clock(1e6), device=Remembering())
    begun = begun._replace(cpu=Remembering())
    return begun, gpu_baseline.measure(begun)


@pytest.mark.slow
def test_the_record_has_every_field(baseline):
    begun, status = baseline
    assert status == 0
    found = json.loads((begun.out / "baseline.json").read_text("utf-8"))
    assert found["complete"]
    assert found["shortened"] == []
    assert all(found[name] is not None for name in gpu_baseline.FIELDS)
    assert list(found["phases"]) == ["correctness", "speed", "training", "evaluation", "torch"]
    assert all(phase["seconds"] >= 0 for phase in found["phases"].values())
    assert {"device", "versions"} <= found["machine"].keys()
    assert [row["batch"] for row in found["speed"]["table"]] == [20]
    for row in found["speed"]["table"]:
        assert 0 < row["mfu_nominal"] < row["mfu_measured"]
        assert row["step_flop"] == 23 * row["batch"] * found["speed"]["forward_flop"]
    training = found["training"]
    assert training["finished"]
    assert training["epochs_done"] == len(training["epochs"]) == len(training["epoch_seconds"]) == 2
    assert all(np.isfinite(epoch["loss"]) for epoch in training["epochs"])
    for name, attacks in (("pgd", 2), ("evaluation", 3)):
        entry, dataset = found["evaluation"][name], evaluation_file.load(begun.out / f"{name}.nc")
        assert entry["images"] == 20
        assert len(entry["robust"]["classes"]) == 10
        assert dataset["correct"].shape == (attacks, 20)
        assert entry["robust"]["average"] == float(dataset["correct"][-1].mean())
    assert "skipped" in found["torch"]
    assert [row["met"] for row in found["bars"]].count(None) == 1


def test_a_rerun_takes_the_finished_network(baseline):
    begun, _ = baseline
    (folder,) = (path for path in begun.work.iterdir() if path.is_dir())
    entry, before = {}, (folder / run_folder.SETTINGS).stat().st_mtime_ns
    run = gpu_baseline.trained(begun, entry, 20, None)
    assert entry["finished"]
    assert run.settings["epoch"] == 2
    assert (folder / run_folder.SETTINGS).stat().st_mtime_ns == before


def test_parts_are_the_whole(baseline, tmp_path):
    begun, _ = baseline
    run = run_folder.load(next(path for path in begun.work.iterdir() if path.is_dir()))
    methods, _ = gpu_baseline.attacks(TINY, threat := gpu_baseline.threats.threat_of("linf", 0.01))
    make = functools.partial(
        judge.JudgedParts,
        run=run,
        data=begun.data,
        methods=methods,
        threat=threat,
        seed=0,
        block=10,
    )
    whole, halves = make(tmp_path / "whole.npz"), make(tmp_path / "halves.npz")
    whole.go_on(20, Clock(1e6))
    halves.go_on(10, Clock(1e6))
    again = make(tmp_path / "halves.npz")
    assert again.count == 10
    again.go_on(30, Clock(1e6))
    assert again.count == 20
    one, two = (part.dataset(0.05) for part in (whole, again))
    np.testing.assert_array_equal(one["correct"], two["correct"])
    np.testing.assert_array_equal(one["confusion"], two["confusion"])
    other = make(tmp_path / "halves.npz", seed=1)
    assert other.count == 0


@pytest.mark.parametrize(
    ("planted", "broken"),
    [("_slopes", "logits float32"), ("_ours", "conv forward"), ("_apgd", "Auto-PGD flags")],
)
def test_a_wrong_kernel_fails_the_correctness(baseline, planted, broken):
    begun, _ = baseline

    def change(name, found):
        if planted not in name:
            return found
        if planted == "_apgd":
            return found[0], ~found[1], found[2]
        return jax.tree.map(lambda leaf: leaf * np.float32(1.01), found)

    wrong, entry = begun._replace(device=Remembering(change)), {}
    with pytest.raises(AssertionError, match=broken):
        gpu_baseline.check(wrong, entry)
    assert not all(one["held"] for one in entry["checks"])
    status, right = 0, {}
    gpu_baseline.check(begun, right)
    assert all(one["held"] for one in right["checks"]), status


def test_a_phase_that_fails_is_recorded_and_told(tmp_path, capsys):
    record = Record([tmp_path / "r.json"], Clock(10.0), "test", ("one",))
    with gpu_baseline._phase(record, "one") as entry:
        entry["kept"] = (np.float32(1), np.nan, {"at": np.arange(2)})
        raise RuntimeError("no memory")
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert found["one"] == {"kept": [1.0, None, {"at": [0, 1]}], "error": "RuntimeError: no memory"}
    assert not found["complete"]
    assert "FAILED: RuntimeError: no memory" in capsys.readouterr().out


class Ticking:
    """A clock that tells what it is set to."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def drive(guard, ticking, epochs, steps, seconds):
    """Calls the guard as a training does, epoch by epoch; returns how many were begun and ended."""
    for epoch in range(epochs):
        for step in range(1, steps + 1):
            guard((epoch + step / steps) / epochs)
        ticking.time += seconds
    guard(1.0)


@pytest.mark.parametrize("steps", [1, 7])
def test_the_guard_stops_before_an_epoch_that_does_not_fit(steps):
    ticking = Ticking()
    guard = EpochGuard(Clock(100.0, ticking), 30, reserve=20.0)
    with pytest.raises(OutOfTime, match=r"before epoch 9 of 30: an epoch takes 9.0 s, 28 s"):
        drive(guard, ticking, 30, steps, 9.0)
    # Eight epochs of nine seconds leave 28; another would leave 19.
    assert guard.seconds == [9.0] * 8
    ticking = Ticking()
    guard = EpochGuard(Clock(100.0, ticking), 8, reserve=20.0)
    drive(guard, ticking, 8, steps, 9.0)
    assert guard.seconds == [9.0] * 8
    with pytest.raises(OutOfTime):
        EpochGuard(Clock(10.0, ticking), 8, reserve=5.0, first=6.0)(1 / 8 / steps)


def test_what_is_planned_fits():
    assert gpu_baseline.planned_epochs(30, 6.0, 1e6) == 30
    assert gpu_baseline.planned_epochs(30, 6.0, 100.0) == 11  # of 8.6 s each
    assert gpu_baseline.planned_epochs(30, 6.0, -5.0) == 0
    rows = [
        {"batch": b, "images_a_second": v} for b, v in ((256, 96.0), (512, 100.0), (1024, 200.0))
    ]
    assert gpu_baseline.training_batch(rows, 64) == 256
    assert (
        gpu_baseline.training_batch([{"batch": 256, "images_a_second": 90.0}, *rows[1:]], 64) == 512
    )
    assert gpu_baseline.training_batch([], 64) == 64


class Slow:
    """Parts that take a second an image."""

    def __init__(self, ticking):
        self.count, self.longest, self.ticking = 0, 0.0, ticking

    def go_on(self, count, clock):
        self.count, self.longest = self.count + count, float(count)
        self.ticking.time += count


def test_an_evaluation_stops_in_time():
    ticking = Ticking()
    both = [Slow(ticking), Slow(ticking)]
    # 100 s less 10: three parts of 20 leave 30, and a fourth might take 23.
    assert not judge.advance(both, 100, 20, Clock(100.0, ticking), 10.0)
    assert [part.count for part in both] == [40, 40]
    assert judge.advance([Slow(ticking)], 30, 20, Clock(100.0, ticking), 10.0)


def by_hand(stem, widths, blocks, side=32, classes=10):
    """Twice the multiply-adds of a pre-activation network, from its description alone."""
    total, channels = side**2 * stem * 27, stem
    for stage, width in enumerate(widths):
        for block in range(blocks):
            if stage and not block:
                side //= 2
            if block == 0 and (stage or width != channels):
                total += side**2 * channels * width
            total += side**2 * width * 9 * (channels + width)
            channels = width
    return 2 * (total + channels * classes)


def test_operations_are_those_counted_by_hand():
    for options in ({}, {"stem": 4, "widths": (4, 6), "blocks": 3}):
        module = models.build("preact-resnet-18", 10, **options)
        image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
        variables = jax.eval_shape(module.init, jax.random.key(0), image)
        wanted = by_hand(*(getattr(module, name) for name in ("stem", "widths", "blocks")))
        assert gpu_speed.forward_flop(module.apply, variables, image) == wanted
    assert by_hand(64, (64, 128, 256, 512), 2) == 1_110_845_440
    with pytest.raises(ValueError, match="scan"):
        gpu_speed.forward_flop(lambda x: jax.lax.fori_loop(0, 9, lambda i, v: v @ v, x), np.eye(2))


def test_the_attack_takes_no_gradients_of_kernels():
    wanted = gpu_setup.settings(TINY, 0).replace(batch=4, epochs=1)
    prepared = prepare(wanted, gpu_setup.synthetic(10, 10, 8))
    images = prepared.data.train
    step = jax.jit(cast(Any, prepared.training.step).__wrapped__).trace(
        prepared.fresh.state, *images, np.arange(4, dtype=np.int32), *map(np.uint32, (1, 0, 0))
    )
    # Three convolutions: one and its gradient for the images in each step of the attack; in the
    # update one and both its gradients, but for the images' own.
    lowered = step.lower(lowering_platforms=("cuda",)).as_text()
    assert lowered.count("stablehlo.convolution") == (3 + 3) + (3 + 3 + 2)


def test_the_worst_classes_gain_lies_in_its_interval():
    draw = np.random.default_rng(0)
    for _ in range(200):
        a, b = draw.uniform(0, 1, (2, 4))
        low, high = draw.uniform(0, 0.2, (2, 3, 4))
        boxes = [Bounds(v - m, v + p) for v, m, p in zip((a, b, b - a), low, high, strict=True)]
        most = judge.largest_gain(*boxes)
        assert b.min() - a.min() <= most + 1e-12
        # It is reached, or the bounds of b - a from below forbid it.
        if (boxes[2].low < -1).all():
            assert most <= 1
    exact = Bounds(np.array([0.2, 0.5]), np.array([0.2, 0.5]))
    other = Bounds(np.array([0.4, 0.3]), np.array([0.4, 0.3]))
    free = Bounds(np.full(2, -1.0), np.full(2, 1.0))
    assert judge.largest_gain(exact, other, free) == pytest.approx(0.1)
    labels = np.repeat([0, 1], 50)
    first = np.arange(100) % 50 < np.where(labels == 0, 10, 40)
    second = np.arange(100) % 50 < np.where(labels == 0, 30, 20)
    gain, (low, high) = judge.worst_gain(labels, first, second, 2, 0.05)
    assert gain == pytest.approx(0.2)
    assert low < gain < high


@pytest.mark.slow
def test_the_fork_is_compared_and_goes_on(quickly, tmp_path):
    data = gpu_setup.synthetic(TINY.images, TINY.judged, 8)
    sizes = TINY._replace(warm_up=1, forks=1)
    ticking = Ticking()

    def command(seconds):
        clock = Clock(seconds, ticking)
        begun = fairness.start(sizes, data, tmp_path / "out", tmp_path / "work", clock)
        fairness.go_on(begun)
        return json.loads((tmp_path / "out" / fairness.FILE).read_text("utf-8"))

    found = command(1.0)  # too few to begin
    assert not found["complete"]
    assert found["shortened"]
    found = command(1e6)
    assert found["complete"]
    assert all(found["stages"][name]["finished"] for name in ("warm-up", "trades", "dafa"))
    robust = found["comparison"]["robust"]
    low, high = robust["worst_class_gain_interval"]
    assert low <= robust["worst_class_gain"] <= high
    first, second = (evaluation_file.load(tmp_path / "out" / f"{n}.nc") for n in ("trades", "dafa"))
    change = second["correct"][-1].mean() - first["correct"][-1].mean()
    assert robust["average_change"] == pytest.approx(float(change))
    assert len(found["commands"]) == 2
    assert judge.told(robust).count("[") == 2
    again = command(1e6)
    assert again["comparison"] == found["comparison"]
