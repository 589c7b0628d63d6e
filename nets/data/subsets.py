"""Parts of a data set: held-out validation, long tails, and the two-class data of Hu et al. (2023).

Which images of a class are kept is a random order of that class, of which a part keeps the first
ones; so a smaller part lies inside a larger one, and no class depends on the others. The order is
that of raw 64-bit words of the bit generator PCG64, seeded with (purpose, seed, class): numpy
freezes this stream (NEP 19), not what a Generator makes of it. Kept images stay in their order.
"""

import math
from typing import NamedTuple

import numpy as np

from nets.data.load import DataSet, Images, require_images, take
from theory.domain import POSITIVE, Interval, InvalidInput, require_inside, require_known

# Purposes, which seed the order beside seed and class: which images are held out must say nothing
# of which a long tail of the same seed keeps. Results depend on their numbers: new ones go behind.
HOLD_OUT, IMBALANCED, TWO_CLASSES, HALVES = range(4)
PROFILES = ("exponential", "step")
AT_LEAST_ONE = Interval.parse("[1, inf)")


class PairSplits(NamedTuple):
    """Two-class data of one imbalance ratio; `balanced` is the test set of ratio 1."""

    train: Images
    validation: Images
    test: Images
    balanced: Images


def class_counts(images: Images) -> np.ndarray:
    """Returns how many images there are of each class from 0 to the largest label, int64 (K,).

    Raises:
        InvalidInput: for arrays that are no images.
    """
    return np.bincount(require_images("images", images).labels)


def hold_out(images: Images, per_class: int, seed: int) -> tuple[Images, Images]:
    """Returns the rest and a validation set with as many random images of each class.

    Args:
        images: of which every class up to the largest label must have more than `per_class`.
        per_class: at least 1.
        seed: in [0, 2^32).

    Raises:
        InvalidInput: for a class with too few images, or an argument out of range.
    """
    counts = class_counts(images)
    _require_count("per_class", per_class)
    for label, count in enumerate(counts.tolist()):
        if count <= per_class:
            raise InvalidInput(
                f"per_class = {per_class}: class {label} has {count} image(s), so none is left to "
                "train on"
            )
    held = _chosen(images, dict.fromkeys(range(len(counts)), per_class), seed, HOLD_OUT)
    return _without(images, held), take(images, held)


