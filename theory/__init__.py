"""Closed-form risks of robust linear classifiers. Arrays in, arrays out: jit, vmap and grad apply.

The nouns are in `problem`; `domain` has the checks and the one error, `numerics`
what any formula may need and `stable` the law of the noise. Formulas: `rules` (one linear rule, and
the optimal one), `fairness`, `multiclass`, `regression`, `spurious` and `weights` of classes.
`claims` turns them into sentences of papers that a simulation can contradict. `linear` and
`optimal` are short names for what is asked of `rules` most often.

`python -m theory` lists every claim that the closed forms make; `command_line` is the frame of all
commands.
"""

__all__ = [
    "claims",
    "command_line",
    "domain",
    "fairness",
    "linear",
    "multiclass",
    "numerics",
    "optimal",
    "problem",
    "regression",
    "rules",
    "spurious",
    "stable",
    "weights",
]
