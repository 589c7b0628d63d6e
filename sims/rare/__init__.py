"""Risks too small to count, by importance sampling with likelihood ratios that are bounded.

`proposals` draws noise where errors are, `risks` weighs the errors of a rule, and `claims` tests
claims on class risks this way.
"""

__all__ = ["claims", "proposals", "risks"]
