"""Claims of Hu, Wu, Zhang and Zhao (ICML 2023): robustness, imbalance and accuracy disparity.

`gaussian` mixtures, and stable ones with `heavy_tails`, where imbalance acts otherwise.
"""

from theory.claims.hu2023 import gaussian, heavy_tails

__all__ = ["CLAIMS"]

CLAIMS = (*gaussian.CLAIMS, *heavy_tails.CLAIMS)
