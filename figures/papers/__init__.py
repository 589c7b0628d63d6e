"""The figures of claims, one module or package for each paper, found by the registry of figures.

A figure is a pure function from the datasets of its claims to a matplotlib figure: no simulation,
no file. A new module here is drawn without being named anywhere else.
"""

__all__ = ["finite_samples", "hu2023", "lee2024", "moayeri2022", "zhong2024"]
