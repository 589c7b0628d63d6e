"""Claims of Lee et al. (DAFA, ICLR 2024): class distance and robust fairness.

Between `two_classes`, and between several `classes`: who is hit, and by whom.
"""

from theory.claims.lee2024 import classes, two_classes

__all__ = ["CLAIMS"]

CLAIMS = (*two_classes.CLAIMS, *classes.CLAIMS)
