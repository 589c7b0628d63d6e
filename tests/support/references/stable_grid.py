"""The reference grid of the symmetric stable law, and how errors on it are measured."""

import functools
import pathlib

import jax
import numpy as np

from theory import stable

with np.load(pathlib.Path(__file__).with_name("stable_reference.npz")) as _file:
    REFERENCE = dict(_file)
ALPHA, X = REFERENCE["alpha"], REFERENCE["x"]
EPS = np.finfo(np.float64).eps
TINY = np.finfo(np.float64).tiny

FUNCTIONS = [
    stable.pdf, stable.logpdf, stable.score, stable.cdf, stable.sf, stable.logsf,
    stable.centered_cdf,
]  # fmt: skip
QUANTILES = [stable.isf, stable.ppf]


def at(f, x, alpha):
    """Returns f at a vector of x and one alpha; padded, so that few shapes are compiled."""
    x = np.asarray(x, getattr(x, "dtype", np.float64))
    padded = np.pad(x, (0, max(0, 96 - len(x))), constant_values=0.25)
    return np.asarray(f(padded, x.dtype.type(alpha)))[..., : len(x)]


@functools.cache
def slopes(f, argument=0, mode=jax.grad):
    """Returns the derivative of f at a vector of x and one alpha."""
    return jax.jit(jax.vmap(mode(f, argument), (0, None)))


def over_alphas(f, x=X):
    """Returns f(x, alpha), (alphas, len(x)), for every reference alpha, each as a 0-d array."""
    return np.stack([at(f, x, alpha) for alpha in ALPHA])


def worst(value, truth, scale=None, mask=True):
    """Returns the largest error over `scale` (default |truth|) and the (alpha, x) where it is."""
    scale = np.abs(truth) if scale is None else scale
    mask = mask & (scale > TINY)
    error = np.where(mask, np.abs(value - truth) / np.where(mask, scale, 1), 0)
    at = np.unravel_index(error.argmax(), error.shape)
    return error.max(), (ALPHA[at[0]], X[at[1]])
