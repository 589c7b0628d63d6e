"""Synthetic Waterbirds: images whose foreground tells the class and whose background misleads.

A label y = +-1 brightens or darkens a disc, an attribute a = +-1 everything around it, and every
pixel is noisy. The templates are flat with norm one, so that an image of a disc that stays in place
is x = y m t_C + a n t_S + s noise: the linear model of the closed forms, pixel by pixel.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sims.random import draws
from theory.domain import InvalidInput

SIZES = (16, 32)
# (label, attribute), in the order in which group sizes are given.
GROUPS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
# The training split of the photographs: land bird on land, on water, water bird on land, on water.
WATERBIRDS = (3498, 184, 56, 1057)


def require(name: str, value: Any, good: bool, allowed: str) -> None:
    """Raises InvalidInput naming the argument, its value and what is allowed, unless it is good."""
    if not good:
        raise InvalidInput(f"{name} = {value!r}: must be {allowed}")


def is_whole(value: Any) -> bool:
    """Returns whether this is a Python or NumPy integer; a truth value is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


class Scene(NamedTuple):
    """What the images show; Python numbers, static under `jit`. Checked by `make_scene`.

    Args:
        core: m, the distance of a class from the centre along the template of the disc.
        spurious: n, the same of an attribute along the template of the background.
        noise: s, standard deviation of every pixel.
        size: height and width in pixels.
        radius: of the disc, in pixels.
        moving: whether the disc is anywhere in the image, or always in the centre.
    """

    core: float
    spurious: float
    noise: float
    size: int
    radius: float
    moving: bool

    @property
    def foreground(self) -> np.ndarray:
        """The disc in the centre of the image, booleans (size, size)."""
        offset = np.arange(self.size) - (self.size - 1) / 2
        return offset[:, None] ** 2 + offset[None, :] ** 2 <= self.radius**2

    @property
    def pixels(self) -> tuple[int, int]:
        """The numbers of pixels of the disc and of the background."""
        disc = int(self.foreground.sum())
        return disc, self.size**2 - disc


class WaterbirdImages(NamedTuple):
    """Labelled images.

    Args:
        images: (n, size, size).
        labels, attributes: -1 or +1, int32, (n,).
        foreground: where the disc is, booleans (n, size, size).
    """

    images: jax.Array
    labels: jax.Array
    attributes: jax.Array
    foreground: jax.Array


def make_scene(
    core: float,
    spurious: float,
    noise: float,
    *,
    size: int = 16,
    radius: float | None = None,
    moving: bool = False,
) -> Scene:
    """Returns a checked `Scene`; the radius of the disc is a quarter of the size unless given.

    Raises:
        InvalidInput: for amplitudes or noise that are not positive and finite, another size, or a
            disc without a pixel or without a background on every side.

    >>> make_scene(2.0, 1.0, 0.5).pixels  # of 256
    (52, 204)
    """
    for name, value in (("core", core), ("spurious", spurious), ("noise", noise)):
        require(name, value, 0 < value < math.inf, "a positive number")
    require("size", size, size in SIZES, f"one of {SIZES}")
    chosen = size / 4 if radius is None else float(radius)
    require("radius", radius, 1 <= chosen <= size / 2 - 1, f"in [1, {size // 2 - 1}] pixels")
    return Scene(float(core), float(spurious), float(noise), int(size), chosen, bool(moving))


def draw_images(
    key: jax.Array, scene: Scene, count: int, agreement: float, dtype: DTypeLike = jnp.float32
) -> WaterbirdImages:
    """Returns images of labels that are either with chance 1/2, and their attributes.

    Args:
        key: a JAX key; the first images of more are the same.
        scene: what they show.
        count: how many, at least 1.
        agreement: r in [0, 1]; the attribute is the label with probability (1 + r) / 2.
        dtype: of the images.

    Returns:
        images (count, size, size) with labels and attributes (count,).

    Raises:
        InvalidInput: naming the argument, its value and what is allowed.
    """
    require("count", count, is_whole(count) and count >= 1, "a whole number, at least 1")
    require("agreement", agreement, 0 <= agreement <= 1, "in [0, 1]")
    # A key for labels, one for attributes, one for pixels: none of them moves the others.
    first, second, third = jax.random.split(key, 3)
    # In float32 whatever the session's default, so that it does not change the draws.
    half, share = jnp.float32(0.5), jnp.float32((1 + agreement) / 2)
    labels = _signs(jax.random.bernoulli(first, half, (count,)))
    agrees = _signs(jax.random.bernoulli(second, share, (count,)))
    return _paint(third, scene, labels, labels * agrees, dtype)


