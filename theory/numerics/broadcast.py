"""Arguments of elementwise functions: one floating dtype, one shape."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def broadcast(*arguments: ArrayLike) -> list[Array]:
    """Returns the arguments, of any shapes that fit, broadcast to (...), in one floating dtype.

    Python numbers take the dtype of the arrays beside them; integers count as the default float.

    >>> [a.shape for a in broadcast(1, jnp.ones((2, 1)), jnp.ones(3))]
    [(2, 3), (2, 3), (2, 3)]
    """
    # The arrays and not their dtypes: a Python number that went through jit is still weak.
    typed = [jnp.asarray(a) for a in arguments if hasattr(a, "dtype")]
    floating = [a for a in typed if jnp.issubdtype(a.dtype, jnp.floating)]
    dtype = jnp.result_type(*floating) if floating else jnp.result_type(float)
    return list(jnp.broadcast_arrays(*(jnp.asarray(a).astype(dtype) for a in arguments)))
