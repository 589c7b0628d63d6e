"""What a network gets right, class by class, under a list of attacks, with exact intervals.

`outcomes` are per sample, under the attacks of an `ensemble` or of a named protocol in `protocols`;
`per_class`, `paired` and `worst_class` say what follows from them. `run` evaluates a run folder
into a `file`.
"""

__all__ = ["ensemble", "file", "outcomes", "paired", "per_class", "protocols", "run", "worst_class"]
