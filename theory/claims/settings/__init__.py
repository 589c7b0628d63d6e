"""Problems, axes and short closed forms that the claims of several papers share.

`two_classes` and `mixup` are settings of classification, `pair_regressions` of regression;
`noise_law` is about the noise itself, without any classifier. No claim is made here: the modules
of `theory.claims` do that.
"""

__all__ = ["mixup", "noise_law", "pair_regressions", "two_classes"]
