"""What every figure shares: the registry of figures, the style, and one panel.

`registry` finds the figures of `figures.papers`; a claim without one gets the `default`. A `panel`
is a claim against one of its axes, drawn in one `style`.
"""

__all__ = ["default", "panel", "registry", "style"]
