"""Figures of Lee et al. (DAFA, ICLR 2024)."""

from figures.papers.lee2024 import classes, two_classes

__all__ = ["classes", "two_classes"]
