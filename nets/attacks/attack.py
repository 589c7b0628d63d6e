"""What every attack takes and returns: checked inputs, one key for each sample, the result."""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nets.attacks.threats import is_ball, named_norm, require_radius
from theory.domain import InvalidInput
from theory.problem import Threat

Bounds = tuple[float, float]
# The generator of all random numbers: what it gives for a key depends on no other key.
THREEFRY = "threefry2x32"


class Logits(Protocol):
    """A network as attacks see it: a pure function of a batch, in which no row sees another."""

    def __call__(self, x: jax.Array, /) -> jax.Array:
        """Returns the logits (b, K) of inputs (b, ...), for any b, in any floating dtype."""


class Target(NamedTuple):
    """What is attacked: samples, the ball around each of them, and the bounds of every input.

    A pytree whose leaves are x, y and the radius. The bounds are static: they are compared with
    infinity, and with each other, while an attack is traced.

    Args:
        x: inputs, (B, ...), floating, every entry inside the bounds.
        y: labels, (B,), integers from 0 to K - 1.
        threat: an L1Ball, L2Ball, LinfBall or LpBall, with a radius of shape () or (B,).
        bounds: (low, high), Python numbers; (-inf, inf) where inputs have no bounds.
    """

    x: jax.Array
    y: jax.Array
    threat: Threat
    bounds: Bounds = (0.0, 1.0)


# In place of the pytree that every NamedTuple is, whose leaves the bounds would be.
jax.tree_util.register_dataclass(Target, ["x", "y", "threat"], ["bounds"])


class AttackResult(NamedTuple):
    """What an attack found for each sample.

    Args:
        x_adv: the points found, (B, ...): inside the ball and the bounds. A sample that is
            misclassified as it stands is returned as it is.
        success: whether x_adv is misclassified, (B,); a tie for the largest logit counts, and so
            does a logit that is not finite.
        loss: the loss at x_adv, (B,).
    """

    x_adv: jax.Array
    success: jax.Array
    loss: jax.Array


def keys_of(key: jax.Array, count: int) -> jax.Array:
    """Returns one key for each of `count` samples, (count,).

    Args:
        key: one typed key, of which sample i gets fold_in(key, i), or an array of typed keys
            (count,), which is returned as it is: a sample that carries its key with it gets the
            same random numbers in any batch.
        count: number of samples.

    Raises:
        InvalidInput: for anything else, such as a key of the old, untyped kind, or of a generator
            whose numbers for one sample depend on the keys of the others.
    """
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        raise InvalidInput("key: must be a typed key, jax.random.key(seed), or an array of such")
    if jax.random.key_impl(key) != THREEFRY:
        raise InvalidInput(
            f"key: its generator is {jax.random.key_impl(key)}, of which a sample's numbers depend "
            f"on the other samples; must be jax.random.key(seed, impl={THREEFRY!r})"
        )
    # Without annotations in JAX.
    config: Any = jax.config
    if not config.jax_threefry_partitionable:
        raise InvalidInput(
            "jax_threefry_partitionable = False: draws other numbers from a key; must be True"
        )
    if key.shape == (count,):
        return key
    if key.shape != ():
        raise InvalidInput(f"key.shape = {key.shape}: must be () or ({count},), one a sample")
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count, dtype=jnp.uint32))


def fold(keys: jax.Array, number: jax.Array | int) -> jax.Array:
    """Returns one new typed key a sample, (B,), from its key in (B,) and a number, ().

    By folding in and not by splitting: the key of sample i at restart r follows from its own key
    and r alone, whatever the number of samples or of restarts.
    """
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def radius_of(threat: Threat, x: jax.Array) -> jax.Array:
    """Returns the radius in the dtype of x (B, ...), shaped so that it broadcasts against x."""
    return rows(jnp.asarray(threat.radius).astype(x.dtype), x)


