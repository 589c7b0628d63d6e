"""The gallery: one page with every picture of its folder and what was found about every claim.

A run draws some pictures; those that earlier runs have left in the folder stay on the page, marked
where they are of other settings, other code or other data, or named where they cannot be shown.
"""

import html
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import xarray as xr

from figures.kit import registry, saving
from figures.kit.picture import Picture
from sims.sweep import claim_code
from sims.sweep import file as sweep_file
from sims.sweep.verdict import summarise
from theory.claims.registry import bibtex, find
from theory.domain import InvalidInput

# What a verdict adds to the counts of a file.
JUDGED = ("estimate", "low", "high", "detectable", "refuted", "verdict")
SETTINGS = {"trials_per_class": "points of each class", "until_width": "width", "seed": "seed"}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>robust-risk: claims and what simulation says of them</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; }}
figure {{ margin: 2.5rem 0; border-top: 1px solid #ccc; padding-top: 1rem; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; width: 100%; font-size: 0.9rem; }}
td, th {{ text-align: left; vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0; }}
tr + tr {{ border-top: 1px solid #eee; }}
pre {{ font-size: 0.8rem; overflow-x: auto; }}
.bad {{ font-weight: bold; text-decoration: underline; }}
</style></head><body>
<h1>robust-risk</h1>
<p>Lines are closed forms, points are simulations with simultaneous exact intervals. A claim is
<em>contradicted</em> when an interval excludes it; otherwise the smallest error that would have
been seen is given. All intervals of this page hold together with probability at least
1 − {level:g}.</p>
{figures}{missing}
</body></html>
"""
FIGURE = """<figure id="{name}"><img src="{name}.png" alt="{caption}">
<figcaption><p>{caption} <a href="{name}.pdf">PDF</a></p>{notes}
<table><tr><th>claim</th><th>source</th><th>verdict</th></tr>
{rows}</table></figcaption></figure>"""
ROW = """<tr><td><a href="{claim}.nc">{claim}</a><br>{statement}</td>
<td><details><summary>{source}</summary><pre>{bibtex}</pre></details></td>
<td{mark}>{verdict}</td></tr>"""


class Entry(NamedTuple):
    """A picture of the page: the judged sweeps that it shows, and what must be said of it."""

    picture: Picture
    datasets: tuple[xr.Dataset, ...]
    notes: tuple[str, ...] = ()


class Content(NamedTuple):
    """What a page shows, and a line for each picture that it cannot show."""

    entries: tuple[Entry, ...]
    missing: tuple[str, ...] = ()


def content(
    folder: pathlib.Path, chosen: Sequence[Picture], datasets: Mapping[str, xr.Dataset]
) -> Content:
    """Returns what the page of a folder shows, in the order of the registry.

    Args:
        folder: of the gallery.
        chosen: the pictures of this run.
        datasets: the judged sweeps of this run, by claim.
    """
    names, read = {picture.name for picture in chosen}, dict(datasets)
    entries, missing = [], []
    settings = _settings(next(iter(datasets.values()))) if datasets else ""
    for picture in registry.pictures().values():
        if picture.name in names:
            entries.append(Entry(picture, tuple(datasets[claim] for claim in picture.claims)))
            continue
        try:
            if (entry := _left(folder, picture, read, settings)) is not None:
                entries.append(entry)
        except InvalidInput as error:
            missing.append(f"{picture.name}: {error}")
    return Content(tuple(entries), tuple(missing))


def _left(
    folder: pathlib.Path, picture: Picture, read: dict[str, xr.Dataset], settings: str
) -> Entry | None:
    """Returns the entry of a picture that an earlier run has left, or None if none has.

    Raises:
        InvalidInput: if it cannot be shown.
    """
    drawn = folder / f"{picture.name}.png"
    if not drawn.is_file():
        # Claims are in several pictures: all data and no picture is what a run that stopped leaves.
        if not all((folder / f"{claim}.nc").is_file() for claim in picture.claims):
            return None
        raise InvalidInput(f"picture = {drawn}: not drawn yet; {_command(picture)} draws it")
    for claim in picture.claims:
        if claim not in read:
            read[claim] = _judged(folder / f"{claim}.nc", claim)
    datasets = tuple(read[claim] for claim in picture.claims)
    notes = []
    if saving.data_of(drawn) != saving.data_digest(datasets):
        notes.append(f"Not drawn from the data beside it; {_command(picture)} draws it anew.")
    if any(dataset.attrs.get("code") != _code(dataset) for dataset in datasets):
        notes.append("Counted by other code than this page was made by.")
    if any(
        (dataset["trials"] < dataset.attrs.get("trials_per_class", 0)).any() for dataset in datasets
    ):
        notes.append(f"Not all points were counted; {_command(picture)} goes on.")
    others = [mine for mine in map(_settings, datasets) if mine != settings]
    notes += [f"Of other settings: {mine}." for mine in dict.fromkeys(others)]
    return Entry(picture, datasets, tuple(notes))


def _judged(path: pathlib.Path, claim: str) -> xr.Dataset:
    dataset = sweep_file.load(path, (*sweep_file.COMMON, *JUDGED))
    if dataset.attrs["claim"] != claim or "level" not in dataset.attrs:
        raise InvalidInput(f"results = {path}: must be a judged sweep of {claim}")
    return dataset


def _command(picture: Picture) -> str:
    return f"`python -m figures {picture.name}`"


def _code(dataset: xr.Dataset) -> str:
    return claim_code.digest(find(dataset.attrs["claim"]))


def _settings(dataset: xr.Dataset) -> str:
    """Returns the settings of a sweep in words."""
    given = {meaning: dataset.attrs.get(name) for name, meaning in SETTINGS.items()}
    return ", ".join(f"{meaning} {value}" for meaning, value in given.items() if value is not None)


def joint_level(entries: Sequence[Entry], level: float) -> float:
    """Returns the level at which all intervals of a page hold together, never less than it is.

    Args:
        entries: of the page; the file of each claim has a level of its own.
        level: of the run, of which each of its claims has a share.
    """
    shares = {d.attrs["claim"]: float(d.attrs["level"]) for e in entries for d in e.datasets}
    total = math.fsum(shares.values())
    if total <= level * (1 + 1e-9):
        return level
    # Rounded up to what the page shows of it.
    step = 10.0 ** (math.floor(math.log10(total)) - 2)
    return math.ceil(total / step) * step


# Everything that comes from a claim or a file is escaped: statements hold < and &.
def _row(dataset: xr.Dataset) -> str:
    summary, claim = summarise(dataset), find(dataset.claim)
    return ROW.format(
        claim=html.escape(claim.name),
        statement=html.escape(claim.statement),
        source=html.escape(f"{claim.source.key}, {claim.source.result}"),
        bibtex=html.escape(bibtex(claim.source.key)),
        verdict=html.escape(summary.text),
        mark="" if summary.agrees else ' class="bad"',
    )


def _notes(notes: Sequence[str]) -> str:
    return "".join(f'\n<p class="bad">{html.escape(note)}</p>' for note in notes)


def page(shown: Content, level: float) -> str:
    """Returns the HTML page of what a folder holds, for a run of that level."""
    figures = [
        FIGURE.format(
            name=html.escape(picture.name),
            caption=html.escape(picture.caption),
            notes=_notes(notes),
            rows="\n".join(map(_row, datasets)),
        )
        for picture, datasets, notes in shown.entries
    ]
    lines = "".join(f"\n<li>{html.escape(line)}</li>" for line in shown.missing)
    return PAGE.format(
        figures="\n".join(figures),
        missing=f"\n<p>Not shown:</p>\n<ul>{lines}\n</ul>" if lines else "",
        level=joint_level(shown.entries, level),
    )


def write(
    folder: pathlib.Path,
    chosen: Sequence[Picture],
    datasets: Mapping[str, xr.Dataset],
    level: float,
) -> pathlib.Path:
    """Writes `index.html` into the folder, as a whole or not at all, and returns its path.

    Args:
        folder: of the gallery.
        chosen: the pictures of this run; those of earlier ones are found in the folder.
        datasets: the judged sweeps of this run, by claim.
        level: chance that any interval of this run misses its risk.

    Raises:
        InvalidInput: if it cannot be written; the page that was there is untouched.
    """
    target = folder / "index.html"
    text = page(content(folder, chosen, datasets), level)
    saving.put(target, text.encode(), "page")
    return target
