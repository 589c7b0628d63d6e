"""Networks by name, their variables, and the function of pixels that an attack sees."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from nets.models.conv import max_pool
from nets.models.network import ACTIVATIONS, INITIALISERS, MOST_NUMBERS, Network
from nets.models.resnet import PreActResNet, ResNet
from nets.models.vgg import VGG
from sims.files.records import typed
from sims.files.refusal import shown
from theory.domain import POSITIVE, UNIT_INTERVAL, InvalidInput, require_inside, require_known


class Logistic(Network):
    """Logistic regression: the linear layer alone, on the flattened image."""

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the flattened image, (n, h * w * c)."""
        return x.reshape(x.shape[0], -1)


class MLP(Network):
    """Linear layers on the flattened image, by default the network of Hu et al. for CIFAR-10.

    Args:
        hidden: widths of the hidden layers.
        activation: "relu" or "swish".
    """

    hidden: tuple[int, ...] = (200,)
    activation: str = "relu"

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the last hidden layer, (n, d), of images (n, h, w, c)."""
        x = x.reshape(x.shape[0], -1)
        for place, width in enumerate(self.hidden):
            x = ACTIVATIONS[self.activation](self.linear(width, f"linear_{place}")(x))
        return x


class SmallCNN(Network):
    """The MNIST network of TRADES (Zhang et al., ICML 2019), without its dropout.

    Two stages of two unpadded 3 x 3 convolutions, each pooled, then two hidden linear layers.
    Convolutions start as theirs, "he-in"; their last layer starts at zero, where an attack has no
    gradient, and this one does not. On 28 x 28 pixels a forward pass takes 19.9 MFLOP.

    Args:
        stages: channels of the convolutions of each stage.
        hidden: widths of the hidden linear layers.
        activation: "relu" or "swish".
    """

    kernels: str = "he-in"
    stages: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64))
    hidden: tuple[int, ...] = (200, 200)
    activation: str = "relu"

    def features(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the last hidden layer, (n, d), of images (n, h, w, c)."""
        activate = ACTIVATIONS[self.activation]
        for stage, widths in enumerate(self.stages):
            for place, width in enumerate(widths):
                x = activate(self.conv(width, f"conv_{stage}_{place}", padding=0, bias=True)(x))
            x = max_pool(x)
        x = x.reshape(x.shape[0], -1)
        for place, width in enumerate(self.hidden):
            x = activate(self.linear(width, f"linear_{place}")(x))
        return x


# VGG with batch normalisation: configuration D of the paper. WRN-28-10: 3 stages of (28 - 4) / 6
# blocks, 10 times as wide as 16, 32, 64; its shortcuts see the activated input, as in its code.
_VGG_16 = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
_WIDE = {"stem": 16, "widths": (160, 320, 640), "blocks": 4, "shortcut": "activated"}
_MODELS: dict[str, tuple[type[Network], dict[str, Any]]] = {
    "logistic": (Logistic, {}),
    "mlp": (MLP, {}),
    "small-cnn": (SmallCNN, {}),
    "preact-resnet-18": (PreActResNet, {}),
    "resnet-18": (ResNet, {}),
    "wrn-28-10": (PreActResNet, {"kernels": "he-out", **_WIDE}),
    "vgg-11": (VGG, {}),
    "vgg-16": (VGG, {"stages": _VGG_16}),
}
NAMES = tuple(_MODELS)
PRECISIONS: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# What a width or a number of classes may be at most, and a number of blocks or of layers: beyond,
# tracing takes for ever.
_WIDEST, _DEEPEST = 2**16, 1000
_PIXELS = {"mean": (UNIT_INTERVAL, "mean"), "std": (POSITIVE, "standard deviation")}
_CHOICES = {
    "activation": tuple(ACTIVATIONS),
    "kernels": tuple(INITIALISERS),
    "shortcut": ("input", "activated"),
}


def build(name: str, classes: int, /, **options: Any) -> Network:
    """Returns the network of that name, a linen module without variables.

    Args:
        name: one of NAMES.
        classes: number of classes K >= 2.
        options: fields of the network, such as mean, std, dtype, activation, widths or hidden.

    Raises:
        InvalidInput: for a name, an option or a choice that is unknown, listing the nearest, or a
            value outside its domain.

    >>> build("mlp", 10, hidden=(64, 32)).hidden
    (64, 32)
    """
    typed(name, str, "network", "name")
    require_known("name", name, NAMES)
    if not _is_integer(classes) or classes < 2:
        raise InvalidInput(f"classes = {shown(classes)}: must be an integer >= 2")
    _require_at_most("classes", (classes,), _WIDEST)
    kind, defaults = _MODELS[name]
    # Without what every linen module has, and what the data say.
    taken = ("parent", "name", "classes")
    known = [field for field in kind.__dataclass_fields__ if field not in taken]
    types = get_type_hints(kind)
    options = {option: _frozen(value) for option, value in options.items()}
    for option, value in options.items():
        require_known(f"option of {name}", option, known)
        typed(value, types[option], name, option)
        _check_option(option, value)
    settings = {option: _frozen(value) for option, value in (defaults | options).items()}
    return kind(classes=int(classes), **settings)


