"""Closed-form risks of robust linear classifiers. Arrays in, arrays out: jit, vmap and grad apply.

`python -m theory` lists every claim that the closed forms make.
"""
