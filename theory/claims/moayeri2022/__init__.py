"""Claims of Moayeri, Banihashem and Feizi (NeurIPS 2022): spurious features.

For `classification` with a spurious attribute, and for `regression`, where the theorems are: of one
core and one spurious feature, and of `several_features`, where no path is known in closed form.
"""

from theory.claims.moayeri2022 import classification, regression, several_features

__all__ = ["CLAIMS"]

CLAIMS = (*classification.CLAIMS, *regression.CLAIMS, *several_features.CLAIMS)
