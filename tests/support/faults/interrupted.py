"""python -m sims with its chunks and saves written to a log, and a disk that fills up if asked.

Run by tests/sims/sweep/test_interruptions.py as: interrupted.py LOG SAVES ARGUMENTS, where after
SAVES saves no file may grow beyond 4096 bytes.
"""

import pathlib
import resource
import sys

import sims.__main__
from sims import files
from sims.sweep import run as sweep_run

if __name__ == "__main__":
    log, saves = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    count, save = sweep_run._count_chunk, files.save

    def note(word: str) -> int:
        """Adds a line to the log and returns how many such lines it has."""
        with log.open("a") as handle:
            handle.write(f"{word}\n")
        return log.read_text().split().count(word)

    def counted(*arguments):
        note("begun")
        count(*arguments)

    def saved(*arguments):
        save(*arguments)
        if note("saved") == saves:
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))

    sweep_run._count_chunk, files.save = counted, saved
    sims.__main__.main()
