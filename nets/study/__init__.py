"""Studies: several methods of training with several seeds under one budget, and what they show.

`plan` reads and checks one, `run` trains what is missing, `file` is the result and `report` says,
with intervals, what helps, hurts, or is too small to see.
"""

__all__ = ["file", "plan", "report", "run"]
