"""python -m nets: train networks, evaluate them class by class under attack, compare them."""

from __future__ import annotations

import pathlib
import sys
import typing
from typing import TYPE_CHECKING

import tyro

from nets.cli import DEFAULT_NAME, Norm, compare, evaluate, study, study_report
from sims.cli.frame import USAGE, progress_bar, run

if TYPE_CHECKING:
    from collections.abc import Callable

STOPPED_EARLY = 4


def train(
    words: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    out: pathlib.Path | None = None,
    directory: pathlib.Path | None = None,
    report: bool = True,
) -> int:
    """Train a network as a config says, evaluate it class by class, and leave both in a folder.

    Without words: a small network, robustly, on images that need no download, in some minutes.
    A training that was stopped goes on from its last epoch with the same command and ends in the
    same numbers. A folder of another training, or what other code or other versions of the
    libraries have begun, is refused, never overwritten. With seeds=3 three networks are trained
    and evaluated, in OUT/seed-0 and so on. A training whose robust accuracy collapses stops early,
    keeps its best epoch and says what to change; its run.json says so under "stopped".
    Exit status: 0 done; 2 bad input; 4 done, but a training stopped early.

    Args:
        words: [CONFIG] [key=value ...]: a file of nets/configs by name, or a .toml of your own,
            then settings in place of the file's, such as epochs=3 or options.hidden=[64]
        out: folder of the run; runs/CONFIG if not given
        directory: where data sets are; the environment variable ROBUST_RISK_DATA if not given
        report: no evaluation after training; `evaluate` makes it later
    """
    from nets.configs import recipes
    from nets.data.load import load
    from nets.data.select import select_classes
    from nets.evaluation.run import is_evaluated, require_no_orphan, require_samples
    from nets.experiment import leftovers, seeds
    from sims.files import require_writable

    name, config = recipes.read(words)
    out = out or pathlib.Path("runs") / name
    data = load(config.data.name, directory)
    if report:
        # Of the evaluation that follows: not to be found after hours of training.
        samples = config.evaluation.samples or None
        require_samples(select_classes(data, config.data.classes), samples)
    experiments = seeds.prepare(config, data)
    folders = all_folders = seeds.folders(experiments, out)
    for run_folder in folders:
        require_no_orphan(run_folder / f"{DEFAULT_NAME}.nc")
    # Trained already, in this run or an earlier one that was stopped at the evaluation.
    if seeds.finished(experiments, out):
        leftovers.clear(out, all_folders)
        # Only evaluations that were stopped are left to do.
        folders = [run for run in folders if not is_evaluated(run, run / f"{DEFAULT_NAME}.nc")]
        _require_work(out, folders if report else [])
    else:
        require_writable(out)
        with progress_bar() as add:
            print(seeds.run(experiments, out, add(name)))
    for folder in folders if report else ():
        evaluate(
            folder,
            norm=typing.cast(Norm, config.objective.norm),
            radius=config.objective.radius,
            protocol=config.evaluation.protocol,
            samples=samples,
            directory=directory,
        )
    return STOPPED_EARLY if seeds.any_stopped(all_folders) else 0


def _require_work(out: pathlib.Path, folders: list[pathlib.Path]) -> None:
    """Raises InvalidInput if nothing is left to do for the runs of a folder."""
    from theory.domain import InvalidInput

    if not folders:
        raise InvalidInput(f"out = {out}: holds a run already; choose another folder")


COMMANDS: dict[str, Callable[..., int]] = {
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "study": study,
    "report": study_report,
}
# Commands that write what they have done so far: the message of an interrupted one says so.
RESUMED = {
    "train": "goes on from the last epoch",
    "study": "goes on from the last epoch",
    "evaluate": "goes on from the last save",
}


def main() -> None:
    """Runs the command that the first word names."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word in COMMANDS:
        again = RESUMED.get(word, "starts anew")
        run(COMMANDS[word], f"python -m nets {word}", sys.argv[2:], f"the same command {again}")
    names = ", ".join(COMMANDS)
    usage = f"usage: python -m nets {{{names}}} --help"
    if word not in ("", "-h", "--help"):
        print(f"error: command = {word!r}: {usage}", file=sys.stderr)
        sys.exit(USAGE)
    print(usage)


if __name__ == "__main__":
    main()
