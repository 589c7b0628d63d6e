"""What a kill leaves of a training that is finished: its checkpoints and a lock that nobody holds.

A training removes them once its run is whole. One that is killed in between leaves them for good,
as nobody trains into that folder again; so whoever looks at a finished run clears them.
"""

import pathlib
from collections.abc import Sequence

from nets.configs.settings import completed
from nets.runs import folder as run_folder
from nets.runs import lock, record
from nets.training import checkpoint
from theory.domain import InvalidInput


def clear(folder: pathlib.Path, runs: Sequence[pathlib.Path] = ()) -> None:
    """Removes the checkpoints and the lock of a training that is finished; nothing of another.

    What an unfinished training could go on from is left, and so is a folder that another process
    holds, or whose runs are not all there or cannot be read.

    Args:
        folder: with the checkpoints.
        runs: the folders of the runs of several seeds; `folder` itself of a single one.
    """
    if len(runs) > 1:
        for run in runs:
            clear(run)
    if not any((folder / name).exists() for name in (checkpoint.FOLDER, lock.NAME)):
        return
    try:
        records = [record.read(run / run_folder.SETTINGS).settings for run in runs or (folder,)]
        # Whoever holds it is about to remove them, or trains.
        with lock.held(folder):
            _remove(folder, records)
    except InvalidInput:
        return


def _remove(folder: pathlib.Path, records: Sequence[dict[str, object]]) -> None:
    """Removes the checkpoints unless a training other than the recorded one can go on from them."""
    unfinished, finished = checkpoint.settings_of(folder), records[0].get("training")
    if unfinished is not None:
        if not isinstance(finished, dict):
            return
        # As `nets.experiment.seeds` has them: how many there are belongs to the checkpoint of all.
        ours = finished if len(records) == 1 else finished | {"seeds": len(records)}
        if completed(unfinished, ours) != completed(ours, unfinished):
            return
    checkpoint.remove(folder)
