"""Figures of Hu, Wu, Zhang and Zhao (ICML 2023)."""

from figures.papers.hu2023 import decomposition, gaussian, heavy_tails

__all__ = ["decomposition", "gaussian", "heavy_tails"]
