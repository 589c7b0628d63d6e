"""What every figure shares: the registry of figures, panels, and how things are drawn and named.

`registry` finds the figures of `figures.papers`; a claim without one gets the `default`. A `panel`
is a claim against one of its axes, drawn in one `style`, with the `labels` and the `legend` that
figures have in common.
"""

__all__ = ["default", "labels", "legend", "panel", "registry", "style"]
