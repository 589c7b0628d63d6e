"""Pictures as files: whole or not there, written when they change, and naming what they show."""

import hashlib
import io
import pathlib
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from sims import files

# Where a PNG says which data it shows.
KEY = "robust-risk data"
DRAWN = ("theory", "fails", "estimate", "low", "high")


def data_digest(datasets: Iterable[xr.Dataset]) -> str:
    """Returns a digest of all numbers of judged sweeps that a picture may show, in hexadecimal."""
    hashed = hashlib.sha256()
    for dataset in datasets:
        axes = [str(name) for name in dataset["theory"].dims[:-1]]
        for name in (*axes, *DRAWN):
            values = np.asarray(dataset[name].values, float)
            hashed.update(f"{name} {values.shape} ".encode() + values.tobytes())
    return hashed.hexdigest()


def save(drawn: Figure, name: str, folder: pathlib.Path, data: str = "") -> pathlib.Path:
    """Writes a figure as PNG and PDF, closes it, and returns the path of the PNG.

    Args:
        drawn: the figure.
        name: of the files.
        folder: where they are written.
        data: a digest of what is shown, by which `data_of` knows the picture again.

    Raises:
        InvalidInput: if a file cannot be written; what was there before is untouched.
    """
    png, pdf = io.BytesIO(), io.BytesIO()
    try:
        drawn.savefig(png, format="png", metadata={KEY: data} if data else None)
        drawn.set_layout_engine("none")  # The places found for the first file serve the second.
        # Without a date the same data give the same file.
        drawn.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    finally:
        plt.close(drawn)
    # The PNG is the last: where it names its data, the PDF shows them too.
    put(folder / f"{name}.pdf", pdf.getvalue(), "picture")
    put(folder / f"{name}.png", png.getvalue(), "picture")
    return folder / f"{name}.png"


def put(path: pathlib.Path, content: bytes, kind: str) -> None:
    """Writes a file as a whole; one that holds the same bytes is let be, on a full disk too.

    Args:
        path: the file.
        content: what it is to hold.
        kind: what a message calls it.

    Raises:
        InvalidInput: if it cannot be written; what was there before is untouched.
    """
    if path.is_file() and path.read_bytes() == content:
        return
    files.replace_whole(path, lambda at: at.write_bytes(content), kind)


def data_of(path: pathlib.Path) -> str:
    """Returns the digest of the data that a PNG shows; empty if it names none."""
    try:
        with Image.open(path) as image:
            return str(image.info.get(KEY, ""))
    except (OSError, SyntaxError, ValueError):  # as Pillow calls what is no picture
        return ""
