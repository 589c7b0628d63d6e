"""python -m figures: simulate, judge and draw every claim."""

from __future__ import annotations

import logging
import os
import pathlib
from typing import TYPE_CHECKING

import tyro

from sims import files
from sims.cli.frame import CONTRADICTED, progress_bar, run, side_by_side
from sims.files.refusal import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from matplotlib.figure import Figure

    from sims.sweep.plan import SweepPlan
    from sims.sweep.run import PreparedSweep


def make(
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    trials: int = 200_000,
    seed: int = 0,
    level: float = 1e-3,
    out: pathlib.Path = pathlib.Path("gallery"),
    fresh: bool = False,
    data: tuple[pathlib.Path, ...] = (),
) -> int:
    """Make the figures: PNG and PDF, the data of each claim beside them, and index.html.

    Exit status: 0 every claim agrees; 1 one is contradicted or has no verdict; 2 bad input.
    A killed run goes on where it was when the same command is given again.

    Args:
        names: figures or claims (`python -m theory` lists them); every figure if none is named
        trials: points of each class at each grid point
        seed: seed of all draws, in [0, 2^32)
        level: chance that any interval of the gallery misses its risk
        out: folder of the gallery
        fresh: set result files of earlier settings or code aside as NAME.nc.old (NAME.nc.old.2
            and so on where there is one) and start anew
        data: instead of a gallery, draw these result files, of `python -m sims train-grid`,
            `python -m nets evaluate` or `python -m nets study`
    """
    _quiet_matplotlib()
    if data:
        _require_files_alone(names, fresh)
        return _draw_files(data, out)
    from figures import gallery
    from figures.kit import registry, saving, style
    from sims.stats import interval
    from sims.sweep import run as sweep_run
    from sims.sweep.plan import make_plan
    from sims.sweep.verdict import summarise
    from theory.claims.registry import find

    interval.require_level(level)
    style.use()
    everything, chosen = registry.pictures(), registry.choose(names)
    claims = list(dict.fromkeys(claim for picture in chosen for claim in picture.claims))
    share = level / len({claim for picture in everything.values() for claim in picture.claims})
    # All settings are looked at before the first file is set aside.
    plans = [make_plan(find(claim), trials=trials, seed=seed) for claim in claims]
    pictures = [out / f"{picture.name}.{kind}" for picture in chosen for kind in ("png", "pdf")]
    if not all(path.is_file() for path in (*pictures, out / "index.html")):
        files.require_writable(out)

    def prepare(plan: SweepPlan) -> PreparedSweep:
        path = out / f"{plan.claim.name}.nc"
        if fresh:
            _set_aside(path, plan)
        return sweep_run.prepare_sweep(plan, level=share, path=path)

    datasets: dict[str, xr.Dataset] = {}
    status = 0
    with progress_bar() as add, side_by_side() as each:
        # Every file and every closed form is looked at before the first draw.
        prepared = list(each(prepare, plans))

        def count(sweep: PreparedSweep) -> xr.Dataset:
            return sweep_run.run(sweep, progress=add(sweep.plan.claim.name))

        counted = zip(claims, each(count, prepared), strict=True)
        for picture in chosen:
            # Drawn while later claims are counted; claims come in the order of the pictures.
            while not datasets.keys() >= set(picture.claims):
                claim, datasets[claim] = next(counted)
                summary = summarise(datasets[claim])
                print(f"{claim}: {summary.text}", flush=True)
                status |= 0 if summary.agrees else CONTRADICTED
            shown = saving.data_digest(datasets[claim] for claim in picture.claims)
            saving.save(picture.draw(datasets), picture.name, out, shown)
    print(f"{gallery.write(out, chosen, datasets, level)}")
    return status


def _quiet_matplotlib() -> None:
    """Keeps a user's backend, and notes about fonts and folders for settings, out of what we do."""
    # Read when matplotlib is loaded, and an unknown one is an error then.
    os.environ["MPLBACKEND"] = "Agg"
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _set_aside(path: pathlib.Path, plan: SweepPlan) -> None:
    """Renames a result file that the plan cannot go on from; one that it can is left to go on."""
    from sims.sweep import file as sweep_file
    from theory.domain import InvalidInput

    try:
        sweep_file.resume(path, plan)
    except InvalidInput:
        aside, number = path.with_name(f"{path.name}.old"), 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.name}.old.{number}")
        path.rename(aside)


def _require_files_alone(names: tuple[str, ...], fresh: bool) -> None:
    """Raises InvalidInput for words that drawing files would ignore."""
    if names or fresh:
        given = f"figure = {names[0]!r}" if names else "fresh"
        raise refusal(f"{given}: has no effect with --data, which draws files alone")


def _draw_files(paths: tuple[pathlib.Path, ...], out: pathlib.Path) -> int:
    """Draws result files, each as its kind asks, once all of them have been read."""
    from figures.kit import saving, style
    from nets.evaluation import file as evaluation_file
    from nets.study import file as study_file
    from sims.sweep import file as sweep_file

    style.use()
    loaded = [sweep_file.load(path, ()) for path in paths]
    drawings = [_drawing(path, dataset) for path, dataset in zip(paths, loaded, strict=True)]
    names: dict[str, pathlib.Path] = {}
    for path, dataset in zip(paths, loaded, strict=True):
        # Runs of networks may all call their file alike; their folders differ.
        of_run = dataset.attrs.get("kind") in (evaluation_file.KIND, study_file.KIND)
        name = f"{path.absolute().parent.name}-{path.stem}" if of_run else path.stem
        if name in names:
            raise refusal(f"data = {path}: its picture would replace that of {names[name]}")
        names[name] = path
    files.require_writable(out)
    for name, dataset, draw in zip(names, loaded, drawings, strict=True):
        for part, drawn in draw(dataset).items():
            print(saving.save(drawn, f"{name}-{part}" if part else name, out))
    return 0


def _drawing(path: pathlib.Path, dataset: xr.Dataset) -> Callable[[xr.Dataset], dict[str, Figure]]:
    """Returns what draws a result file, once the file has all that is drawn."""
    from nets.evaluation import file as evaluation_file
    from nets.study import file as study_file
    from sims.files import schema
    from sims.training import file as training_file

    if "claim" in dataset.attrs and "theory" in dataset:
        raise refusal(
            f"data = {path}: is a sweep of {dataset.attrs['claim']!r}, whose figure "
            f"`python -m figures` makes; must be of train-grid, evaluate or study"
        )
    kind = dataset.attrs.get("kind")
    if kind == study_file.KIND:
        from figures.results.studies import study

        study_file.require(path, dataset)
        return study
    if kind == evaluation_file.KIND:
        from figures.results.networks import evaluation as draw

        evaluation_file.require(path, dataset)
    else:
        from figures.results.training_grid import training as draw

        files.require_variables(path, dataset, training_file.VARIABLES)
        schema.require(path, dataset, training_file.TABLE)
    return lambda whole: {"": draw(whole)}


if __name__ == "__main__":
    run(make, "python -m figures")
