"""Optimal natural and robust linear rules: the public part of the rooms in `theory.rules`.

The name that guides and notebooks use; it stays importable wherever the functions live.
"""

from theory.rules.direction import Direction, Quality, optimal_direction
from theory.rules.intercept import Shift, critical_ratio, fair_shift, optimal_shift, shift_risks
from theory.rules.optimal import class_budget_classifier, optimal_classifier

__all__ = [
    "Direction",
    "Quality",
    "Shift",
    "class_budget_classifier",
    "critical_ratio",
    "fair_shift",
    "optimal_classifier",
    "optimal_direction",
    "optimal_shift",
    "shift_risks",
]
