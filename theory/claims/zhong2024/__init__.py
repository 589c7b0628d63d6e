"""Claims of Zhong and Tandon (2024): same-class mixup, robustness and class-wise risk.

The theorem and what follows (`mixup`), where it ends (`limits`), and `heavy_tails`.
"""

from theory.claims.zhong2024 import heavy_tails, limits, mixup

__all__ = ["CLAIMS"]

CLAIMS = (*mixup.CLAIMS, *heavy_tails.CLAIMS, *limits.CLAIMS)
