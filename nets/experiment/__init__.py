"""From settings to trained networks: one training, or several seeds of it at once.

`prepare` checks every setting before anything is compiled: `requirements` looks at the numbers and
`build` makes network, images and step of them. `run` trains one into its folder; `seeds` trains
several seeds, each in a folder of its own and as it would be alone; `leftovers` clears what a kill
left of a finished one.
"""

__all__ = ["build", "leftovers", "prepare", "requirements", "run", "seeds"]
