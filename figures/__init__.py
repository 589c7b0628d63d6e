"""Pictures of claims: closed forms as lines, simulation as points with exact intervals.

`python -m figures` makes every registered figure and a gallery of them.
"""
