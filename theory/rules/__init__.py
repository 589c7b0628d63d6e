"""Linear rules for two classes: their risks, and the optimal one for a law, a prior and a threat.

`risk` has the class-wise risks of any rule. The `optimal` rule is the `direction` of largest robust
margin with its best `intercept`; beyond a `critical_ratio` of imbalance it is a constant. `grid`
answers for large grids in flat memory. `class_covariance` and `logistic` are other optima: of
classes whose covariances differ, and of the loss that gradient training lowers.
"""

__all__ = [
    "class_covariance",
    "critical_ratio",
    "direction",
    "grid",
    "intercept",
    "logistic",
    "optimal",
    "risk",
]