def tail(classes: int, largest: int, ratio: float, profile: str = "exponential") -> list[int]:
    """Returns how many images each class keeps, from the most frequent to the rarest, rounded down.

    Args:
        classes: K, at least 2.
        largest: images of class 0, at least 1.
        ratio: of the largest class to the smallest, in [1, inf).
        profile: "exponential", largest * ratio^(-k / (K - 1)) of class k (Cui et al. 2019), or
            "step", `largest` of the first half of the classes, rounded down, and
            largest / ratio of the others (Cao et al. 2019).

    Raises:
        InvalidInput: for an argument out of range, or a class that would keep no image.

    >>> tail(10, 5000, 100)
    [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    >>> tail(3, 5000, 10, "step")
    [5000, 500, 500]

    References: cui2019classbalanced, cao2019ldam.
    """
    require_known("profile", profile, PROFILES)
    require_inside("ratio", ratio, AT_LEAST_ONE, "the largest class over the smallest")
    _require_count("classes", classes, 2)
    _require_count("largest", largest)
    if profile == "step":
        shares = [1.0 if k < classes // 2 else 1 / ratio for k in range(classes)]
    else:
        shares = [ratio ** (-k / (classes - 1)) for k in range(classes)]
    # The published code truncates too: 5000 images at ratio 100 end in 50, not in 49.99.
    counts = [_whole(largest * share) for share in shares]
    if not counts[-1]:
        raise InvalidInput(
            f"ratio = {ratio:g}: leaves no image of class {classes - 1}, the largest class has "
            f"{largest}"
        )
    return counts


def imbalanced(
    images: Images,
    ratio: float,
    profile: str = "exponential",
    seed: int = 0,
    largest: int | None = None,
) -> Images:
    """Returns a long-tailed part: class 0 is the most frequent, the last class the rarest.

    Args:
        images: with at least two classes, none absent.
        ratio, profile: as in `tail`.
        seed: in [0, 2^32).
        largest: images of class 0; as many as the smallest class has if None, so that every
            profile is possible.

    Raises:
        InvalidInput: for a class that is absent or has too few images, or an argument out of range.

    References: cui2019classbalanced, cao2019ldam.
    """
    counts = class_counts(images)
    most = int(counts.min()) if largest is None else largest
    if largest is None and not most:
        raise InvalidInput(f"images: no image of class {int(counts.argmin())}")
    wanted = tail(len(counts), most, ratio, profile)
    return take(images, _chosen(images, dict(enumerate(wanted)), seed, IMBALANCED))


def two_classes(
    images: Images,
    negative: int,
    positive: int,
    imbalance_ratio: float,
    seed: int,
    majority: int | None = None,
) -> Images:
    """Returns images of two classes with labels 0 (negative) and 1 (positive).

    Args:
        images: of any number of classes.
        negative, positive: two different classes.
        imbalance_ratio: R = negatives over positives, in (0, inf): above 1 the negative class is
            the majority, below 1 the positive one. The minority has majority / R images (times R
            below 1), rounded down.
        seed: in [0, 2^32).
        majority: images of the majority, 1000 in the paper; as many as there are, so that the
            minority suffices too, if None.

    Raises:
        InvalidInput: for a class that is absent or has too few images, or an argument out of range.

    References: hu2023accuracydisparity.
    """
    wanted = _pair_counts(class_counts(images), negative, positive, imbalance_ratio, majority)
    both = take(images, _chosen(images, wanted, seed, TWO_CLASSES))
    labels = (both.labels == positive).astype(np.int32)
    labels.setflags(write=False)
    return Images(both.images, labels)


def pair_splits(
    data: DataSet,
    negative: int,
    positive: int,
    imbalance_ratio: float,
    seed: int,
    majority: int = 1000,
) -> PairSplits:
    """Returns the two-class data sets of Hu et al.: training, validation and test set alike.

    Each set has `majority` images of one class and majority / R of the other. Training and
    validation set come from two random halves of the training images, so they never share one.
    Majority images do not depend on R, and the minority of a larger R lies inside that of a
    smaller one. The paper's code has R in {1, 2, 5, 10}, 1000 images of the majority, which is the
    negative class (for Fashion-MNIST the positive one: 1/R here), and measures the accuracy
    disparity on `balanced`. Which of its images were drawn is not published.

    Args:
        data: with at least 2 * majority training images of the majority class.
        negative, positive, imbalance_ratio, seed, majority: as in `two_classes`.

    Raises:
        InvalidInput: as `two_classes`.

    References: hu2023accuracydisparity.
    """
    counts = class_counts(data.train)
    # Halves first, then the classes of each: the halves do not depend on R, so neither do the
    # majority images.
    both = {label: _count_of(counts, label) // 2 for label in (negative, positive)}
    held = _chosen(data.train, both, seed, HALVES)
    sources = (_without(data.train, held), take(data.train, held), data.test)
    train, validation, test = (
        two_classes(source, negative, positive, imbalance_ratio, seed, majority)
        for source in sources
    )
    balanced = two_classes(data.test, negative, positive, 1, seed, majority)
    return PairSplits(train, validation, test, balanced)


def _pair_counts(
    counts: np.ndarray, negative: int, positive: int, ratio: float, majority: int | None
) -> dict[int, int]:
    """Returns how many images of the two classes are wanted."""
    require_inside("imbalance_ratio", ratio, POSITIVE, "negatives over positives")
    for name, label in (("negative", negative), ("positive", positive)):
        if not _count_of(counts, label):
            present = np.flatnonzero(counts).tolist()
            raise InvalidInput(f"{name} = {label}: no image of this class; there are {present}")
    if negative == positive:
        raise InvalidInput(f"positive = {positive}: must be another class than negative")
    frequent, rare = (negative, positive) if ratio >= 1 else (positive, negative)
    skew = max(ratio, 1 / ratio)
    if majority is None:
        # A huge ratio asks for more than an integer holds; no class has 2^62 images.
        majority = min(int(counts[frequent]), _whole(min(counts[rare] * skew, 2**62)))
    _require_count("majority", majority)
    minority = _whole(majority / skew)
    if not minority:
        raise InvalidInput(
            f"imbalance_ratio = {ratio:g}: leaves no image of class {rare} beside {majority} of "
            f"class {frequent}"
        )
    return {frequent: majority, rare: minority}


def _count_of(counts: np.ndarray, label: int) -> int:
    return int(counts[label]) if 0 <= label < len(counts) else 0


def _whole(value: float) -> int:
    """Returns `value` rounded down, where a number just below an integer is that integer."""
    return math.floor(value * (1 + 1e-12))


def _require_count(name: str, value: int, least: int = 1) -> None:
    if not isinstance(value, int | np.integer) or value < least:
        raise InvalidInput(f"{name} = {value}: must be an integer, at least {least}")


def _order(count: int, *seed: int) -> np.ndarray:
    """Returns a random order of `count` things, uniform but for ties among 64-bit words."""
    # Sorted words in place of Generator.permutation, whose algorithm numpy may change (NEP 19).
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def _chosen(images: Images, wanted: dict[int, int], seed: int, purpose: int) -> np.ndarray:
    """Returns the indices, in order, of as many random images of each class as are wanted."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InvalidInput(f"seed = {seed}: must be an integer in [0, 2^32)")
    kept = []
    for label, count in wanted.items():
        members = np.flatnonzero(images.labels == label)
        if count > len(members):
            raise InvalidInput(
                f"images: class {label} has {len(members)} image(s), {count} are needed"
            )
        # By the label as it is in the data set: a class keeps its images whatever the others do.
        kept.append(members[_order(len(members), purpose, int(seed), int(label))[:count]])
    return np.sort(np.concatenate(kept))


def _without(images: Images, held: np.ndarray) -> Images:
    return take(images, np.setdiff1d(np.arange(len(images.labels)), held))
