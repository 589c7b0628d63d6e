"""What every figure shares: the registry of figures, panels, and how things are drawn and named.

A `picture` is declared in `figures.papers`, where the `registry` finds it; a claim without one gets
the `default`. A `panel` is a claim against one of its axes, drawn in one `style`, with the `labels`
and the `legend` that figures have in common; `saving` makes files of them.
"""

__all__ = ["default", "labels", "legend", "panel", "picture", "registry", "saving", "style"]
