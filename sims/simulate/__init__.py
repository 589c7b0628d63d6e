"""Sample, perturb, classify, count: the simulators, which know no formula that they check.

`sample` draws from the mixtures and `attack` builds the worst perturbation as a point. Problems
are of three kinds: `two_classes`, `multiclass` and `regression`. `by_problem` says for each what is
added up and which interval follows.
"""

__all__ = ["attack", "by_problem", "multiclass", "regression", "sample", "two_classes"]
