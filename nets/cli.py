"""The commands of python -m nets beside training: each a word and its options."""

from __future__ import annotations

import pathlib
from typing import Literal

import tyro

from sims.cli.frame import progress_bar, require_file_name

# Written out, not made of `nets.attacks.threats.NORMS`, whose import would load JAX before --help.
Norm = Literal["linf", "l2", "l1"]
DEFAULT_NAME = "evaluation"


def evaluate(
    folder: tyro.conf.Positional[pathlib.Path],
    /,
    *,
    norm: Norm | None = None,
    radius: float | None = None,
    protocol: str = "budget",
    samples: int | None = None,
    directory: pathlib.Path | None = None,
    level: float = 0.05,
    seed: int | None = None,
    block: int = 128,
    masking: bool = False,
    name: str = DEFAULT_NAME,
) -> int:
    """Evaluate a run class by class, without attack and under a list of attacks.

    Leaves RUN/NAME.nc, which `python -m figures --data` draws and `compare` reads; a file of other
    settings or parameters is refused, never overwritten. One that was stopped goes on with the same
    command from what RUN/NAME.unfinished holds, and ends in the same bytes.
    Exit status: 0 done; 2 bad input.

    Args:
        folder: of the run
        norm: of the ball; that of the training if not given
        radius: of the ball, pixels lie in [0, 1]; that of the training if not given
        protocol: which attacks: quick (PGD), budget (Auto-PGD) or standard (then Square); of a
            linear network, such as logistic, all use the one exact attack
        samples: the first so many test samples; all if not given
        directory: where data sets are; the environment variable ROBUST_RISK_DATA if not given
        level: chance that any class interval of the evaluation misses
        seed: of the attacks, in [0, 2^32); that of the training if not given
        block: samples computed together
        masking: look for signs of gradient masking, where attacks fail though the network is not
            robust, on the first 100 samples; the protocol standard always does
        name: of the result file
    """
    # Imported by the command itself, so that --help answers before JAX has been loaded.
    from nets.evaluation import file as evaluation_file
    from nets.evaluation.run import Request, evaluate_run
    from nets.experiment import leftovers

    require_file_name("name", name)
    leftovers.clear(folder)
    path = folder / f"{name}.nc"
    request = Request(norm, radius, protocol, samples, level, seed, block, masking)
    with progress_bar() as add:
        dataset = evaluate_run(folder, path, request, add, directory=directory)
    print(f"{evaluation_file.summary(dataset)}\n{path}")
    return 0


def compare(
    first: tyro.conf.Positional[pathlib.Path],
    second: tyro.conf.Positional[pathlib.Path],
    /,
    *,
    level: float = 0.05,
    name: str = DEFAULT_NAME,
) -> int:
    """Compare two evaluated runs on the same samples: paired, exact, corrected over classes.

    Exit status: 0 done; 2 bad input.

    Args:
        first: folder of the run to compare with
        second: folder of the run compared
        level: chance that any interval misses, and of the family of tests
        name: of the result files of both
    """
    from nets.evaluation import file as evaluation_file
    from nets.evaluation.run import load_of_run
    from sims.stats.interval import require_level

    require_file_name("name", name)
    require_level(level)
    paths = ((folder, folder / f"{name}.nc") for folder in (first, second))
    before, after = (load_of_run(folder, path) for folder, path in paths)
    print(evaluation_file.comparison(before, after, level))
    return 0


def study(
    words: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    out: pathlib.Path | None = None,
    directory: pathlib.Path | None = None,
    markdown: bool = False,
) -> int:
    """Train several methods with several seeds as a study says, and compare them on paired images.

    Leaves OUT/METHOD-seedSEED, a run folder with its evaluation for each, as `train` would, and
    OUT/study.nc, which `report` prints and `python -m figures --data` draws. What is finished is
    looked at and kept; a study that was stopped goes on with the same command. A folder that holds
    a run of other settings is refused before any computation. Exit status: 0 done; 2 bad input.

    Args:
        words: STUDY [key=value ...]: a file of nets/studies by name, or a .toml of your own, then
            settings in place of the file's, such as seeds=[0], methods.dafa.mix=0.5, or epochs=3 of
            all trainings whose own tables say nothing else
        out: folder of the study; runs/STUDY if not given
        directory: where data sets are; the environment variable ROBUST_RISK_DATA if not given
        markdown: print the tables as Markdown
    """
    from nets.study import plan as study_plan
    from nets.study import run as study_run

    # Lines are flushed: a study runs for hours, and its output is often a file that is watched.
    wanted = study_plan.read(words)
    out = out or pathlib.Path("runs") / wanted.name
    with progress_bar() as add:
        path = study_run.run(wanted, out, directory, add, lambda line: print(line, flush=True))
    study_report(path, markdown=markdown)
    print(path)
    return 0


def study_report(
    path: tyro.conf.Positional[pathlib.Path],
    /,
    *,
    level: float | None = None,
    markdown: bool = False,
) -> int:
    """Print the tables of a study: every method against the reference, with intervals and verdicts.

    Exit status: 0 done; 2 bad input.

    Args:
        path: the result file of `study`
        level: chance that any interval misses; that of the study if not given
        markdown: as Markdown
    """
    from nets.study import file as study_file
    from nets.study import report
    from sims.stats.interval import require_level

    if level is not None:
        require_level(level)
    changes = report.changes(study_file.load(path), level)
    print(report.markdown(changes) if markdown else report.summary(changes))
    return 0
