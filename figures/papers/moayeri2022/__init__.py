"""Figures of Moayeri, Banihashem and Feizi (NeurIPS 2022)."""

from figures.papers.moayeri2022 import classification, regression

__all__ = ["classification", "regression"]
