"""Files that are whole or not there, that carry their own digest, and that are checked when read.

`whole` replaces and reads bytes; `digest` seals them, and a `manifest` folders; `netcdf` reads and
saves data sets, sealed, and has files without a digest walked through by a `walk` of its own
process first; `schema` holds data sets against a table of their kind; `records` turns JSON and TOML
into typed values. Nothing here loads NumPy or xarray before it is called: command lines import it.
"""

from sims.files.netcdf import read, require_variables, save, unverified_note
from sims.files.whole import contents, replace_whole, require_writable

__all__ = [
    "contents",
    "read",
    "replace_whole",
    "require_variables",
    "require_writable",
    "save",
    "unverified_note",
]
