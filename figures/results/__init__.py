"""Pictures of result files: evaluated networks, studies of methods, trained grids.

`networks`, `studies` and `training_grid` draw one kind of file each:
`python -m figures --data FILE`.
"""

__all__ = ["networks", "studies", "training_grid"]
