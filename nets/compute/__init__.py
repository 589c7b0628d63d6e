"""How functions of many samples run: which compiler options, in which blocks, on which devices.

`compiler` is `jax.jit` with the options that convolutions need, `blocks` maps over samples in fixed
blocks, and `devices` spreads a training step. None of them changes a number.
"""

__all__ = ["blocks", "compiler", "devices"]
