"""Classification with a spurious attribute: what reliance on it costs, and how it is reported.

`risk` has a linear model of Waterbirds in closed form, group by group; `report` turns what a
classifier got right into the measures that papers give, and `waterbirds` does so for the model.
"""

__all__ = ["report", "risk", "waterbirds"]
