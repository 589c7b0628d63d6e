"""Simulators that sample every coordinate, perturb the point, classify it and count errors.

Nothing here knows a closed form: `sims` imports the nouns and the claims of `theory`, no formula.
`simulate` draws (with `random`) and counts, `sweep` does so over a grid, `stats` turns counts into
intervals, and `rare`, `noise`, `projection` answer what plain counts cannot. `training` fits grids
of linear models and `waterbirds` has images. `files` and `provenance` keep results whole and say
what made them; `cli` is the command line.

`python -m sims` tests claims against simulation.
"""

__all__ = [
    "cli",
    "files",
    "noise",
    "projection",
    "provenance",
    "random",
    "rare",
    "simulate",
    "stats",
    "sweep",
    "training",
    "waterbirds",
]
