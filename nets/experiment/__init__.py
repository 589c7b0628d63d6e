"""From settings to trained networks: one training, or several seeds of it at once.

`prepare` checks every setting and builds the parts before anything is compiled; `seeds` trains
several seeds, each in a folder of its own and as it would be alone.
"""

__all__ = ["prepare", "seeds"]
