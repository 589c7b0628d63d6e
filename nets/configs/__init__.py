"""Recipes of trainings: TOML files in a folder for each data set, and what reads them.

`settings` declares every key with its meaning and default, `recipes` finds, reads and changes a
file, and `toml` is what it shares with the files of studies.
"""

__all__ = ["recipes", "settings", "toml"]
