"""Correctness, speed, training and evaluation of PGD adversarial training, one after the other.

Each phase knows the seconds left, says what it does less of, and leaves what it found in the record
at once. A phase that fails is recorded and does not stop those that can do without it.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.gpu_phases import check as gpu_check
from benchmarks.gpu_phases import judge
from benchmarks.gpu_phases import speed as gpu_speed
from benchmarks.gpu_phases.clock import Clock, EpochGuard, OutOfTime, Record
from benchmarks.gpu_phases.setup import Sizes, machine, settings, with_batch
from nets.attacks import threats
from nets.configs.settings import Config
from nets.data.load import DataSet
from nets.evaluation.ensemble import method
from nets.evaluation.outcomes import AttackRun
from nets.experiment.prepare import Experiment, description, identity, matches_recorded, prepare
from nets.experiment.run import run_experiment
from nets.runs import folder as run_folder
from nets.training import checkpoint
from nets.training import step as training_step
from sims import files

FIELDS = ("machine", "settings", "correctness", "speed", "training", "evaluation", "torch", "bars")
LEVEL = 0.05
SLACK = 1.1  # an epoch may take so many times as long as its steps
PERIPHERY = 2.0  # seconds of an epoch for the probe and the checkpoint, before any was measured
TORCH_SECONDS = 30.0


class Baseline(NamedTuple):
    """What all phases share.

    Args:
        sizes, data, config: what is measured on what.
        clock, record: of the command.
        out, work: folders of results and of runs.
        device, cpu: the sides that are compared.
    """

    sizes: Sizes
    data: DataSet
    config: Config
    clock: Clock
    record: Record
    out: Path
    work: Path
    device: gpu_check.Side
    cpu: gpu_check.Side


def start(
    sizes: Sizes,
    data: DataSet,
    out: Path,
    work: Path,
    clock: Clock,
    seed: int = 0,
    device: gpu_check.Side | None = None,
) -> Baseline:
    """Returns the baseline before its first phase; the accelerator is the default device."""
    for folder in (out, work):
        files.require_writable(folder)
    record = Record([out / "baseline.json"], clock, "gpu baseline", FIELDS)
    wanted = settings(sizes, seed)
    record.found["machine"] = machine()
    record.found["settings"] = {**wanted.flat(), **sizes._asdict()}
    record.found["settings"]["fingerprint"] = data.fingerprint
    cpu = gpu_check.side(jax.devices("cpu")[0])
    mine = device or gpu_check.side(jax.devices()[0])
    return Baseline(sizes, data, wanted, clock, record, out, work, mine, cpu)


def measure(baseline: Baseline) -> int:
    """Runs every phase, prints the table of bars, and returns the exit status."""
    record = baseline.record
    with _phase(record, "correctness") as entry:
        check(baseline, entry)
    steppers: dict[int, gpu_speed.Stepper] = {}
    with _phase(record, "speed") as entry:
        speeds(baseline, entry, steppers)
    chosen = training_batch(
        record.found["speed"].get("table", []), baseline.config.optimisation.batch
    )
    run, stepper = None, steppers.get(chosen)
    steppers.clear()
    with _phase(record, "training") as entry:
        run = trained(baseline, entry, chosen, stepper and stepper.prepared)
    with _phase(record, "evaluation") as entry:
        evaluated(baseline, entry, run)
    with _phase(record, "torch") as entry:
        against_torch(baseline, entry, stepper)
    record.found["bars"] = bars(record.found)
    record.found["complete"] = True
    record.save()
    print(table(record.found["bars"]))
    print(f"{record.paths[0]}: {baseline.clock.spent():.0f} s")
    failed = any("error" in record.found[name] for name in record.found["phases"])
    return int(failed)


@contextlib.contextmanager
def _phase(record: Record, name: str) -> Iterator[dict[str, Any]]:
    """Runs a phase; what fails in it is recorded and told, and the next one begins."""
    try:
        with record.phase(name) as entry:
            yield entry
    except Exception as error:  # what one phase fails at must not cost the others
        print(f"  FAILED: {type(error).__name__}: {error}", flush=True)


def check(baseline: Baseline, entry: dict[str, Any]) -> None:
    """Compares the two sides, and raises AssertionError where a bound does not hold."""
    sizes = baseline.sizes
    images = baseline.data.train.images[: max(sizes.checks[:3])]
    found = gpu_check.correctness(
        baseline.device, baseline.cpu, images, sizes.options, sizes.small, sizes.checks
    )
    entry["checks"] = [one._asdict() | {"held": one.held} for one in found]
    for one in found:
        bound = "reported" if one.bound is None else f"bound {one.bound:.1e}"
        print(f"  {one.name:36} {one.difference:.2e}  {bound}{'' if one.held else '  BROKEN'}")
    if broken := [one.name for one in found if not one.held]:
        raise AssertionError(f"beyond the bound: {', '.join(broken)}")


def speeds(
    baseline: Baseline, entry: dict[str, Any], steppers: dict[int, gpu_speed.Stepper]
) -> None:
    """Measures the peak and the step of each batch, as long as the phase may take."""
    sizes, clock = baseline.sizes, baseline.clock
    end = clock.spent() + sizes.speed
    entry["peak_measured"] = peak = gpu_speed.matmul_rate(sizes.matmul)
    entry["peak_nominal"], entry["table"] = gpu_speed.NOMINAL, []
    print(f"  matrix products {peak / 1e12:.3g} TFLOP/s")
    last = 0.0
    for batch in sizes.batches:
        left = min(end - clock.spent(), clock.left() - sizes.reserve)
        if left < last or left < 0:
            baseline.record.shorten(f"speed: no time for batch {batch} ({left:.0f} s left)")
            break
        began = clock.spent()
        prepared = prepare(with_batch(baseline.config, batch), baseline.data)
        entry["forward_flop"] = gpu_speed.image_flop(prepared)
        steppers[batch] = gpu_speed.Stepper(prepared)
        row = gpu_speed.utilisation(steppers[batch], sizes.steps, sizes.rounds, peak)
        last = clock.spent() - began
        entry["table"].append(row)
        print(
            f"  batch {batch:5d}  {1e3 * row['step_s']:8.2f} ms a step"
            f"  {row['images_a_second']:8.0f} images/s  {row['flop_a_second'] / 1e12:8.3g} TFLOP/s"
            f"  MFU {100 * row['mfu_measured']:.1f} % of measured, {100 * row['mfu_nominal']:.1f} %"
            f" of nominal  (compiled in {row['compilation_s']:.0f} s)",
            flush=True,
        )
        baseline.record.save()
    memory = jax.devices()[0].memory_stats() or {}
    entry["peak_bytes"] = memory.get("peak_bytes_in_use")


def training_batch(rows: list[dict[str, Any]], default: int, largest: int = 512) -> int:
    """Returns the smallest batch whose images a second are within 5 % of the best, up to 512."""
    speed = {r["batch"]: r["images_a_second"] for r in rows if r["batch"] <= largest}
    good = [batch for batch, value in speed.items() if value >= 0.95 * max(speed.values())]
    return min(good, default=default)


def against_torch(
    baseline: Baseline, entry: dict[str, Any], stepper: gpu_speed.Stepper | None
) -> None:
    """Compares the step with PyTorch's where there is time, PyTorch and the full network."""
    room = baseline.clock.left()
    if stepper is None or baseline.sizes.options or room < TORCH_SECONDS:
        entry["skipped"] = f"needs a measured step at full width and {TORCH_SECONDS:g} s"
        print(f"  skipped: {entry['skipped']}")
        return
    try:
        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        entry |= gpu_speed.torch_ratio(stepper, baseline.sizes.rounds, device)
    except ImportError:
        entry["skipped"] = "torch is not installed"
    print(f"  {json.dumps(entry)}")


