"""Damages the file of a kind again and again, and notes how each reading ends.

Run as: fuzz.py COUNT SEED KIND..., in a process of its own, as a reader may hang or crash it. It
prints one line of JSON for each kind, when it is done with it. A reading that takes longer than
LIMIT ends the process, and the last line on stderr says what was read.
"""

import contextlib
import faulthandler
import json
import pathlib
import resource
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from support.faults import kinds
from support.faults.corruptions import corruptions
from theory.domain import InvalidInput

LIMIT = 20.0  # s on the clock; what is reported is processor time, as others may have the machine


def main() -> None:
    """Fuzzes the kinds that are asked for."""
    count, seed = map(int, sys.argv[1:3])
    for kind in sys.argv[3:]:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(fuzz(kind, pathlib.Path(folder), count, seed)), flush=True)


def fuzz(kind: str, folder: pathlib.Path, count: int, seed: int) -> dict[str, Any]:
    """Returns how many readings ended how, the processor time of the longest, and what is wrong.

    Args:
        kind: of `kinds.KINDS`.
        folder: empty.
        count: how many times its files, in turn, are damaged.
        seed: of what is done to them.
    """
    sample = kinds.make(kind, folder)
    whole, ended, longest, wrong = sample.read(), Counter[str](), (0.0, ""), []
    each, more = divmod(count, len(sample.paths))
    for place, path in enumerate(sample.paths):
        data = path.read_bytes()
        for name, damaged in corruptions(data, each + (place < more), seed + place):
            if damaged == data:
                ended["as written"] += 1
                continue
            path.write_bytes(damaged)
            what = f"{kind}, {path.name}: {name}"
            outcome, seconds, complaint = _read(sample, whole, what)
            if outcome == "another value" and kind not in kinds.BY_HAND:
                complaint = "another value was believed"
            ended[outcome] += 1
            longest = max(longest, (seconds, what))
            if complaint:
                wrong.append(f"{what}: {complaint}")
        path.write_bytes(data)
    return {"kind": kind, "ended": dict(ended), "longest": longest, "wrong": wrong[:10]}


def _read(sample: kinds.FileSample, whole: Any, what: str) -> tuple[str, float, str]:
    """Returns how one reading ends, the seconds it takes, and what is wrong with it, if anything.

    What is no InvalidInput passes through: it ends the process with its traceback.
    """
    print(what, file=sys.stderr, flush=True)
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    began = _processor_time()
    complaint = ""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            read = sample.read()
        outcome = "the same content" if _same(read, whole) else "another value"
    except InvalidInput as error:
        outcome, text = "refused", str(error)
        if "\n" in text or not text:
            complaint = f"not one line: {text!r}"
    seconds = _processor_time() - began
    faulthandler.cancel_dump_traceback_later()
    return outcome, seconds, complaint


def _processor_time() -> float:
    """Returns the seconds that this process and those that it started and waited for computed."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _same(one: Any, two: Any) -> bool:
    # As text: a nan is not equal to itself.
    return repr(one) == repr(two)


if __name__ == "__main__":
    main()
