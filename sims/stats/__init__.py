"""Intervals and tests that hold for finite samples, on the host in float64.

An `interval` for a probability from a count; for means of bounded variables `bounded_mean` and, in
any order, `average_mean`; for a `squared_risk` under attack; and `e_values`, evidence that is valid
whenever one looks at it.
"""

__all__ = ["average_mean", "bounded_mean", "e_values", "interval", "squared_risk"]