def rows(values: jax.Array, x: jax.Array) -> jax.Array:
    """Returns values () or (B,) so shaped that they broadcast against x (B, ...)."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def inside(x: jax.Array, bounds: Bounds) -> jax.Array:
    """Returns x, (B, ...), cut to the bounds: rounding of x + (high - x), say, may pass them."""
    return jnp.clip(x, jnp.asarray(bounds[0], x.dtype), jnp.asarray(bounds[1], x.dtype))


def require_valid(target: Target) -> Target:
    """Returns the target with x as an array and y as int32, once everything in it makes sense.

    Raises:
        InvalidInput: naming the field. Values that are traced are not checked.
    """
    x, threat = jnp.asarray(target.x), target.threat
    if not is_ball(threat):
        raise InvalidInput(f"threat = {threat!r}: must be an L1Ball, L2Ball, LinfBall or LpBall")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InvalidInput(f"x.dtype = {x.dtype}: must be floating; attacks take pixels as floats")
    if x.ndim < 2 or not x.size:
        raise InvalidInput(
            f"x.shape = {x.shape}: must be (B, ...), one row a sample, with B >= 1 of them and an "
            "entry each at least"
        )
    dtype, shape = _dtype(target.y), np.shape(target.y)
    if not jnp.issubdtype(dtype, jnp.integer) or shape != x.shape[:1]:
        raise InvalidInput(f"y = {dtype}{shape}: must be integer labels, {x.shape[:1]}")
    y = class_numbers(target.y)
    if jnp.shape(threat.radius) not in ((), x.shape[:1]):
        raise InvalidInput(
            f"radius.shape = {jnp.shape(threat.radius)}: must be () or {x.shape[:1]}, one a sample"
        )
    bounds = as_bounds(target.bounds)
    _require_inside(x, bounds)
    require_radius(threat, bounds, math.prod(x.shape[1:]))
    return Target(x, y, threat, bounds)


def class_numbers(y: Any) -> jax.Array:
    """Returns labels (...) as int32, whatever type of integers they came in.

    They are compared with the numbers of the classes, and counted by them. In the type of a label,
    such as uint8, the number of class 261 is 5, and nobody would be told.

    Raises:
        InvalidInput: for labels that are no integers, negative, or beyond int32. Values that are
            traced are not checked.

    >>> import numpy as np
    >>> class_numbers(np.asarray([5, 255], np.uint8)).dtype
    dtype('int32')
    """
    if not jnp.issubdtype(_dtype(y), jnp.integer):
        raise InvalidInput(f"y.dtype = {_dtype(y)}: labels must be integers")
    if not isinstance(y, jax.core.Tracer):
        values = np.asarray(y)
        # Before they are cast: int32 would wrap as well.
        wrong = (values < 0) | (values > np.iinfo(np.int32).max)
        if wrong.any():
            raise InvalidInput(f"y = {values[wrong].flat[0]}: labels must lie in [0, K)")
        y = values.astype(np.int32)
    return jnp.asarray(y).astype(jnp.int32)


def _dtype(y: Any) -> np.dtype[Any]:
    # As it came: JAX would make 32 bits of 64, and of labels that are traced there is no array.
    dtype: np.dtype[Any] = y.dtype if isinstance(y, jax.Array) else np.asarray(y).dtype
    return dtype


def as_bounds(bounds: Any) -> Bounds:
    """Returns (low, high) as Python floats, of a tuple, a list or an array of two numbers.

    Raises:
        InvalidInput: unless they are two numbers with low < high.
    """
    try:
        low, high = (float(end) for end in bounds)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"bounds = {bounds!r}: must be two numbers (low, high)") from error
    if not low < high:
        raise InvalidInput(f"bounds = {bounds!r}: must be (low, high) with low < high")
    return low, high


def require_named_ball(target: Target) -> Target:
    """Returns the valid target with its ball as the L1Ball, L2Ball or LinfBall that it is.

    Raises:
        InvalidInput: as `require_valid`, and for a ball of another norm.
    """
    target = require_valid(target)
    return target._replace(threat=named_norm(target.threat))


def _require_inside(x: jax.Array, bounds: Bounds) -> None:
    if isinstance(x, jax.core.Tracer):
        return
    # Not by jax.numpy, which would trace constants inside jit.
    values = np.asarray(x)
    # In this form a nan is refused too: it compares as false.
    allowed = (values >= bounds[0]) & (values <= bounds[1]) & (np.abs(values) < math.inf)
    if not allowed.all():
        raise InvalidInput(
            f"x = {float(values[~allowed][0]):g}: every entry must lie in bounds = {bounds!r} and "
            "be finite"
        )


def require_count(name: str, value: Any, least: int) -> None:
    """Raises InvalidInput unless a number of steps or the like is an integer of at least that.

    Args:
        name: of the argument.
        value: a number, (), of Python, NumPy or JAX; one that is traced is not checked.
        least: the smallest allowed.
    """
    if isinstance(value, jax.core.Tracer):
        return
    whole = np.ndim(value) == 0 and np.issubdtype(np.asarray(value).dtype, np.integer)
    if not whole:
        raise InvalidInput(f"{name} = {value!r}: must be an integer")
    if int(value) < least:
        raise InvalidInput(f"{name} = {value}: must be at least {least}")


def checked(logits_fn: Logits) -> Logits:
    """Returns the network, of which every call says in one line what is wrong with its outputs.

    Shapes and types are looked at, which costs nothing in what is compiled.

    Raises:
        InvalidInput: for what is no function; and, when it is called, for one that JAX cannot
            trace, such as a NumPy function, and for outputs that are no logits (b, K).
    """
    if not callable(logits_fn):
        raise InvalidInput(f"logits_fn = {logits_fn!r}: must be a function of inputs (b, ...)")

    def call(x: jax.Array) -> jax.Array:
        try:
            logits = logits_fn(x)
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise InvalidInput(
                "logits_fn: must be a JAX function; this one wants numbers while it is traced, as "
                "NumPy functions, float(x) and `if x > 0` do: write it in jax.numpy"
            ) from error
        if not isinstance(logits, jax.Array):
            raise InvalidInput(
                f"logits: the network returned {_named(logits)}, must return one JAX array (b, K)"
            )
        _require_logits(logits, x.shape[0])
        return logits

    return call


def _require_logits(logits: jax.Array, count: int, smallest: int = 2) -> None:
    if logits.ndim != 2 or logits.shape[0] != count or logits.shape[1] < smallest:
        raise InvalidInput(f"logits.shape = {logits.shape}: must be ({count}, K), K >= {smallest}")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise InvalidInput(f"logits.dtype = {logits.dtype}: must be floating")


def _named(value: Any) -> str:
    """Returns what a value is, for a message: its type, and the keys of a mapping."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    keys = f" of {', '.join(map(str, value))}" if isinstance(value, dict) else ""
    return f"a {kind}{keys}"


def require_classes(logits: jax.Array, y: jax.Array, smallest: int = 2) -> None:
    """Raises InvalidInput unless logits are (B, K), K >= smallest, and labels (B,) are below K."""
    if np.ndim(y) != 1:
        raise InvalidInput(f"y.shape = {np.shape(y)}: must be (B,), one label a sample")
    _require_logits(logits, np.shape(y)[0], smallest)
    if not isinstance(y, jax.core.Tracer) and np.size(y):
        low, high = int(np.asarray(y).min()), int(np.asarray(y).max())
        if low < 0 or high >= logits.shape[1]:
            bad = low if low < 0 else high
            raise InvalidInput(f"y = {bad}: labels must lie between 0 and {logits.shape[1] - 1}")