def planned_epochs(wanted: int, epoch: float, left: float) -> int:
    """Returns how many epochs of so many seconds fit, at most those wanted."""
    return max(0, min(wanted, int(left / (SLACK * epoch + PERIPHERY))))


def trained(
    baseline: Baseline, entry: dict[str, Any], batch: int, prepared: Experiment | None
) -> run_folder.Run | None:
    """Returns the network after as many epochs as the seconds allow; None where none fits.

    The rate falls to zero over the epochs that are planned; if they take longer than planned,
    training stops after the last epoch that ends in time.
    """
    sizes, clock, record = baseline.sizes, baseline.clock, baseline.record
    table = {row["batch"]: row["step_s"] for row in record.found["speed"].get("table", [])}
    steps = len(baseline.data.train.labels) // batch
    seconds = table.get(batch, 0.0) * steps
    # What measures the network is compiled in any case.
    left = clock.left() - sizes.reserve - sizes.compilation * (0.5 if prepared else 1.5)
    epochs = planned_epochs(sizes.epochs, seconds, left)
    entry |= {"batch": batch, "epochs_wanted": sizes.epochs, "epochs_planned": epochs}
    if epochs < sizes.epochs:
        record.shorten(f"training: {epochs} of {sizes.epochs} epochs planned, {left:.0f} s left")
    if not epochs:
        return None
    wanted = with_batch(baseline.config, batch).replace(epochs=epochs)
    if prepared is None or prepared.config != wanted:
        prepared = prepare(wanted, baseline.data)
    folder = baseline.work / f"prn18-batch-{batch}-epochs-{epochs}-seed-{wanted.optimisation.seed}"
    guard = EpochGuard(clock, epochs, sizes.reserve, seconds)
    run = train_or_stop(prepared, folder, guard, record, entry)
    flop = gpu_speed.step_flop(prepared) * steps
    entry |= {"rate": wanted.optimisation.rate, "flop_an_epoch": flop}
    if guard.seconds:
        middle = float(np.median(guard.seconds))
        entry["mfu_nominal_of_epochs"] = flop / middle / gpu_speed.NOMINAL
        print(f"  {len(guard.seconds)} epochs, {middle:.2f} s each in the middle")
    return run


