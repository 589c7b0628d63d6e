import jax
import jax.numpy as jnp


def normal(key, shape, dtype=jnp.float32):
    return jax.random.normal(key, shape, dtype)


def symmetric_stable(key, alpha, shape, dtype=jnp.float32):
    a, b = jax.random.split(key)
    v = (jax.random.uniform(a, shape, dtype, minval=1e-7) - 0.5) * jnp.pi
    w = jax.random.exponential(b, shape, dtype)
    return (
        jnp.sin(alpha * v)
        / jnp.cos(v) ** (1 / alpha)
        * (jnp.cos((1 - alpha) * v) / w) ** ((1 - alpha) / alpha)
    )
