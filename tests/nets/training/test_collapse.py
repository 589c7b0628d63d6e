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
        (([200, 20], 256, 20.0, [1, 300]), "clean = 300"),
        (([200, 20], 256, 20.0, [1]), "as many checks as the 2"),
        (([0.5, 0.4], 1), "counts of images"),
        (([1], 0), "size = 0"),
        (([1], 5, 0.0), "drop = 0"),
    ):
        with pytest.raises(InvalidInput, match=message):
            collapsed(*arguments)


@pytest.mark.parametrize(
    ("robust", "clean", "stops"),
    [
        # Catastrophic overfitting: clean accuracy stays or rises.
        ([50, 0], [70, 85], True),
        ([40, 50, 10], [60, 70, 60], True),
        ([50, 20], [70, 56], True),  # clean accuracy fell by less than half as much
        # A step too large: both fall, and what comes next decides.
        ([50, 20], [70, 55], False),
        ([84, 10], [92, 10], False),
        ([84, 10, 70], [92, 10, 85], False),  # it has come back
        ([84, 10, 60], [92, 10, 80], True),  # not far enough, with one epoch to do so
        ([84, 10, 12], [92, 10, 15], True),
        ([84, 10, 80, 30], [92, 10, 90, 50], False),  # each fall has its own epoch
        # Small falls are none of either.
        ([50, 30], [70, 90], False),
    ],
)
def test_a_fall_that_clean_accuracy_shares_has_an_epoch_to_recover(robust, clean, stops):
    assert collapsed(robust, 100, clean=clean) is stops
    assert collapsed(robust, 100) is (100 * (max(robust[:-1]) - robust[-1]) > 2000)
