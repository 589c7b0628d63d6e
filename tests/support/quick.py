"""A `jax.jit` for programs that run once on a few rows: compiling them is what takes the time.

Not for tests of bits or of speed, which are about what users compile.
"""

import functools

import jax

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
