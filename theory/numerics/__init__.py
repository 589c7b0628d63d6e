"""Numerical methods that any formula may need; nothing here knows a mixture or a risk.

Values: `elementary` functions, `norms`, the `bivariate` normal law, `halfspaces`. Solvers: `root`
in a bracket, `local_search`, `interior_point` and `dense` linear algebra, differentiable where a
formula needs it. `broadcast` and `elementwise` make scalar code functions of arrays, `noun`
NamedTuples of arrays that check what they are given, and `arguments` those of functions.
"""

__all__ = [
    "arguments",
    "bivariate",
    "broadcast",
    "dense",
    "elementary",
    "elementwise",
    "halfspaces",
    "interior_point",
    "local_search",
    "norms",
    "noun",
    "root",
]
