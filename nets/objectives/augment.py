"""Random crops and flips of a batch, of static shape, so that they run inside the training step."""

import jax
import jax.numpy as jnp

from sims.random.bits import words


def augment(key: jax.Array, images: jax.Array, pad: int = 0, flip: bool = False) -> jax.Array:
    """Returns each image shifted by up to `pad` pixels and mirrored with probability one half.

    Args:
        key: a typed key.
        images: (n, h, w, c), of any dtype.
        pad: pixels of zero, on all four sides, from which h x w are cut; 0 for no shift.
        flip: whether to mirror left and right at random.

    Usual for CIFAR-10: 4 pixels and flips; digits must not be mirrored.
    """
    # Split whether or not both are wanted: flips are the same with and without crops.
    shifts, mirrors = jax.random.split(key)
    if pad:
        images = shifted(images, offsets(shifts, images.shape[0], pad), pad)
    if flip:
        # By the highest bit of a word, the first of the generator's output: exactly one half.
        chosen = (words(mirrors, (images.shape[0],))[0] >> 31).astype(bool)
        images = jnp.where(chosen[:, None, None, None], images[:, :, ::-1], images)
    return images


def offsets(key: jax.Array, count: int, pad: int) -> jax.Array:
    """Returns where each crop begins, int32 (count, 2), uniform on 0..2 pad.

    A word of 32 bits is reduced to the range: no value is likelier than another by 2^-24 of it.
    """
    drawn, _ = words(key, (count, 2))
    begin: jax.Array = ((drawn >> 8) % jnp.uint32(2 * pad + 1)).astype(jnp.int32)
    return begin


def shifted(images: jax.Array, begin: jax.Array, pad: int) -> jax.Array:
    """Returns the crop of each padded image that begins at (row, column), (n, h, w, c).

    Args:
        images: (n, h, w, c).
        begin: (n, 2), each in 0..2 pad; (pad, pad) leaves an image as it is.
        pad: pixels of zero around.
    """
    _, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def crop(image: jax.Array, start: jax.Array) -> jax.Array:
        corner = (start[0], start[1], jnp.zeros((), start.dtype))
        return jax.lax.dynamic_slice(image, corner, (height, width, channels))

    return jax.vmap(crop)(padded, begin)
