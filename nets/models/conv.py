"""Convolution and pooling, channels last: as fast on CPU as elsewhere, the same numbers everywhere.

On CPU, XLA runs only a plain channels-last convolution fast, and rewrites the transposed ones of
reverse mode into that form only outside loop bodies: inside the loop of an attack, the gradient
that JAX derives is about nine times slower (jax-ml/jax issue 12868). There, both gradients are
written as plain convolutions here; on every other platform they are JAX's own.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

from theory.domain import InvalidInput

Padding: TypeAlias = str | int | Sequence[tuple[int, int]]
_Pair: TypeAlias = tuple[int, int]
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_SPATIAL = (1, 2)
# x^T g in one product: both are contracted over their rows, images and places together.
_LEADING = (((0,), (0,)), ((), ()))


def conv(
    x: jax.Array, kernel: jax.Array, strides: int | _Pair = 1, padding: Padding = "SAME"
) -> jax.Array:
    """Returns the cross-correlation of images with a kernel, (n, h', w', o).

    It can be vmapped and differentiated once in reverse mode; forward mode raises JAX's TypeError.
    Over kernels (seeds), `lax.map` is more than twice as fast on CPU as `vmap`, whose grouped
    convolutions XLA runs slowly; loops over steps of training cost nothing.

    Args:
        x: images, (n, h, w, c).
        kernel: (kh, kw, c, o), of the dtype of x.
        strides: of the window, >= 1, one number or (down, across).
        padding: "SAME" or "VALID" as in JAX; a number >= 0 of zeros on all four sides, as in
            PyTorch; or ((top, bottom), (left, right)).

    Raises:
        InvalidInput: if shapes do not match, or the padded image is smaller than the kernel.

    >>> conv(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)), padding=1)[0, :, :, 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise InvalidInput(
            f"x.shape = {x.shape}: must be (n, h, w, c) with the c of kernel.shape = {kernel.shape}"
        )
    steps = _pair("strides", strides, 1)
    pads = _pads(padding, x.shape, kernel.shape, steps)
    for axis, size, pad in zip(_SPATIAL, kernel.shape, pads, strict=False):
        if x.shape[axis] + sum(pad) < size:
            raise InvalidInput(
                f"x.shape = {x.shape}: padded by {pad} on axis {axis}, "
                f"must be no smaller than the kernel, {size}"
            )
    return _conv(x, kernel, steps, pads)


def _pair(name: str, value: Any, least: int) -> _Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
        raise InvalidInput(f"{name} = {value!r}: must be one or two integers >= {least}")
    return pair[0], pair[1]


def _pads(
    padding: Padding, shape: tuple[int, ...], kernel: tuple[int, ...], steps: _Pair
) -> tuple[_Pair, _Pair]:
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise InvalidInput(f"padding = {padding!r}: must be 'SAME', 'VALID' or numbers")
        down, across = lax.padtype_to_pads(shape[1:3], kernel[:2], steps, padding)
        return (int(down[0]), int(down[1])), (int(across[0]), int(across[1]))
    if isinstance(padding, int):
        pad = _pair("padding", padding, 0)
        return pad, pad
    down, across = padding
    return _pair("padding", down, 0), _pair("padding", across, 0)


def _plain(x: jax.Array, kernel: jax.Array, steps: _Pair, pads: Sequence[_Pair]) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, steps, pads, dimension_numbers=_LAYOUT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: jax.Array, kernel: jax.Array, steps: _Pair, pads: tuple[_Pair, _Pair]) -> jax.Array:
    return _plain(x, kernel, steps, pads)


def _forward(
    x: jax.Array, kernel: jax.Array, steps: _Pair, pads: tuple[_Pair, _Pair]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _plain(x, kernel, steps, pads), (x, kernel)


def _backward(
    steps: _Pair, pads: tuple[_Pair, _Pair], kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def chosen(fast: Callable[..., Any], plain: Callable[..., Any]) -> jax.Array:
        bind = functools.partial(functools.partial, steps=steps, pads=pads)
        gradient: jax.Array = lax.platform_dependent(*kept, g, cpu=bind(fast), default=bind(plain))
        return gradient

    # Two choices, so that an attack, which needs the first alone, does not compute the second.
    return chosen(input_gradient, lax_input_gradient), chosen(kernel_gradient, lax_kernel_gradient)


_conv.defvjp(_forward, _backward)


def lax_input_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, steps: _Pair, pads: tuple[_Pair, _Pair]
) -> jax.Array:
    """Returns what JAX itself derives for `input_gradient`, of the same arrays, (n, h, w, c)."""
    gradient: jax.Array = jax.linear_transpose(lambda x: _plain(x, kernel, steps, pads), x)(g)[0]
    return gradient


def lax_kernel_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, steps: _Pair, pads: tuple[_Pair, _Pair]
) -> jax.Array:
    """Returns what JAX itself derives for `kernel_gradient`, of the same arrays, (kh, kw, c, o)."""
    back = jax.linear_transpose(lambda kernel: _plain(x, kernel, steps, pads), kernel)
    gradient: jax.Array = back(g)[0]
    return gradient


