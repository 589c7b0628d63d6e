"""TRADES and DAFA from one warm-up with the same seeds, their evaluation, and what DAFA gains.

Everything is kept in the work folder, so that the same command goes on where the last one stopped:
a training at its last epoch, an evaluation at its last part.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_phases import judge
from benchmarks.gpu_phases.baseline import LEVEL, attacks, table, train_or_stop
from benchmarks.gpu_phases.clock import Clock, EpochGuard, Record
from benchmarks.gpu_phases.setup import Sizes, machine, settings
from nets.attacks import threats
from nets.configs.settings import Config
from nets.data.load import DataSet
from nets.evaluation import file as evaluation_file
from nets.experiment.prepare import prepare
from nets.runs import folder as run_folder
from sims import files

FIELDS = ("machine", "settings", "stages", "evaluation", "comparison", "bars")
WARM_UP, FORKS = "warm-up", ("trades", "dafa")
RATE, BATCH = 0.14, 256  # 0.1 at batch 128, as its root
SPARE = 15.0  # seconds for what follows the last epoch of a command
FILE = "fairness.json"


class FairnessStages(NamedTuple):
    """What all stages share; see `nets` for the settings.

    Args:
        sizes, data: what is trained on what.
        seed: of all trainings.
        clock, record: of this command.
        out, work: folders of results, and of runs and of all that goes on.
    """

    sizes: Sizes
    data: DataSet
    seed: int
    clock: Clock
    record: Record
    out: Path
    work: Path


def start(
    sizes: Sizes, data: DataSet, out: Path, work: Path, clock: Clock, seed: int = 0
) -> FairnessStages:
    """Returns the study, with what earlier commands recorded of it."""
    for folder in (out, work):
        files.require_writable(folder)
    record = Record([work / FILE, out / FILE], clock, "gpu fairness", FIELDS)
    found = record.found | {"stages": {}, "commands": []}
    if record.paths[0].exists():
        earlier = json.loads(record.paths[0].read_text("utf-8"))
        found |= {name: earlier[name] for name in ("stages", "commands")}
    record.found = found | {"machine": machine(), "settings": sizes._asdict() | {"seed": seed}}
    return FairnessStages(sizes, data, seed, clock, record, out, work)


def stage(study: FairnessStages, name: str) -> Config:
    """Returns the settings of a stage: TRADES at a constant rate, or a fork of it that decays.

    The forks decay as the published 110 epochs do: in their last ten and in their last five. DAFA
    learns its weights in the first epoch after the fork, where both still train alike.
    """
    common = settings(study.sizes, study.seed).replace(
        batch=min(BATCH, len(study.data.train.labels) // 4),
        objective="trades",
        batch_norm="eval",
        rate=RATE,
        schedule="constant",
        ema=0.0,
        epochs=study.sizes.warm_up,
    )
    if name == WARM_UP:
        return common
    forks = study.sizes.forks
    fork = common.replace(
        start=str(study.work / WARM_UP),
        epochs=forks,
        schedule="piecewise",
        milestones=tuple(epoch for epoch in (forks - 10, forks - 5) if epoch > 0),
    )
    if name == "dafa":
        return fork.replace(fairness="dafa", fairness_options={"warm_up": 1})
    return fork


def go_on(study: FairnessStages) -> int:
    """Does what is left and fits into the seconds, and returns the exit status."""
    record = study.record
    done = trained(study)
    if done:
        with record.phase("evaluation") as entry:
            done = evaluated(study, entry)
    else:
        record.found["evaluation"] = {}
    record.found["bars"] = bars(record.found)
    record.found["complete"] = done
    record.found["commands"].append(round(study.clock.spent(), 1))
    record.save()
    if done:
        print(record.found["comparison"]["text"])
        for condition in evaluation_file.CONDITIONS:
            print(f"{condition}: {judge.told(record.found['comparison'][condition])}")
        print(table(record.found["bars"]))
    else:
        print("not finished: the same command goes on")
    print(f"{record.paths[-1]}: {study.clock.spent():.0f} s")
    return 0


def trained(study: FairnessStages) -> bool:
    """Returns whether all stages are trained, after those that fitted."""
    record, clock = study.record, study.clock
    for name in (WARM_UP, *FORKS):
        folder, known = study.work / name, record.found["stages"].setdefault(name, {})
        if known.get("finished") and (folder / run_folder.SETTINGS).exists():
            continue
        if clock.left() < SPARE + study.sizes.compilation:
            record.shorten(f"{name}: {clock.left():.0f} s are too few to begin or go on")
            return False
        with record.phase(name) as entry:
            prepared = prepare(stage(study, name), study.data)
            seconds = list(known.get("epoch_seconds", []))
            expected = max(seconds[-3:], default=0.0)
            guard = EpochGuard(clock, prepared.config.optimisation.epochs, SPARE, expected)
            run = train_or_stop(prepared, folder, guard, record, entry)
            record.found["stages"][name] = entry | {"epoch_seconds": seconds + guard.seconds}
        if run is None or not entry["finished"]:
            return False
    return True


def evaluated(study: FairnessStages, entry: dict[str, Any]) -> bool:
    """Evaluates both forks on the same images, compares them, and returns whether all is done."""
    sizes, clock = study.sizes, study.clock
    config = stage(study, WARM_UP)
    threat = threats.threat_of("linf", config.objective.radius)
    _, methods = attacks(sizes, threat)
    loaded = [run_folder.load(study.work / name) for name in FORKS]
    parts = [
        judge.JudgedParts(
            study.work / f"{name}.npz",
            # One module for both, by which what is compiled is found again.
            run._replace(module=loaded[0].module),
            study.data,
            methods,
            threat,
            study.seed,
            sizes.block,
        )
        for name, run in zip(FORKS, loaded, strict=True)
    ]
    done = judge.advance(parts, sizes.judged, sizes.part, clock, SPARE / 2)
    count = min(part.count for part in parts)
    if not done:
        study.record.shorten(f"evaluation: {count} of {sizes.judged} images so far")
    if not count:
        return False
    first, second = datasets = [part.dataset(LEVEL, count) for part in parts]
    for name, dataset in zip(FORKS, datasets, strict=True):
        files.save(dataset, study.out / f"{name}.nc")
        entry[name] = judge.by_class(dataset)
    comparison = judge.change(first, second, LEVEL)
    text = evaluation_file.comparison(first, second, LEVEL)
    study.record.found["comparison"] = comparison | {"images": count, "text": text}
    return done


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the bars of DAFA, with what was found in points; `met` is None without it."""
    robust = (found["comparison"] or {}).get("robust")
    weak = [
        judge.within_known_pattern(e)
        for e in (found["evaluation"] or {}).values()
        if isinstance(e, dict)
    ]
    wanted = [
        (
            "B14 worst robust class, gain in points",
            robust and 100 * robust["worst_class_gain"],
            5.0,
        ),
        ("B14 robust average, change in points", robust and 100 * robust["average_change"], -2.0),
        ("B15 worst two of cat, bird, deer, dog", all(weak) * 1.0 if weak else None, 1.0),
        ("B16 rho on the worst robust class", robust and robust["rho"], 0.0),
    ]
    return [
        {
            "bar": name,
            "found": value,
            "limit": limit,
            "sense": ">=",
            "met": None if value is None else bool(value >= limit),
        }
        for name, value, limit in wanted
    ]
