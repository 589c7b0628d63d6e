"""The images of a training: some classes of a data set, fewer of each, or a long tail."""

from collections.abc import Sequence

import numpy as np

from nets.data.load import DataSet, Images, fingerprint, require_images, take
from nets.data.subsets import AT_LEAST_ONE, PROFILES, imbalanced, tail
from theory.domain import InvalidInput, require_inside, require_known


def select_classes(data: DataSet, classes: Sequence[int | str] = ()) -> DataSet:
    """Returns the images of some classes, which are numbered from 0 in the order given.

    Two classes are the data of Hu et al. (2023), the first of them their negative one; how many
    images of each there are to train on is said by `select_training`.

    Args:
        data: with the names of all its classes.
        classes: at least two different ones, by name or by number; none for the data as they are.

    Returns:
        Training and test images of these classes alone, and the fingerprint of both.

    Raises:
        InvalidInput: naming a class that is unknown, with the nearest names, or given twice; or a
            part without any of these classes.

    References: hu2023accuracydisparity.
    """
    if not len(classes):
        # The very object: its fingerprint need not be computed again.
        return data
    numbers = [_number(data.class_names, entry) for entry in classes]
    if len(set(numbers)) < max(2, len(numbers)):
        raise InvalidInput(f"classes = {list(classes)}: must be at least two different classes")
    count = len(data.class_names)
    train, test = (_renumbered(part, numbers, count) for part in (data.train, data.test))
    names = tuple(data.class_names[number] for number in numbers)
    return DataSet(data.name, train, test, names, fingerprint(train, test))


def select_training(
    images: Images,
    class_names: Sequence[str],
    samples: int = 0,
    imbalance: float = 1.0,
    profile: str = "exponential",
    seed: int = 0,
) -> Images:
    """Returns the images that are trained on: as many of each class, or a long tail.

    Which ones is random but for the seed; those of a smaller part lie inside a larger one.

    Args:
        images: what there is after some were held out.
        class_names: in the order of the labels, the first the most frequent of a long tail.
        samples: of each class, or of the most frequent; 0 for as many as there are or, in a long
            tail, as the smallest class has.
        imbalance, profile: ratio and shape of the tail, see `nets.data.subsets.tail`; 1 for none.
        seed: in [0, 2^32).

    Returns:
        Images in the order of `images`, which is returned itself where nothing is asked for.

    Raises:
        InvalidInput: naming a class with too few images, or a number out of range.

    References: cui2019classbalanced, cao2019ldam, hu2023accuracydisparity.
    """
    require_known("profile", profile, PROFILES)
    require_inside("imbalance", imbalance, AT_LEAST_ONE, "the largest class over the smallest")
    if samples < 0:
        raise InvalidInput(f"training_samples = {samples}: must be at least 0")
    if imbalance == 1 and not samples:
        return images
    counts = np.bincount(images.labels, minlength=len(class_names)).tolist()
    # As many as the smallest class has: enough of each, wherever in the tail it stands.
    largest = samples or min(counts)
    if imbalance > max(largest, 1):
        raise InvalidInput(
            f"imbalance = {imbalance:g}: must be at most {largest}, the images of the most "
            "frequent class, or none of the rarest is left"
        )
    # A class without images is named by the loop below, so `tail` is spared a largest class of 0.
    wanted = tail(len(counts), max(largest, 1), imbalance, profile)
    for name, there, needed in zip(class_names, counts, wanted, strict=True):
        if there < needed:
            raise InvalidInput(
                f"training_samples = {samples}: needs {needed} images of class {name!r}, and there "
                f"are {there} to train on"
            )
    return imbalanced(images, imbalance, profile, seed, largest)


def _number(names: Sequence[str], entry: int | str) -> int:
    if isinstance(entry, str):
        require_known("classes", entry, names)
        return list(names).index(entry)
    if not 0 <= entry < len(names):
        raise InvalidInput(f"classes = {entry}: must be one of the {len(names)} classes, from 0")
    return int(entry)


def _renumbered(images: Images, numbers: Sequence[int], classes: int) -> Images:
    new_label = np.full(classes, -1, np.int32)
    new_label[list(numbers)] = range(len(numbers))
    labels = new_label[images.labels]
    kept = take(Images(images.images, labels), np.flatnonzero(labels >= 0))
    # Also says so where none of the classes has an image.
    return require_images("classes", kept)
