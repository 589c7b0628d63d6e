"""Whole grids of class risks in seconds, from the one-dimensional margin: exploration, no evidence.

`explore` draws the margin instead of the point, and says so in its files; `cells` counts the errors
of many such problems by one executable.
"""

__all__ = ["cells", "explore"]
