"""Pictures of claims: closed forms as lines, simulation as points with exact intervals.

`papers` has the figures, one module or package for each paper, `results` those of trained networks
and grids, both drawn with `kit`; `gallery` is the page of all. Nothing imports `figures`.

`python -m figures` makes every registered figure and a gallery of them.
"""

__all__ = ["gallery", "kit", "papers", "results"]
