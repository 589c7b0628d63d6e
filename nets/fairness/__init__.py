"""Class-wise fairness of robust training: each method as a small state, by published rules.

A `method` says what it changes in an objective and what it learns from, the `statistics` of an
epoch; `methods` finds one by name. `balance`, `cfa`, `dafa`, `faal`, `frl` and `wat` are the
methods, and their formulas are those of `theory.weights`.
"""

__all__ = ["balance", "cfa", "dafa", "faal", "frl", "method", "methods", "statistics", "wat"]
