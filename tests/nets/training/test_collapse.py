"""When a training has collapsed: robust accuracy is gone, by more than chance."""

import pytest

from nets.training.collapse import collapsed
from theory.domain import InvalidInput


def test_the_probe_speaks_up_above_twenty_points_and_not_before():
    assert not collapsed([], 256)
    assert not collapsed([100], 256)
    assert not collapsed([10, 200, 149, 180], 256)
    assert not collapsed([60, 40], 100)  # exactly twenty points
    assert collapsed([60, 39], 100)
    assert collapsed([60, 50, 45, 39], 100)  # slowly, which the check before would not show
    assert not collapsed([60, 39, 45], 100)  # it has come back
    assert collapsed([60, 49], 100, drop=10.0)
    for arguments, message in (
        (([300], 256), "correct = 300"),
        (([0.5, 0.4], 1), "counts of images"),
        (([1], 0), "size = 0"),
        (([1], 5, 0.0), "drop = 0"),
    ):
        with pytest.raises(InvalidInput, match=message):
            collapsed(*arguments)
