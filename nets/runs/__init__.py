"""Folders of runs: what a network is, how it came about, and its parameters.

`folder` writes and reads one, whole or not at all; `record` says what its run.json must hold;
`lock` keeps it to one process.
"""

__all__ = ["folder", "lock", "record"]
