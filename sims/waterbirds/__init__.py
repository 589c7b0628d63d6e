"""Synthetic Waterbirds: a foreground that tells the class, a background that misleads.

`images` draws them pixel by pixel; `rules` perturbs, classifies and counts the errors of linear
rules on them.
"""

__all__ = ["images", "rules"]
