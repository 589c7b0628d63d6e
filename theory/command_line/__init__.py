"""The frame of every command line: words become typed values, an error one line and a status.

`frame` runs a command and ends the process, `words` reads options and names, `numbers` is the one
grammar of numbers and `lasting` keeps work alive whose output is no longer read. Nothing here loads
NumPy before the words are known to be right.
"""

__all__ = ["frame", "lasting", "numbers", "words"]
