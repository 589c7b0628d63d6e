"""Damages a file of each kind thousands of times: none may be believed, hang or crash a reader.

python benchmarks/fuzz_files.py --count 10000        # what the tests do 300 times
python benchmarks/fuzz_files.py --count 300 --unsealed # files without a digest, one process each

Exit 1 if a corruption was believed, took 2 s or longer, or ended the reading process.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections import Counter

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from sims import files
from support.faults import kinds
from support.faults.corruptions import corruptions
from theory.domain import InvalidInput

SLOWEST = 2.0
# A reading that does not end is ended after a second of processor time.
SLOWEST_UNSEALED = 10.0


def sealed(count, seed, wanted):
    """Returns whether all went well, and prints a line for each kind."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "faults" / "fuzz.py")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[:2])}
    well = True
    for kind in wanted:
        began = time.perf_counter()
        done = subprocess.run(
            [*command, str(count), str(seed), kind], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            print(f"{kind}: ended with {done.returncode}\n{done.stderr[-2000:]}", flush=True)
            well = False
            continue
        outcome = json.loads(done.stdout)
        seconds, what = outcome["longest"]
        well = well and not outcome["wrong"] and seconds < SLOWEST
        print(
            f"{kind}: {_words(outcome['ended'])}; longest {seconds:.2f} s ({what}); "
            f"{time.perf_counter() - began:.0f} s in all",
            *outcome["wrong"],
            sep="\n  ",
            flush=True,
        )
    return well


def unsealed(count, seed, wanted):
    """Returns whether no reading of a file without a digest hung or ended in a traceback."""
    well = True
    for kind in wanted:
        with tempfile.TemporaryDirectory() as folder:
            (path,) = kinds.make(kind, pathlib.Path(folder)).paths
            whole = files.read(path)
            data = bytes(whole.to_netcdf(engine="h5netcdf"))
            ended: Counter[str] = Counter()
            longest = (0.0, "")
            for name, damaged in corruptions(data, count, seed):
                path.write_bytes(damaged)
                began = time.perf_counter()
                try:
                    read = files.read(path)
                    assert not read.encoding["verified"]
                    ended["the same" if whole.identical(read) else "another value"] += 1
                except InvalidInput as error:
                    hung = "does not end" in str(error)
                    ended["refused, it hangs" if hung else "refused"] += 1
                longest = max(longest, (time.perf_counter() - began, name))
        well = well and longest[0] < SLOWEST_UNSEALED
        print(
            f"{kind}, unsealed: {_words(ended)}; longest {longest[0]:.2f} s ({longest[1]})",
            flush=True,
        )
    return well


def _words(ended):
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(ended.items()))


def main():
    """Runs the fuzz that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unsealed", action="store_true")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(kinds.KINDS)}; all if none")
    words = parser.parse_args()
    datasets = kinds.KINDS[:4]
    wanted = words.kinds or (datasets if words.unsealed else kinds.KINDS)
    run = unsealed if words.unsealed else sealed
    sys.exit(0 if run(words.count, words.seed, wanted) else 1)


if __name__ == "__main__":
    main()
