"""Has a change of code changed a number? The data sets of two galleries, name by name.

    python benchmarks/compare_galleries.py BEFORE AFTER

What was counted or added up in simulation must be equal bit for bit. Closed forms must be equal to
the last place; where they are not, the largest difference is given in units of the last place.
Intervals and verdicts follow from counts and from the level, which is shared among the claims of a
gallery: they are compared where the level is the same. The status is 1 where a number differs, or
a data set is missing or new.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

# What follows from counts at a level, and so changes with the number of claims in a gallery.
OF_LEVEL = ("low", "high", "detectable", "refuted", "verdict")
# What says which code made a file, how it was split, and that it carries a digest: no number.
PROVENANCE = ("code", "jax", "versions", "level", "integrity")


def units_apart(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns how many floating-point numbers lie between equal-shaped arrays (...), float64 (...).

    Two nan are no unit apart, and so are 0 and -0; nan and a number are infinitely many apart.
    """
    width: Any = {4: np.int32, 8: np.int64}[before.dtype.itemsize]

    def order(values: np.ndarray) -> np.ndarray:
        # As integers, bits of positive floats are in order; those of negative ones are reversed.
        bits = values.view(width).astype(object)
        return np.where(bits < 0, int(np.iinfo(width).min) - bits, bits)

    apart = np.abs(order(np.ascontiguousarray(before)) - order(np.ascontiguousarray(after)))
    one_nan = np.isnan(before) != np.isnan(after)
    both_nan = np.isnan(before) & np.isnan(after)
    return np.where(one_nan, np.inf, np.where(both_nan, 0, apart)).astype(float)


def difference(before: xr.Variable, after: xr.Variable, simulated: bool, units: float) -> str:
    """Returns how a variable differs, in words; nothing where it is the same.

    Args:
        before: the variable in the first gallery.
        after: the variable in the second.
        simulated: whether it was added up in simulation, so that every bit must be the same.
        units: the units of the last place that other floating-point numbers may be apart.
    """
    if before.dims != after.dims or before.shape != after.shape:
        return f"{before.dims} {before.shape} is now {after.dims} {after.shape}"
    if before.dtype.kind != "f" or after.dtype != before.dtype:
        # Text has the length of its longest entry as its type.
        if before.dtype.kind != after.dtype.kind or before.dtype.kind == "f":
            return f"{before.dtype} is now {after.dtype}"
        changed = int((before.values != after.values).sum())
        return f"{changed} of {before.size} values differ" if changed else ""
    if simulated:
        changed = int((units_apart(before.values, after.values) > 0).sum())
        return f"{changed} of {before.size} sums differ" if changed else ""
    apart = units_apart(before.values, after.values)
    if not (apart > units).any():
        return ""
    return f"{(apart > units).sum()} of {before.size} values differ, by up to {apart.max():g} units"


def differences(before: xr.Dataset, after: xr.Dataset, units: float) -> Iterator[str]:
    """Yields what differs between two data sets of one name."""
    same_level = before.attrs.get("level") == after.attrs.get("level")
    for name in sorted({*before.variables, *after.variables}, key=str):
        if name not in after.variables or name not in before.variables:
            yield f"{name}: {'new' if name in after.variables else 'missing'}"
        elif same_level or name not in OF_LEVEL:
            old, new = before.variables[name], after.variables[name]
            simulated = "label" in old.dims and name not in ("weights", "label")
            if text := difference(old, new, simulated, units):
                yield f"{name}: {text}"


def changed_words(before: xr.Dataset, after: xr.Dataset) -> list[str]:
    """Returns the attributes that differ, but for those that say what code made a file."""
    names = {*before.attrs, *after.attrs} - set(PROVENANCE)
    return sorted(n for n in names if str(before.attrs.get(n)) != str(after.attrs.get(n)))


def compare(before: pathlib.Path, after: pathlib.Path, units: float = 0.0) -> tuple[int, list[str]]:
    """Returns the number of differences between two galleries, and the lines that say them."""
    files = [{path.name: path for path in folder.glob("*.nc")} for folder in (before, after)]
    lines = [f"{name}: missing" for name in sorted(files[0].keys() - files[1].keys())]
    lines += [f"{name}: new" for name in sorted(files[1].keys() - files[0].keys())]
    notes, other_levels = [], 0
    shared = sorted(files[0].keys() & files[1].keys())
    for name in shared:
        old, new = (
            xr.load_dataset(gallery[name], engine="h5netcdf", decode_timedelta=False)
            for gallery in files
        )
        lines += [f"{name}: {text}" for text in differences(old, new, units)]
        other_levels += old.attrs.get("level") != new.attrs.get("level")
        if words := changed_words(old, new):
            notes.append(f"note: {name}: other words in {', '.join(words)}")
    if other_levels:
        notes.append(f"note: {other_levels} data sets have another level: no intervals compared")
    summary = f"{len(shared)} data sets compared, {len(lines)} differences"
    return len(lines), [*lines, *notes, summary]


def main() -> None:
    """Prints what differs; exits with status 1 where anything does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", type=pathlib.Path, help="the gallery of the code before")
    parser.add_argument("after", type=pathlib.Path, help="the gallery of the code after")
    parser.add_argument(
        "--units", type=float, default=0.0, help="units of the last place that are no difference"
    )
    options = parser.parse_args()
    for folder in (options.before, options.after):
        if not list(folder.glob("*.nc")):
            parser.error(f"{folder} has no data sets (*.nc)")
    count, lines = compare(options.before, options.after, options.units)
    print("\n".join(lines))
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
