"""Reads all that is in the netCDF file on standard input, in a process of its own.

HDF5 may hang or crash on damaged bytes; then this process ends by a signal, and `sims.files.netcdf`
says so. It loads none of our packages, to start quickly.
"""

import contextlib
import io
import signal
import sys
from typing import Any

SECONDS = 0.5  # of processor time, and one more for each 4 MiB: a hundred times what it takes
# A member of the file never unpacks to more than this many times the whole file: deflate's ratio.
RATIO = 1032


def limit(size: int) -> None:
    """Has the system end this process when it has computed for too long, even inside HDF5."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, SECONDS + size / 2**22)


def walk(group: Any, size: int) -> None:
    """Reads every attribute and every value of a group and of all below it.

    Args:
        group: of h5netcdf.
        size: of the file, in bytes.

    Raises:
        ValueError: for a variable that cannot be in a file of this size.
    """
    dict(group.attrs)
    for name, dimension in group.dimensions.items():
        if dimension.size > RATIO * size:
            raise ValueError(f"dimension {name} = {dimension.size}")
    for name, variable in group.variables.items():
        dict(variable.attrs)
        _ = variable.dimensions, variable.chunks, variable.dtype
        held = variable.dtype.itemsize
        for length in variable.shape:
            held *= length
        if held > RATIO * size:
            raise ValueError(f"variable {name} of {held} bytes")
        variable[...]
    for below in group.groups.values():
        walk(below, size)


def main() -> None:
    """Reads standard input; an error is one line on stderr and exit 1."""
    data = sys.stdin.buffer.read()
    import h5netcdf

    limit(len(data))
    with contextlib.closing(io.BytesIO(data)) as stream, h5netcdf.File(stream, "r") as file:
        walk(file, len(data))


if __name__ == "__main__":
    main()
