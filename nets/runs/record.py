"""What run.json says: the types of its fields, its digest, and those of the files beside it.

Its last key is the SHA-256 of all bytes before that line, so that it is verified before it is
parsed, and `files` names the SHA-256 of parameters and log: what another run's were put in the
place of is refused. A record of an earlier version has neither, and is read as unverified.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from sims.files import contents, records
from sims.files import digest as digests
from theory.domain import InvalidInput

FORMAT = 1
SEALS = (digests.NAME, "files", "sha256")
# More than any network of ours has, and few enough that a damaged record cannot ask for a network
# that is never built.
_MOST_LAYERS, _WIDEST = 1000, 2**20
Width = Annotated[int, msgspec.Meta(ge=1, le=_WIDEST)]
Widths = Annotated[list[Width], msgspec.Meta(max_length=_MOST_LAYERS)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**14)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class RecordedOptions(msgspec.Struct):
    """Fields of a network that a record may give; which of them a model has, the model knows."""

    mean: float | list[float] | None = None
    std: float | list[float] | None = None
    kernels: str = ""
    activation: str = ""
    shortcut: str = ""
    hidden: Widths = []
    widths: Widths = []
    stages: Annotated[list[Widths], msgspec.Meta(max_length=_MOST_LAYERS)] = []
    stem: Width = 1
    blocks: Annotated[int, msgspec.Meta(ge=1, le=_MOST_LAYERS)] = 1
    final_norm: bool = True


class RunRecord(msgspec.Struct):
    """The fields of run.json that this package reads; further ones are let through."""

    format: Literal[1]
    model: str
    options: RecordedOptions
    image_shape: tuple[Side, Side, Side]
    class_names: Annotated[list[str], msgspec.Meta(min_length=2)]
    data: str
    fingerprint: str
    classes: list[int | str] = []
    precision: Literal["float32", "bfloat16"] = "float32"
    training: dict[str, Any] | None = None
    training_fingerprint: str = ""
    epoch: Annotated[int, msgspec.Meta(ge=0)] = 0
    files: dict[str, Sha256] = {}


class SettingsRead(NamedTuple):
    """What a record says.

    Args:
        settings: see `nets.runs.folder.Run`.
        digests: the SHA-256 of each file beside it that the record names; empty in earlier ones.
        verified: whether the record carries its own digest, which then fits.
    """

    settings: dict[str, Any]
    digests: Mapping[str, str]
    verified: bool


def text_of(settings: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Returns the text of run.json.

    Args:
        settings: see `nets.runs.folder.Run`.
        files: the SHA-256 of each file beside it, by name.
    """
    plain = {key: value for key, value in settings.items() if key not in (*SEALS, "format")}
    content = {"format": FORMAT, digests.NAME: digests.PROMISE, **plain, "files": dict(files)}
    return digests.sealed_json(json.dumps(content, indent=1))


def read(path: pathlib.Path) -> SettingsRead:
    """Returns what a record says, once its bytes are those that were written.

    Raises:
        InvalidInput: naming the file: missing, damaged, not JSON, or the field that is missing or
            of another type, its value, and what is allowed.
    """
    label = f"run = {path}"
    if not path.exists():
        raise InvalidInput(f"run = {path.parent}: no {path.name} there")
    data = contents(path, "run", most=2**24)
    try:
        is_verified = digests.verified_json(data) is not None
    except digests.Damaged as error:
        raise InvalidInput(
            f"{label}: damaged, {error} (to edit it, take its keys {', '.join(SEALS)} out)"
        ) from error
    settings = records.from_json(data, label)
    its_format = settings.get("format") if isinstance(settings, dict) else FORMAT
    if its_format is not None and its_format != FORMAT:
        raise InvalidInput(f"{label}: format {its_format!r}, must be {FORMAT}")
    record = records.typed(settings, RunRecord, label)
    named = record.files if is_verified else {}
    plain = {key: value for key, value in settings.items() if key not in SEALS}
    return SettingsRead(plain, named, is_verified)
