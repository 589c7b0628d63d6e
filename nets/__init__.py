"""Flax networks under the same threat models, intervals and result files as the linear rules.

What a training needs: `data`, `models`, `attacks`, `objectives`, `fairness` methods and `training`
itself, on the devices of `compute`. An `experiment` goes from settings to a folder in `runs`; an
`evaluation` measures a network class by class, and a `study` compares methods over seeds.
`configs` and `studies` hold the recipes, `configs` the keys of their settings, too, and `cli` the
commands of `python -m nets`.
"""

__all__ = [
    "attacks",
    "cli",
    "compute",
    "configs",
    "data",
    "evaluation",
    "experiment",
    "fairness",
    "models",
    "objectives",
    "runs",
    "study",
    "training",
]
