"""Adversarial training of many linear models at once: the published grid on regenerated data.

`data` are regenerated, `setup` and `grid` say what is trained, `step`, `optimiser` and `loop` train
it side by side in one executable, `run` measures it on test sets, and `file` keeps it.
"""

__all__ = ["data", "file", "grid", "loop", "optimiser", "run", "setup", "step"]
