"""Argmax rules between several Gaussian classes: who is taken for whom under attack.

`risk` has the class-wise risks of any rule with linear scores. `distances` has what follows from
the distances between classes alone, and weighted thresholds of classes on a line.
"""

__all__ = ["distances", "risk"]
