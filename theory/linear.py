"""Class-wise natural and robust risk of any linear rule: the public part of `theory.rules.risk`.

The name that guides and notebooks use; it stays importable wherever the functions live.
"""

from theory.rules.risk import (
    ClassRisks,
    class_risks,
    disparity,
    dual_norm,
    log_class_risks,
    log_projection_cdf,
    projection_cdf,
    projection_scale,
    risk,
)

__all__ = [
    "ClassRisks",
    "class_risks",
    "disparity",
    "dual_norm",
    "log_class_risks",
    "log_projection_cdf",
    "projection_cdf",
    "projection_scale",
    "risk",
]