def of_settings(
    name: str, classes: int, options: Mapping[str, Any], precision: str = "float32"
) -> Network:
    """Returns the network that a config or a run describes in words: see `build`.

    Args:
        name, classes, options: as in `build`, without dtype.
        precision: "float32", or "bfloat16": activations, convolutions and hidden linear layers
            are then of that dtype; parameters, batch statistics, logits and pixels stay float32.

    Raises:
        InvalidInput: as `build`, for another precision, and for a dtype among the options.
    """
    typed(precision, str, "network", "precision")
    require_known("precision", precision, PRECISIONS)
    typed(options, dict[str, Any], str(name), "options")
    if "dtype" in options:
        raise InvalidInput(
            f"options.dtype = {options['dtype']!r}: is set by precision, {' or '.join(PRECISIONS)}"
        )
    return build(name, classes, dtype=PRECISIONS[precision], **options)


def _frozen(value: Any) -> Any:
    """Lists and arrays as tuples, so that the network can be hashed; numbers as Python's."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _is_integer(value: Any) -> bool:
    # True is an int to Python, and would build one channel.
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_option(option: str, value: Any) -> None:
    if option in _CHOICES:
        require_known(option, value, _CHOICES[option])
    elif option == "dtype":
        _require_floating(value)
    elif option in ("std", "mean") and value is not None:
        if not np.size(value):
            raise InvalidInput(f"{option} = {value!r}: must be one number or one for each channel")
        domain, each = _PIXELS[option]
        # Whoever says 125.3 thinks of levels.
        if (largest := np.max(value)) > 1:
            raise InvalidInput(
                f"{option} = {largest:g}: must be at most 1, as pixels lie in [0, 1]; perhaps "
                f"{largest:g}/255 is meant"
            )
        require_inside(option, value, domain, f"every {each}")
    elif option in ("stem", "widths", "blocks", "hidden", "stages"):
        sizes = jax.tree.leaves(value)
        if (not sizes and option != "hidden") or not all(_is_integer(s) and s >= 1 for s in sizes):
            raise InvalidInput(f"{option} = {shown(value)}: must be integers >= 1")
        _require_at_most(option, sizes, _DEEPEST if option == "blocks" else _WIDEST)
        _require_at_most(f"number of {option}", (len(sizes),), _DEEPEST)


def _require_at_most(name: str, sizes: Sequence[int], largest: int) -> None:
    if sizes and max(sizes) > largest:
        raise InvalidInput(f"{name} = {shown(max(sizes))}: must be at most {largest}")


def _require_floating(dtype: Any) -> None:
    try:
        # Of None NumPy makes float64.
        floating = dtype is not None and jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise InvalidInput(f"dtype = {shown(dtype)}: must be a floating dtype")


def initialise(
    key: jax.Array, module: Network, image_shape: tuple[int, int, int]
) -> Mapping[str, Any]:
    """Returns the variables a network starts with: "params" and, if it has any, "batch_stats".

    Args:
        key: a PRNG key.
        module: from `build`.
        image_shape: (h, w, c) of one image.

    Raises:
        InvalidInput: if the shape is not three integers >= 1, is too small for the network's
            pooling, or does not match its mean or std; or for a network of more than 2^31 numbers,
            before memory is asked for.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(_is_integer(size) and size >= 1 for size in shape):
        raise InvalidInput(f"image_shape = {image_shape!r}: must be (h, w, c), integers >= 1")
    _require_at_most("image_shape", shape, _WIDEST)
    # What a network needs of an image is known to its layers: their word is passed on.
    try:
        parameters = count_parameters(_start.eval_shape(key, module, shape))
    except InvalidInput as error:
        raise InvalidInput(
            f"image_shape = {shape}: does not fit this {type(module).__name__}: {error}"
        ) from error
    if parameters > MOST_NUMBERS:
        raise InvalidInput(
            f"parameters = {parameters}: this {type(module).__name__} on images of {shape} has too "
            f"many, must be at most {MOST_NUMBERS}"
        )
    variables: Mapping[str, Any] = _start(key, module, shape)
    return variables


@functools.partial(jax.jit, static_argnums=(1, 2))
def _start(key: jax.Array, module: Network, shape: tuple[int, ...]) -> Mapping[str, Any]:
    # Only the shape of an image matters, so none is computed with: the forward pass is left out.
    image = jax.eval_shape(lambda: jnp.zeros((1, *shape), module.param_dtype))
    variables: Mapping[str, Any] = module.lazy_init(key, image)
    return variables


def logits_fn(module: Network, variables: Mapping[str, Any]) -> Callable[[jax.Array], jax.Array]:
    """Returns the function from images in [0, 1], (b, h, w, c), to logits (b, K), in evaluation.

    Running batch statistics are used: rows do not depend on each other.
    """

    def logits(x: jax.Array) -> jax.Array:
        return cast(jax.Array, module.apply(variables, x, train=False))

    return logits


def is_linear(module: Network) -> bool:
    """Returns whether the logits are an affine function of the pixels, up to float32 rounding.

    >>> is_linear(build("logistic", 10)), is_linear(build("mlp", 10))
    (True, False)
    """
    # Pixels rounded to bfloat16 move in steps: what is exact for the affine function is not for it.
    if jnp.dtype(module.dtype) == jnp.bfloat16:
        return False
    return isinstance(module, Logistic) or (isinstance(module, MLP) and not module.hidden)


def count_parameters(variables: Mapping[str, Any]) -> int:
    """Returns how many numbers are trained: the entries of "params"."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"]))
