"""Image data sets as arrays, from their authors' files, and the parts of them that are trained on.

`load` gives a data set by name: from `sources`, by `download`, read in one of the `formats`, as
`pixels` in [0, 1]. `select` and `subsets` take classes, tails and held-out parts of it.
"""

__all__ = ["download", "formats", "load", "pixels", "select", "sources", "subsets"]
