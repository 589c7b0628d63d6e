"""Evaluation in parts, as far as the seconds reach, and what the classes of two networks differ by.

What is recorded of a sample depends on itself and its key alone, so that parts that were evaluated
one after the other, in several commands even, are the evaluation of the whole.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import traverse_util

from benchmarks.gpu_phases.clock import Clock
from nets.data.load import DataSet
from nets.evaluation import file as evaluation_file
from nets.evaluation import paired
from nets.evaluation.outcomes import CLEAN, AttackRun, Outcomes, evaluate
from nets.evaluation.per_class import class_counts, worst_class
from nets.runs import folder as run_folder
from sims.files import replace_whole
from sims.stats.interval import Bounds, clopper_pearson
from theory.problem import LinfBall

MARGIN = 1.15  # of the seconds that the next part is taken to need
WEAK = frozenset({"cat", "bird", "deer", "dog"})


class JudgedParts:
    """Outcomes of the first images of a test set, part by part, kept in a file.

    Args:
        path: of the file.
        run: the network.
        data: its data set.
        methods: attacks by name.
        threat: ball of the attacks.
        seed: of their random numbers.
        block: images computed together.
    """

    def __init__(
        self,
        path: Path,
        run: run_folder.Run,
        data: DataSet,
        methods: Mapping[str, AttackRun],
        threat: LinfBall,
        seed: int,
        block: int,
    ) -> None:
        self.path, self.run, self.data, self.methods = path, run, data, methods
        self.threat, self.block = threat, block
        self.keys = jax.random.split(jax.random.key(seed), len(data.test.labels))
        self.identity = (
            f"{run_folder.checksum(run.variables)} {block} {seed} {float(threat.radius)!r}"
        )
        self.identity += f" {' '.join(methods)}"
        self.found: dict[str, np.ndarray] = {}
        self.longest = 0.0
        if path.exists():
            with np.load(path, allow_pickle=False) as archive:
                kept = dict(archive)
            if str(kept.pop("identity")) == self.identity:
                self.found = kept

    @property
    def count(self) -> int:
        """How many images have been evaluated."""
        return self.found["correct"].shape[1] if self.found else 0

    def go_on(self, count: int, clock: Clock) -> None:
        """Evaluates the next so many images at most, and keeps what it finds."""
        part = slice(self.count, min(self.count + count, len(self.data.test.labels)))
        began = clock.now()
        found = evaluate(
            self.keys[part],
            self.run.module.apply,
            self.run.variables,
            self.data.test.images[part],
            self.data.test.labels[part],
            self.threat,
            self.methods,
            classes=len(self.data.class_names),
            block=self.block,
        )
        new = {
            "correct": found.correct,
            "predicted": found.predicted,
            "probabilities": found.probabilities,
            "nonfinite": np.asarray([found.nonfinite]),
        }
        old = self.found or {name: value[..., :0] for name, value in new.items()}
        if not self.found:
            old["probabilities"] = new["probabilities"][:, :0]
        axes = {"probabilities": 1}
        self.found = {
            name: np.concatenate([old[name], value], axes.get(name, -1))
            for name, value in new.items()
        }
        self.longest = clock.now() - began
        replace_whole(self.path, self._write, "evaluation")

    def _write(self, path: Path) -> None:
        with path.open("wb") as handle:
            np.savez(handle, identity=np.asarray(self.identity), **self.found)

    def dataset(self, level: float, count: int | None = None) -> xr.Dataset:
        """Returns the evaluation of the first `count` images, or of all of them so far."""
        count = self.count if count is None else count
        outcomes = Outcomes(
            (CLEAN, *self.methods),
            self.found["correct"][:, :count],
            self.found["predicted"][:, :count],
            self.found["probabilities"][:, :count],
            np.zeros((count, 0), np.float32),
            int(self.found["nonfinite"].sum()),
        )
        attributes = {
            "norm": "linf",
            "radius": float(self.threat.radius),
            "protocol": " ".join(self.methods),
            "block": self.block,
            "split": f"first {count} of the test set",
            "model": self.run.settings["model"],
            "data": self.data.name,
            "fingerprint": self.data.fingerprint,
        }
        labels = self.data.test.labels[:count]
        return evaluation_file.make(outcomes, labels, self.data.class_names, level, attributes)


def advance(
    parts: Sequence[JudgedParts], wanted: int, part: int, clock: Clock, reserve: float
) -> bool:
    """Evaluates all networks on the same images, part by part, and returns whether all is done.

    A first part is begun while more than the reserve is left; a further one, if it would end in
    time.

    Args:
        parts: of each network.
        wanted: images of each.
        part: images in a part.
        clock: of the command.
        reserve: seconds to leave.
    """
    while min(one.count for one in parts) < wanted:
        one = min(parts, key=lambda each: each.count)
        if clock.left() - reserve < MARGIN * max(each.longest for each in parts):
            return False
        one.go_on(min(part, wanted - one.count), clock)
    return True


def by_class(dataset: xr.Dataset) -> dict[str, Any]:
    """Returns averages, class-wise accuracies and the worst classes of an evaluation, for JSON."""
    names = [str(name) for name in dataset["class"].values]
    found: dict[str, Any] = {"images": int(dataset["trials"].sum())}
    for condition in evaluation_file.CONDITIONS:
        counts = evaluation_file.counts_of(dataset, condition)
        worst = worst_class(counts, dataset.level / len(evaluation_file.CONDITIONS))
        accuracy = counts.accuracy
        found[condition] = {
            "average": float(counts.correct.sum() / counts.trials.sum()),
            "classes": dict(zip(names, accuracy.tolist(), strict=True)),
            "worst": [names[k] for k in np.argsort(accuracy, kind="stable")[:2]],
            "worst_accuracy": float(worst.accuracy),
            "worst_interval": [float(worst.low), float(worst.high)],
        }
    shares = dataset["correct"].mean("sample").values
    attacks = [str(name) for name in dataset["attack"].values]
    return found | {"after_attack": dict(zip(attacks, shares.tolist(), strict=True))}


def change(first: xr.Dataset, second: xr.Dataset, level: float) -> dict[str, Any]:
    """Returns what the second network gains over the first, clean and robust, with intervals.

    Args:
        first, second: evaluations of the same images.
        level: chance that any interval of a condition misses.
    """
    evaluation_file.require_paired(first, second)
    labels, names = first["label"].values, [str(name) for name in first["class"].values]
    found: dict[str, Any] = {}
    for condition, at in zip(evaluation_file.CONDITIONS, (0, -1), strict=True):
        flags = [d["correct"].isel(attack=at).values.astype(bool) for d in (first, second)]
        table = paired.paired(labels, *flags, len(names))
        whole = paired.pooled(table)
        average = paired.difference_intervals(whole, level / 2)
        rho = paired.rho(*(evaluation_file.counts_of(d, condition) for d in (first, second)))
        gain, interval = worst_gain(labels, *flags, len(names), level / 2)
        found[condition] = {
            "worst_class_gain": gain,
            "worst_class_gain_interval": list(interval),
            "average_change": float(whole.difference[0]),
            "average_change_interval": [float(average.low[0]), float(average.high[0])],
            "classes": dict(zip(names, table.difference.tolist(), strict=True)),
            "p_average": float(paired.mcnemar(whole)[0]),
            # Without a worst class above zero there is nothing to relate a gain to.
            "rho": rho if np.isfinite(rho) else None,
        }
    return found


def worst_gain(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int, level: float
) -> tuple[float, tuple[float, float]]:
    """Returns what the worst class gains, whichever it is in each network, and an interval.

    The interval holds min b - min a of all accuracies a and b for which the simultaneous intervals
    of a, of b and of b - a hold, each family at a third of the level.

    Args:
        labels: of the images, (n,).
        first, second: whether each network is correct, (n,).
        classes: K.
        level: chance that it misses.
    """
    one, two = (class_counts(labels, flags, classes) for flags in (first, second))
    share = level / 3
    a, b = (clopper_pearson(c.correct, c.trials, share / classes) for c in (one, two))
    d = paired.difference_intervals(paired.paired(labels, first, second, classes), share)
    gain = float(two.accuracy.min() - one.accuracy.min())
    high = largest_gain(a, b, d)
    low = -largest_gain(b, a, Bounds(-d.high, -d.low))
    return gain, (low, high)


def largest_gain(a: Bounds, b: Bounds, d: Bounds) -> float:
    """Returns the largest min b - min a with a, b and b - a inside their bounds, (K,) each.

    If class j is the worst in a, the gain is largest at the least a_j and, in all other classes,
    the largest a_k and b_k; j can be the worst only if no a_k must be smaller.
    """
    best = -np.inf
    for j, least in enumerate(a.low):
        if (a.high < least).any():
            continue
        ceiling = np.minimum(b.high, a.high + d.high)
        ceiling[j] = min(b.high[j], least + d.high[j])
        best = max(best, float(ceiling.min() - least))
    return best


def within_known_pattern(dataset_summary: Mapping[str, Any]) -> bool:
    """Returns whether the two worst robust classes are among cat, bird, deer and dog."""
    return set(dataset_summary[evaluation_file.ROBUST]["worst"]) <= WEAK


def save_weights(variables: Any, folder: Path, pieces: int = 2) -> list[str]:
    """Writes the parameters in bf16, as their 16-bit patterns, in files of alike size."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    names = sorted(flat, key=lambda name: -np.size(flat[name]))
    groups: list[dict[str, np.ndarray]] = [{} for _ in range(pieces)]
    for name in names:
        smallest = min(groups, key=lambda group: sum(map(np.size, group.values())))
        smallest[name] = np.asarray(jnp.asarray(flat[name], jnp.bfloat16)).view(np.uint16)
    paths = [folder / f"weights-{place}.npz" for place in range(pieces)]
    for path, group in zip(paths, groups, strict=True):
        np.savez_compressed(path, allow_pickle=False, **group)
    return [f"{path.name} {os.path.getsize(path)} bytes" for path in paths]


def told(change_of: Mapping[str, Any]) -> str:
    """Returns the gains of a condition of `change` in points, with their intervals."""
    words = []
    for name in ("worst_class_gain", "average_change"):
        low, high = (100 * end for end in change_of[f"{name}_interval"])
        words.append(
            f"{name.replace('_', ' ')} {100 * change_of[name]:+.1f} [{low:+.1f}, {high:+.1f}]"
        )
    return ", ".join(words)