def input_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, steps: _Pair, pads: tuple[_Pair, _Pair]
) -> jax.Array:
    """Returns the gradient for the images as a plain convolution of g, (n, h, w, c).

    Args:
        x: images, (n, h, w, c); only the shape matters.
        kernel: (kh, kw, c, o), turned by half a turn and with c and o swapped.
        g: gradient for the output, (n, h', w', o), with zeros put between at strides above 1.
        steps: strides.
        pads: zeros put around the images.
    """
    # y[i] = sum_k x[s i + k - low] w[k], so g[i] goes back to the pixels that its window saw: a
    # convolution with the kernel turned, after zeros between the entries have undone the stride.
    turned = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    edges = [
        (size - 1 - low, x.shape[axis] + low - (g.shape[axis] - 1) * step - 1)
        for axis, size, step, (low, _) in zip(_SPATIAL, kernel.shape, steps, pads, strict=False)
    ]
    if kernel.shape[:2] == (1, 1):  # zeros put between stay zeros: put them there afterwards
        return _spread(_plain(g, turned, (1, 1), ((0, 0), (0, 0))), steps, edges)
    # Negative edges, of pixels that no window reached or padding cut, are lax's to crop.
    if steps == (1, 1):
        return _plain(g, turned, (1, 1), edges)
    return _plain(_spread(g, steps, edges), turned, (1, 1), ((0, 0), (0, 0)))


def kernel_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, steps: _Pair, pads: tuple[_Pair, _Pair]
) -> jax.Array:
    """Returns the gradient for the kernel without transposed layouts, (kh, kw, c, o).

    At stride 1 it is a convolution that exchanges images and channels; otherwise one product of
    matrices for each entry of the window, which needs no zeros in between.

    Args:
        x: images, (n, h, w, c).
        kernel: (kh, kw, c, o); only the shape matters.
        g: gradient for the output, (n, h', w', o).
        steps: strides.
        pads: zeros put around the images.
    """
    if steps == (1, 1):
        # Channels play the part of images and g that of the kernel: the output is (c, kh, kw, o).
        gradient = _plain(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), (1, 1), pads)
        return gradient.transpose(1, 2, 0, 3)
    n, _, _, channels = x.shape
    wide = _spread(x, (1, 1), pads)
    rows, columns = g.shape[1:3]
    spans = (rows - 1) * steps[0] + 1, (columns - 1) * steps[1] + 1

    def product(i: int, j: int) -> jax.Array:
        limits = (n, i + spans[0], j + spans[1], channels)
        seen = lax.slice(wide, (0, i, j, 0), limits, (1, *steps, 1))
        return lax.dot_general(seen.reshape(-1, channels), g.reshape(-1, g.shape[3]), _LEADING)

    height, width = kernel.shape[:2]
    products = [product(i, j) for i in range(height) for j in range(width)]
    return jnp.stack(products).reshape(kernel.shape)


def _spread(x: jax.Array, steps: _Pair, edges: Sequence[_Pair]) -> jax.Array:
    """Returns the images with zeros between their pixels and around them."""
    inner = [(*edge, step - 1) for edge, step in zip(edges, steps, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maxima of 2 x 2 windows side by side, (n, h // 2, w // 2, c).

    An odd last row or column is dropped, as in PyTorch. Where a maximum occurs twice the gradient
    goes to the first in reading order, on every platform; nan stays nan.

    Args:
        x: images, (n, h, w, c) with h, w >= 2.

    Raises:
        InvalidInput: if the images are smaller.
    """
    if x.ndim != 4 or min(x.shape[1:3]) < 2:
        raise InvalidInput(f"x.shape = {x.shape}: must be (n, h, w, c), h, w >= 2, to be pooled")
    # The gradient of a windowed maximum is a select-and-scatter, which XLA runs slowly on CPU.
    pooled: jax.Array = lax.platform_dependent(x, cpu=pool_by_slices, default=pool_by_windows)
    return pooled


def pool_by_windows(x: jax.Array) -> jax.Array:
    """Returns the maxima of images (n, h, w, c) by XLA's windowed reduction, slow on CPU."""
    pooled: jax.Array = nn.max_pool(x, (2, 2), (2, 2))
    return pooled


def pool_by_slices(x: jax.Array) -> jax.Array:
    """Returns the maxima of images (n, h, w, c) as those of four strided slices."""
    height, width = (2 * (x.shape[axis] // 2) for axis in _SPATIAL)
    # In reading order, so that of equal maxima the first keeps the gradient, as in windows.
    slices = [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]
    return functools.reduce(_larger, slices)


def _larger(first: jax.Array, second: jax.Array) -> jax.Array:
    # Not jnp.maximum, which splits the gradient of equal values in halves.
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


class Conv(nn.Module):
    """A convolution layer on `conv`, with the parameters of `flax.linen.Conv`: kernel and bias.

    Args:
        features: number of output channels.
        kernel_size: (kh, kw).
        strides: as for `conv`.
        padding: as for `conv`.
        use_bias: whether a bias is added.
        dtype: of the computation; None takes the common one of input and parameters.
        param_dtype: of the parameters.
        kernel_init: initialiser of the kernel.
        bias_init: initialiser of the bias.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the layer's output, (n, h', w', features), for images (n, h, w, c)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, kernel, self.strides, self.padding)
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)
