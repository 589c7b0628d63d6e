"""Tests of the noise itself: do draws follow the law that the claims assume?

`validate` gives a verdict on claimed tail probabilities from draws counted over many `thresholds`
at once.
"""

__all__ = ["thresholds", "validate"]
