"""Parts of a data set: exact counts, who is kept, and what is refused."""

import doctest
import math

import numpy as np
import pytest
from scipy.stats import binom

from nets.data import subsets
from nets.data.load import DataSet, Images
from nets.data.subsets import class_counts, hold_out, imbalanced, pair_splits, tail, two_classes
from theory.domain import InvalidInput


def _images(counts, seed=0):
    """Returns images in random order, each of which shows its own number in its pixels."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    np.random.default_rng(seed).shuffle(labels)
    numbers = np.arange(len(labels), dtype=">u4").view(np.uint8).reshape(-1, 1, 4, 1)
    return Images(numbers, labels)


def _numbers(images):
    return images.images.reshape(-1, 4).copy().view(">u4").ravel().astype(int)


def _is_part(part, whole):
    """Whether the images of a part are images of the whole, in its order, without repetition."""
    index = _numbers(part)
    return bool((np.diff(index) > 0).all()) and np.array_equal(part.images, whole.images[index])


def test_hold_out_takes_as_many_of_each_class_and_keeps_the_order():
    whole = _images([9, 30, 12])
    rest, held = hold_out(whole, 4, 3)
    assert class_counts(held).tolist() == [4, 4, 4]
    assert class_counts(rest).tolist() == [5, 26, 8]
    assert sorted([*_numbers(rest), *_numbers(held)]) == list(range(51))
    for part in (rest, held):
        assert _is_part(part, whole)
        assert np.array_equal(part.labels, whole.labels[_numbers(part)])
    assert not np.array_equal(_numbers(hold_out(whole, 4, 4)[1]), _numbers(held))
    assert np.array_equal(_numbers(hold_out(whole, 4, 3)[1]), _numbers(held))
    assert set(_numbers(hold_out(whole, 3, 3)[1])) < set(_numbers(held))


def test_a_class_does_not_depend_on_the_others():
    whole = _images([9, 30, 12])
    alone = Images(whole.images[whole.labels == 0], whole.labels[whole.labels == 0])
    kept = _numbers(hold_out(alone, 4, 3)[1])
    held = hold_out(whole, 4, 3)[1]
    assert np.array_equal(kept, _numbers(held)[held.labels == 0])


def test_every_image_is_held_out_equally_often():
    whole = _images([6, 5])
    seeds = 3000
    times = np.zeros(11, int)
    for seed in range(seeds):
        times[_numbers(hold_out(whole, 2, seed)[1])] += 1
    for label, size in ((0, 6), (1, 5)):
        # False alarms: 1e-6 over all eleven; a share off by 0.05 would be seen.
        low, high = binom.ppf([5e-7 / 11, 1 - 5e-7 / 11], seeds, 2 / size)
        of_class = times[whole.labels == label]
        assert (low <= of_class).all()
        assert (of_class <= high).all()


def test_the_order_is_frozen():
    held = hold_out(_images([8, 8]), 3, 2026)[1]
    assert _numbers(held).tolist() == [4, 5, 9, 11, 13, 14]


@pytest.mark.parametrize("ratio", [1, 2, 10, 50, 100, 200])
@pytest.mark.parametrize(("classes", "largest"), [(10, 5000), (100, 500), (2, 1000), (7, 5421)])
def test_an_exponential_tail_is_the_floor_of_the_formula(classes, largest, ratio):
    counts = tail(classes, largest, ratio)
    for k, count in enumerate(counts):
        # count <= largest * ratio^(-k / (K - 1)) < count + 1, in integers.
        power = classes - 1
        assert count**power * ratio**k <= largest**power < (count + 1) ** power * ratio**k


def test_a_step_keeps_the_first_half():
    assert tail(10, 5000, 100, "step") == [5000] * 5 + [50] * 5
    assert tail(5, 100, 3, "step") == [100, 100, 33, 33, 33]
    assert doctest.testmod(subsets).failed == 0
    assert doctest.testmod(subsets).attempted == 2


def test_imbalanced_counts_are_exact_and_nested():
    whole = _images([40, 32, 50, 33])
    mild, strong = (imbalanced(whole, ratio, seed=1) for ratio in (2, 16))
    assert class_counts(mild).tolist() == tail(4, 32, 2)
    assert class_counts(strong).tolist() == [32, 12, 5, 2]
    assert _is_part(strong, whole)
    assert set(_numbers(strong)) < set(_numbers(mild))
    assert class_counts(imbalanced(whole, 4, "step", 1, largest=20)).tolist() == [20, 20, 5, 5]


@pytest.mark.parametrize(
    ("ratio", "counts"),
    [
        (1, [100, 100]),
        (2, [100, 50]),
        (5, [100, 20]),
        (10, [100, 10]),
        (3, [100, 33]),
        (0.5, [50, 100]),
        (0.1, [10, 100]),
        (1 / 3, [33, 100]),
        (0.29, [29, 100]),  # 100 * 0.29 is below 29 in floating point.
    ],
)
def test_two_classes_have_the_ratio_of_negatives_to_positives(ratio, counts):
    whole = _images([120, 7, 110, 5])
    pair = two_classes(whole, 2, 0, ratio, 5, 100)
    assert class_counts(pair).tolist() == counts
    assert _is_part(pair, whole)
    original = whole.labels[_numbers(pair)]
    assert np.array_equal(original == 0, pair.labels == 1)
    assert np.array_equal(original == 2, pair.labels == 0)
    assert pair.labels.dtype == np.int32


def test_without_a_majority_as_many_as_there_are_are_kept():
    whole = _images([120, 7, 110])
    assert class_counts(two_classes(whole, 0, 2, 1, 0)).tolist() == [110, 110]
    assert class_counts(two_classes(whole, 0, 1, 10, 0)).tolist() == [70, 7]
    assert class_counts(two_classes(whole, 0, 1, 100, 0)).tolist() == [120, 1]
    assert class_counts(two_classes(whole, 1, 0, 0.1, 0)).tolist() == [7, 70]


def test_the_sets_of_a_pair_are_disjoint_and_nested_in_the_ratio():
    train, test = _images([90, 3, 100]), _images([40, 3, 44], 1)
    data = DataSet("made", train, test, ("a", "b", "c"), "")
    splits = {ratio: pair_splits(data, 0, 2, ratio, 4, 40) for ratio in (1, 2, 5, 10)}
    for ratio, split in splits.items():
        for part in split[:3]:
            assert class_counts(part).tolist() == [40, 40 // ratio]
        assert class_counts(split.balanced).tolist() == [40, 40]
        assert not set(_numbers(split.train)) & set(_numbers(split.validation))
        assert _is_part(split.train, train)
        assert _is_part(split.validation, train)
        assert _is_part(split.test, test)
        assert np.array_equal(_numbers(split.balanced), _numbers(splits[1].test))
        for part, larger in zip(split, splits[1], strict=True):
            assert set(_numbers(part)) <= set(_numbers(larger))


FEW = _images([5, 0, 9])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hold_out(FEW, 2, 0), r"per_class = 2: class 1 has 0 image\(s\)"),
        (lambda: hold_out(_images([5, 9]), 5, 0), r"class 0 has 5 image\(s\), so none is left"),
        (lambda: hold_out(_images([5, 9]), 0, 0), "per_class = 0: must be an integer, at least 1"),
        (lambda: hold_out(_images([5, 9]), 1.5, 0), "per_class = 1.5: must be an integer"),
        (
            lambda: hold_out(_images([5, 9]), 2, -1),
            r"seed = -1: must be an integer in \[0, 2\^32\)",
        ),
        (lambda: hold_out(_images([5, 9]), 2, 0.5), "seed = 0.5: must be an integer"),
        (lambda: imbalanced(FEW, 2), "no image of class 1"),
        (lambda: imbalanced(_images([9, 5]), 2, largest=12), r"class 0 has 9 image\(s\), 12 are"),
        (lambda: imbalanced(_images([9, 5]), 20), "ratio = 20: leaves no image of class 1"),
        (lambda: imbalanced(_images([9, 5]), 0.5), r"ratio = 0.5: .* must lie in \[1, inf\)"),
        (lambda: imbalanced(_images([9, 5]), math.nan), "ratio = nan"),
        (lambda: imbalanced(_images([9, 5]), math.inf), "ratio = inf"),
        (lambda: imbalanced(_images([9]), 2), "classes = 1: must be an integer, at least 2"),
        (
            lambda: imbalanced(_images([9, 5]), 2, "steps"),
            "profile = 'steps': unknown; did you mean step",
        ),
        (lambda: two_classes(FEW, 0, 1, 2, 0), r"positive = 1: no image .* there are \[0, 2\]"),
        (lambda: two_classes(FEW, 3, 0, 2, 0), "negative = 3: no image of this class"),
        (lambda: two_classes(FEW, -1, 0, 2, 0), "negative = -1: no image of this class"),
        (lambda: two_classes(FEW, 0, 0, 2, 0), "positive = 0: must be another class"),
        (lambda: two_classes(FEW, 0, 2, 0, 0), r"imbalance_ratio = 0: .* must lie in \(0, inf\)"),
        (lambda: two_classes(FEW, 0, 2, 9, 0), "imbalance_ratio = 9: leaves no image of class 2"),
        (lambda: two_classes(FEW, 0, 2, 1, 0, 6), r"class 0 has 5 image\(s\), 6 are needed"),
        (lambda: two_classes(FEW, 2, 0, 1, 0, 6), r"class 0 has 5 image\(s\), 6 are needed"),
        (lambda: class_counts(Images(FEW.images[:3], FEW.labels)), "with integers"),
        (lambda: class_counts(Images(FEW.images / 255, FEW.labels)), "must be uint8"),
        (
            lambda: class_counts(Images(FEW.images, FEW.labels - 1)),
            "label -1: must not be negative",
        ),
        (lambda: class_counts(Images(FEW.images[:0], FEW.labels[:0])), "n >= 1"),
    ],
)
def test_what_cannot_be_done_is_refused(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()