def train_or_stop(
    prepared: Experiment,
    folder: Path,
    guard: EpochGuard,
    record: Record,
    entry: dict[str, Any],
) -> run_folder.Run | None:
    """Returns the run, trained to its end or to the last epoch that ended in time, if any.

    Args:
        prepared: the training.
        folder: of the run; one that is finished is taken as it is.
        guard: see `EpochGuard`.
        record: told what was not done.
        entry: gets `epochs_done`, `finished`, `epoch_seconds` and `epochs`, the log.

    Raises:
        InvalidInput: for a folder of another training.
    """
    whole = (folder / run_folder.SETTINGS).exists()
    if whole and matches_recorded(run_folder.load(folder).settings.get("training"), prepared):
        entry["finished"] = True
    else:
        files.require_writable(folder)
        try:
            print(f"  {run_experiment(prepared, folder, guard)}", flush=True)
            entry["finished"] = True
        except OutOfTime as error:
            entry["finished"] = False
            record.shorten(f"training {folder.name}: {error}")
    log = folder / run_folder.LOG
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    entry["epochs"] = [json.loads(line) for line in lines]
    entry["epochs_done"], entry["epoch_seconds"] = len(lines), guard.seconds
    if entry["finished"]:
        return run_folder.load(folder)
    if not lines:
        return None
    progress = checkpoint.restore(folder, identity(prepared), prepared.fresh)
    found = description(prepared) | {"epoch": len(progress.records)}
    return run_folder.Run(
        found, prepared.network, jax.device_get(training_step.evaluated_variables(progress.state))
    )


