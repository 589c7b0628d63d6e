"""The training of one network, or of several seeds at once: steps, epochs, and what is kept.

`step` is the compiled step, `epoch` takes it over the images, `loop` goes from epoch to epoch and
`between_epochs` is what happens there: `monitor` measures, `collapse` stops what has overfitted.
`progress` is what goes on, `checkpoint` keeps it to the same bits, `schedules` are learning rates,
and `batched_seeds` trains seeds side by side.
"""

__all__ = [
    "batched_seeds",
    "between_epochs",
    "checkpoint",
    "collapse",
    "epoch",
    "loop",
    "monitor",
    "progress",
    "schedules",
    "step",
]
