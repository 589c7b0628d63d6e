"""Simulators that sample every coordinate, perturb the point, classify it and count errors.

Nothing here knows a closed form: `sims` imports the nouns and the claims of `theory`, no formula.
`python -m sims` tests claims against simulation.
"""
