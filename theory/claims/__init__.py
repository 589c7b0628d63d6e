"""The claims, one module or package for each paper, with a tuple CLAIMS that the registry finds.

A `claim` is data; `evaluate` says what it claims at points of its grid, `registry` finds it by name
and `controls` are claims that are wrong on purpose. Papers share the problems in `settings`, and
the closed forms that a kind of problem has by itself, in `kinds`. `finite_samples` and
`linear_rules` are about more than one paper.
"""

__all__ = [
    "claim",
    "controls",
    "evaluate",
    "finite_samples",
    "hu2023",
    "kinds",
    "lee2024",
    "linear_rules",
    "moayeri2022",
    "registry",
    "settings",
    "zhong2024",
]