def attacks(sizes: Sizes, threat: Any, classes: int = 10) -> tuple[dict[str, AttackRun], ...]:
    """Returns PGD by itself, and Auto-PGD on cross entropy and targeted."""
    pgd, apgd = sizes.attack_steps
    weak = {"pgd": method("pgd", classes, threat, steps=pgd)}
    strong = {name: method(name, classes, threat, steps=apgd) for name in ("apgd-ce", "apgd-t")}
    return weak, strong


def evaluated(baseline: Baseline, entry: dict[str, Any], run: run_folder.Run | None) -> None:
    """Evaluates the network under PGD-20, then under Auto-PGD, as far as the seconds reach."""
    if run is None:
        baseline.record.shorten("evaluation: there is no network to evaluate")
        return
    sizes, config = baseline.sizes, baseline.config
    threat = threats.threat_of("linf", config.objective.radius)
    if baseline.sizes.reserve and not baseline.sizes.options:
        entry["weights"] = judge.save_weights(run.variables, baseline.out)
    names = ("pgd", "evaluation")
    for name, methods in zip(names, attacks(sizes, threat), strict=True):
        part = judge.JudgedParts(
            baseline.work / f"{name}.npz",
            run,
            baseline.data,
            methods,
            threat,
            config.optimisation.seed,
            sizes.block,
        )
        whole = judge.advance([part], sizes.judged, sizes.part, baseline.clock, 10.0)
        if not whole:
            baseline.record.shorten(
                f"evaluation under {' '.join(methods)}: {part.count} of {sizes.judged} images"
            )
        if not part.count:
            continue
        dataset = part.dataset(LEVEL)
        files.save(dataset, baseline.out / f"{name}.nc")
        entry[name] = judge.by_class(dataset)
        robust = entry[name]["robust"]
        print(
            f"  {' '.join(methods)}: {part.count} images, clean "
            f"{100 * entry[name]['clean']['average']:.1f} %, robust {100 * robust['average']:.1f} %"
            f", worst {robust['worst'][0]} {100 * robust['worst_accuracy']:.1f} %",
            flush=True,
        )
        baseline.record.save()


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the bars with what was found; `met` is None where it was not measured."""
    rows = found["speed"].get("table", [])
    evaluation = found["evaluation"] or {}
    pgd, strong = evaluation.get("pgd"), evaluation.get("evaluation")
    seconds = [
        found["phases"].get(name, {}).get("seconds", 0) for name in ("training", "evaluation")
    ]
    training = found["training"] or {}
    whole = training.get("finished") and not found["shortened"]
    correct = [one["held"] for one in (found["correctness"] or {}).get("checks", [])]
    weak = float(judge.within_known_pattern(strong)) if strong else None
    wanted = [
        ("correctness against the CPU", all(correct) * 1.0 if correct else None, 1.0, 1),
        (
            "B7 MFU of nominal, best batch",
            max((r["mfu_nominal"] for r in rows), default=None),
            0.2,
            1,
        ),
        ("B8 PyTorch's step over ours", (found["torch"] or {}).get("ratio"), 1.2, 1),
        ("B9 training and evaluation, s", sum(seconds) if whole else None, 420.0, -1),
        ("B12 clean", pgd and pgd["clean"]["average"], 0.78, 1),
        ("B12 PGD-20", pgd and pgd["robust"]["average"], 0.48, 1),
        ("B12 Auto-PGD", strong and strong["robust"]["average"], 0.43, 1),
        ("B15 worst two of cat, bird, deer, dog", weak, 1.0, 1),
    ]
    return [
        {
            "bar": name,
            "found": value,
            "limit": limit,
            "sense": ">=" if sign > 0 else "<=",
            "met": None if value is None else bool(sign * value >= sign * limit),
        }
        for name, value, limit, sign in wanted
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the bars as lines."""
    lines = []
    for row in rows:
        value = "-" if row["found"] is None else f"{row['found']:.4g}"
        word = {None: "not measured", True: "met", False: "MISSED"}[row["met"]]
        lines.append(f"{row['bar']:40} {value:>10}  {row['sense']} {row['limit']:<6g} {word}")
    return "\n".join(lines)
