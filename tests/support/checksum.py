"""Prints the number of devices and a checksum of all totals for each of six chunk lengths.

Run by tests/sims/sweep/test_hosts.py as: checksum.py HOST COORDINATOR.
"""

import hashlib
import sys

from sims.simulate.two_classes import BLOCK
from sims.sweep import file as sweep_file
from sims.sweep import hosts
from sims.sweep.plan import Shard
from sims.sweep.run import sweep
from support.small import CLAIM
from theory.domain import InvalidInput

TRIALS = 37 * BLOCK + 17  # for sums more than one call, and a block in part
CHUNKS = (1, 3, 7, 16, 33, 64)


def say() -> int:
    """Prints what the module says."""
    import jax

    from theory.claims.registry import find

    sums = find("trained-squared-risk-linf")
    few = {"radius": [0.0, 0.5, 1.0], "scale_ratio": [2.0], "noise": [0.5]}
    print(len(jax.devices()))
    for chunk in CHUNKS:
        digest = hashlib.sha256()
        for claim, grid in ((CLAIM, {"radius": [0.0, 0.5], "mean": [0.5]}), (sums, few)):
            dataset = sweep(claim, grid, trials=TRIALS, seed=5, chunk=chunk * BLOCK)
            for name in sweep_file.totals(dataset):
                digest.update(dataset[name].values.tobytes())
        print(digest.hexdigest())
    return 0


if __name__ == "__main__":
    place = Shard.parse(sys.argv[1])
    try:
        sys.exit(say() if place.total == 1 else hosts.together(place, sys.argv[2], 60, say))
    except InvalidInput as error:
        sys.exit(str(error))