def draw_groups(
    key: jax.Array, scene: Scene, sizes: Sequence[int] = WATERBIRDS, dtype: DTypeLike = jnp.float32
) -> WaterbirdImages:
    """Returns exactly `sizes` images of each group, group by group in the order of `GROUPS`.

    Args:
        key: a JAX key.
        scene: what they show.
        sizes: of the four groups, n in all.
        dtype: of the images.

    Returns:
        images (n, size, size) with labels and attributes (n,).

    Raises:
        InvalidInput: unless there are four sizes, none negative, not all zero.
    """
    good = len(sizes) == len(GROUPS) and all(is_whole(n) and n >= 0 for n in sizes)
    require("sizes", tuple(sizes), good and sum(sizes) > 0, "four counts >= 0, not all zero")
    labels, attributes = np.repeat(np.array(GROUPS, np.int32), np.asarray(sizes), 0).T
    return _paint(key, scene, jnp.asarray(labels), jnp.asarray(attributes), dtype)


def _signs(flags: jax.Array) -> jax.Array:
    return jnp.where(flags, 1, -1).astype(jnp.int32)


def _paint(
    key: jax.Array, scene: Scene, labels: jax.Array, attributes: jax.Array, dtype: DTypeLike
) -> WaterbirdImages:
    noisy, place = jax.random.split(key)
    shape = (labels.shape[0], scene.size, scene.size)
    foreground = _discs(place, scene, labels.shape[0])
    # Norm one whatever the size of the disc, so that core and spurious are lengths in pixel space.
    disc, rest = scene.pixels
    inside = labels.astype(dtype) * (scene.core * disc**-0.5)
    outside = attributes.astype(dtype) * (scene.spurious * rest**-0.5)
    clean = jnp.where(foreground, inside[:, None, None], outside[:, None, None])
    noise = scene.noise * draws.normal(noisy, shape, dtype)
    return WaterbirdImages(clean + noise, labels, attributes, foreground)


def _discs(key: jax.Array, scene: Scene, count: int) -> jax.Array:
    """Returns the foreground of each image, shifted by whole pixels where the disc moves."""
    disc = jnp.asarray(scene.foreground)
    if not scene.moving:
        return jnp.broadcast_to(disc[None], (count, *disc.shape))
    # All shifts that keep the disc inside the frame; the roll then never wraps around.
    rows = np.flatnonzero(scene.foreground.any(1))
    shifts = jax.random.randint(key, (count, 2), -rows[0], scene.size - rows[-1], jnp.int32)
    return jax.vmap(lambda shift: jnp.roll(disc, shift, (0, 1)))(shifts)


def to_unit_interval(images: jax.Array, reach: float) -> tuple[jax.Array, jax.Array]:
    """Returns x -> 1/2 + x / (2 reach) clipped to [0, 1], and the share of pixels that was clipped.

    A radius shrinks by the same factor 2 reach.

    Raises:
        InvalidInput: unless reach is positive and finite.

    >>> mapped, clipped = to_unit_interval(jnp.asarray([-3.0, 0.0, 1.0]), 2.0)
    >>> mapped.tolist(), round(float(clipped), 4)
    ([0.0, 0.5, 0.75], 0.3333)
    """
    require("reach", reach, 0 < reach < math.inf, "a positive number")
    mapped = 0.5 + images / (2 * reach)
    clipped = (mapped < 0) | (mapped > 1)
    return jnp.clip(mapped, 0, 1), jnp.mean(clipped, dtype=images.dtype)


def add_noise(
    key: jax.Array,
    images: WaterbirdImages,
    level: jax.Array | float,
    *,
    where: str,
    rescaled: bool = False,
) -> WaterbirdImages:
    """Returns the images with more noise on the foreground or on the background alone.

    Args:
        key: a JAX key.
        images: (n, size, size); left as they are elsewhere, and nothing is clipped.
        level: standard deviation of the added noise, or its l_2 norm in each image; >= 0, may be
            traced, ().
        where: "foreground" or "background".
        rescaled: whether `level` is a norm; an image without such pixels gets no noise.

    Raises:
        InvalidInput: naming the argument, its value and what is allowed.

    References:
        moayeri2022rival10, both kinds of noise; new for synthetic images.
    """
    if not isinstance(level, jax.core.Tracer):
        require("level", level, bool(0 <= level < math.inf), "a number, at least 0")
    require("where", where, where in ("foreground", "background"), "'foreground' or 'background'")
    mask = images.foreground if where == "foreground" else ~images.foreground
    pixels = images.images
    noise = jnp.where(mask, draws.normal(key, pixels.shape, pixels.dtype), 0)
    if rescaled:
        # An image without such pixels has noise of norm zero, which stays zero.
        norm = jnp.sqrt(jnp.sum(noise**2, (1, 2), keepdims=True))
        noise = noise / jnp.where(norm > 0, norm, 1)
    return images._replace(images=pixels + level * noise)
