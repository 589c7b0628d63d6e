"""What all networks share: pixels to logits, normalisation as a layer, batch statistics."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nets.models.conv import Conv
from sims.random.bits import words
from sims.random.draws import normal
from theory.domain import InvalidInput

# Beyond, memory is asked for that few machines have: 8 GiB of float32, and as much for a gradient.
MOST_NUMBERS = 2**31
Initialiser: TypeAlias = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]


@functools.partial(jax.jit, static_argnums=(1, 2))
def pytorch_start(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns weights (..., in, out) uniform in +-1/sqrt(fan-in), PyTorch's default for its layers.

    Drawn in float32 from the words of `sims.random.bits`, which compile in a seventh of the time of
    JAX's: a network has a dozen shapes.
    """
    count, fan_in = _size(shape), math.prod(shape[:-1])
    word, _ = words(key, (count,))
    # 24 bits are what float32 holds exactly: the middles of 2^24 equal parts of (-1, 1).
    unit = (word >> 8).astype(jnp.float32) * 2.0**-23 - (1 - 2.0**-24)
    return (unit / math.sqrt(fan_in)).reshape(shape).astype(dtype)


@functools.partial(jax.jit, static_argnums=(1, 2))
def he_in_start(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns normal weights (..., in, out) of variance 2 / fan-in.

    References: he2015rectifiers.
    """
    return _normal(key, shape, math.sqrt(2 / math.prod(shape[:-1])), dtype)


@functools.partial(jax.jit, static_argnums=(1, 2))
def he_out_start(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns normal weights (..., in, out) of variance 2 / fan-out.

    References: he2015rectifiers.
    """
    return _normal(key, shape, math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1])), dtype)


def _normal(key: jax.Array, shape: tuple[int, ...], scale: float, dtype: Any) -> jax.Array:
    return (scale * normal(key, (_size(shape),))).reshape(shape).astype(dtype)


def _size(shape: tuple[int, ...]) -> int:
    if math.prod(shape) > MOST_NUMBERS:
        raise InvalidInput(
            f"a layer of shape {shape} has {math.prod(shape)} numbers, must have at most "
            f"{MOST_NUMBERS}"
        )
    return math.prod(shape)


INITIALISERS: dict[str, Initialiser] = {
    "pytorch": pytorch_start,
    "he-in": he_in_start,
    "he-out": he_out_start,
}
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"relu": nn.relu, "swish": nn.swish}


class Network(nn.Module):
    """A classifier of images in [0, 1]: normalise, `features`, one linear layer.

    Called with images (n, h, w, c) it returns logits (n, classes). Biases start at zero, the
    linear layers and, unless `kernels` says otherwise, the convolutions as PyTorch's weights do.

    Args:
        classes: number of classes K >= 2.
        mean: subtracted from every pixel, one number or one for each channel; None is 0.
        std: divided by afterwards, > 0, likewise; None is 1.
        dtype: of activations; parameters, normalised pixels and logits have it too if it is
            float64, and are float32 otherwise. Running batch statistics are float32 always, as
            flax keeps them.
        kernels: how convolutions start: "pytorch" (uniform, the default of PyTorch), "he-in" or
            "he-out" (normal, He et al. 2015, of the fan in or out).
    """

    classes: int
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    dtype: Any = jnp.float32
    kernels: str = "pytorch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, penultimate: bool = False) -> jax.Array:
        """Returns the logits, (n, classes).

        Args:
            x: images in [0, 1], (n, h, w, c).
            train: batch statistics instead of running ones, which are updated if "batch_stats"
                is mutable: momentum .9 (PyTorch's .1), epsilon 1e-5, biased variances, which
                PyTorch makes unbiased before it averages them.
            penultimate: return the input of the linear layer, (n, d), instead.
        """
        # Normalised before it is rounded: bfloat16 is finer around zero than around one.
        x = self._normalise(x.astype(self.param_dtype)).astype(self.dtype)
        x = self.features(x, train)
        # Logits in full precision: their differences decide, and margins cancel leading digits.
        x = x.astype(self.param_dtype)
        return x if penultimate else self.linear(self.classes, "head", self.param_dtype)(x)

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the input of the last linear layer, (n, d), for normalised images.

        Args:
            x: normalised images, (n, h, w, c).
            train: as for the network.

        Raises:
            NotImplementedError: of this class, which is no network yet.
        """
        raise NotImplementedError

    @property
    def param_dtype(self) -> Any:
        """The dtype of parameters, batch statistics and logits."""
        return jnp.float64 if jnp.dtype(self.dtype) == jnp.float64 else jnp.float32

    def _normalise(self, x: jax.Array) -> jax.Array:
        # A layer of the network, so that attacks and radii are in pixels of [0, 1].
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is None:
                continue
            if np.size(value) not in (1, x.shape[-1]):
                raise InvalidInput(
                    f"{name} = {value!r}: must be one number or one for each of the "
                    f"{x.shape[-1]} channels of the images"
                )
            constant = jnp.asarray(value, x.dtype).reshape(1, 1, 1, -1)
            x = x - constant if name == "mean" else x / constant
        return x

    def linear(self, features: int, name: str, dtype: Any = None) -> nn.Dense:
        """Returns a linear layer, by default of the dtype of the activations."""
        return nn.Dense(
            features,
            dtype=dtype or self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=pytorch_start,
            name=name,
        )

    def conv(
        self,
        features: int,
        name: str,
        size: int = 3,
        strides: int = 1,
        padding: int = 1,
        bias: bool = False,
    ) -> Conv:
        """Returns a square convolution, by default 3 x 3, which keeps the size, without bias."""
        return Conv(
            features,
            (size, size),
            strides,
            padding,
            use_bias=bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=INITIALISERS[self.kernels],
            name=name,
        )

    def norm(self, train: bool, name: str) -> Callable[[jax.Array], jax.Array]:
        """Returns a batch normalisation of images (n, h, w, c), `flax.linen.BatchNorm`."""
        # Running statistics keep 0.9 of themselves: PyTorch's momentum of 0.1 is the other share.
        layer = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

        def call(x: jax.Array) -> jax.Array:
            with jax.numpy_dtype_promotion("standard"):  # flax promotes to float32 for accuracy
                normalised: jax.Array = layer(x)
                return normalised

        return call
