"""Sweeps: counts of a claim on a grid of its parameters, chunk by chunk, with a verdict.

`plan` says what is counted, `run` counts it, on the `devices` of all `hosts`, into a `file`, which
a `verdict` judges. `self_test` plants wrong formulas, all of which must be rejected.
"""

from sims.sweep.run import sweep

__all__ = ["sweep"]
