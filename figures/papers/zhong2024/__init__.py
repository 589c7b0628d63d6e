"""Figures of Zhong and Tandon (2024)."""

from figures.papers.zhong2024 import limits, mixup

__all__ = ["limits", "mixup"]
