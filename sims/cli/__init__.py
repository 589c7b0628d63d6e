"""The command line of `python -m sims`, and the frame that the other command lines share.

`frame` parses before JAX is imported and turns an error into one line and a status; `commands` and
`waterbirds` have the commands beside the test of claims, each a word and its options.
"""

__all__ = ["commands", "frame", "waterbirds"]
