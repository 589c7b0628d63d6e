"""The training of one network, or of several seeds at once: steps, epochs, and what is kept.

`step` is the compiled step, `loop` goes from epoch to epoch, `monitor` measures between them and
`collapse` stops what has overfitted. `schedules` are learning rates, `checkpoint` resumes to the
same bits, and `batched_seeds` trains seeds side by side.
"""

__all__ = ["batched_seeds", "checkpoint", "collapse", "loop", "monitor", "schedules", "step"]
