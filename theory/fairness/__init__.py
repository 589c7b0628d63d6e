"""Whom robustness costs: class-wise effects of imbalance, distance, mixup and finite samples.

`disparity` takes apart what the optimal rule costs each class, `distance` and `distance_fairness`
ask when closer classes are hit harder, `mixup` moves the points before the rule is found, and
`dafa_warm_up` follows a published weighting from warm-up to errors. `finite_samples` bounds what a
count, or a fitted rule, can be off.
"""

__all__ = ["dafa_warm_up", "disparity", "distance", "distance_fairness", "finite_samples", "mixup"]
