"""The gallery: one page with every picture and what was found about every claim."""

import html
import pathlib
from collections.abc import Mapping, Sequence

import xarray as xr

from figures.kit.picture import Picture
from sims.sweep.verdict import summarise
from theory.claims.registry import bibtex, find

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
{figures}
</body></html>
"""
FIGURE = """<figure id="{name}"><img src="{name}.png" alt="{caption}">
<figcaption><p>{caption} <a href="{name}.pdf">PDF</a></p>
<table><tr><th>claim</th><th>source</th><th>verdict</th></tr>
{rows}</table></figcaption></figure>"""
ROW = """<tr><td><a href="{claim}.nc">{claim}</a><br>{statement}</td>
<td><details><summary>{source}</summary><pre>{bibtex}</pre></details></td>
<td{mark}>{verdict}</td></tr>"""


# Everything that comes from a claim or a file is escaped: statements hold < and &.
def _row(dataset: xr.Dataset) -> str:
    summary, claim = summarise(dataset), find(dataset.claim)
    return ROW.format(
        claim=claim.name,
        statement=html.escape(claim.statement),
        source=html.escape(f"{claim.source.key}, {claim.source.result}"),
        bibtex=html.escape(bibtex(claim.source.key)),
        verdict=html.escape(summary.text),
        mark="" if summary.agrees else ' class="bad"',
    )


def page(pictures: Sequence[Picture], datasets: Mapping[str, xr.Dataset], level: float) -> str:
    """Returns the HTML page of these pictures and the judged sweeps that they show."""
    figures = [
        FIGURE.format(
            name=picture.name,
            caption=html.escape(picture.caption),
            rows="\n".join(_row(datasets[claim]) for claim in picture.claims),
        )
        for picture in pictures
    ]
    return PAGE.format(figures="\n".join(figures), level=level)


def write(
    folder: pathlib.Path,
    pictures: Sequence[Picture],
    datasets: Mapping[str, xr.Dataset],
    level: float,
) -> pathlib.Path:
    """Writes `index.html` into the folder and returns its path."""
    target = folder / "index.html"
    target.write_text(page(pictures, datasets, level), encoding="utf-8")
    return target
