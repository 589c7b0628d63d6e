"""Claims of Moayeri, Banihashem and Feizi (NeurIPS 2022): spurious features.

For `classification` with a spurious attribute, and for `regression`, where the theorems are.
"""

from theory.claims.moayeri2022 import classification, regression

__all__ = ["CLAIMS"]

CLAIMS = (*classification.CLAIMS, *regression.CLAIMS)
