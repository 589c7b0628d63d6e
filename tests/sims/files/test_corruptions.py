"""300 corruptions of each kind of file: refused in one line, or read as they were written.

They are read in processes of their own, as a reader may hang or crash one; what took too long or
ended in a traceback is then the last line that it wrote.
"""

import json
import pathlib
import subprocess
import sys

import pytest

from support.faults import corruptions, kinds

FUZZ = pathlib.Path(corruptions.__file__).with_name("fuzz.py")
COUNT, SEED = 300, 16


@pytest.fixture(scope="module")
def ended():
    """Returns what came of each kind, by its name."""
    done = subprocess.run(
        [sys.executable, FUZZ, str(COUNT), str(SEED), *kinds.KINDS],
        capture_output=True,
        text=True,
        timeout=1200,  # 20 s of work; a reading that hangs ends the process long before
    )
    last = "\n".join(done.stderr.splitlines()[-30:])
    assert done.returncode == 0, last
    return {line["kind"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_no_corruption_is_believed_and_none_hangs_or_crashes(kind, ended):
    outcome = ended[kind]
    assert outcome["wrong"] == []
    assert sum(outcome["ended"].values()) == COUNT
    seconds, what = outcome["longest"]
    assert seconds < 2, what
    # Most corruptions change something: a reader that believes them all would not be seen here.
    assert outcome["ended"]["refused"] >= COUNT / 2


def test_corruptions_are_the_same_for_a_seed_and_change_the_file():
    data = bytes(range(256)) * 4
    made = list(corruptions.corruptions(data, 100, 0))
    assert made == list(corruptions.corruptions(data, 100, 0))
    assert made != list(corruptions.corruptions(data, 100, 1))
    assert len(made) == 100
    assert sum(damaged != data for _, damaged in made) > 95
    assert len({name.partition(",")[0] for name, _ in made}) == 3 + len(corruptions.KINDS)
