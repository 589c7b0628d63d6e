"""Where image data sets come from: files as their authors distribute them, digests, addresses.

Digests are SHA-256 (64 digits) or MD5 (32 digits, against damage only) of the contents:
MNIST, Fashion-MNIST and CIFAR-10 from the original files, whose published MD5s agree; CIFAR-100 and
all archives as several public loaders of these files record them; STL-10 files as torchvision does.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nets.data import formats


class File(NamedTuple):
    """One file.

    Args:
        name: without the ending .gz.
        digest: of the uncompressed contents.
        compressed: digest of the .gz file that the authors distribute, where they do.
    """

    name: str
    digest: str
    compressed: str = ""


class Archive(NamedTuple):
    """A tar file, and its digest."""

    name: str
    digest: str


class DataSource(NamedTuple):
    """A data set.

    Args:
        class_names: in the order of the labels.
        shape: of an image, (height, width, channels).
        decode: makes images of the files of one part.
        train, test: the files of each part.
        address: of the folder that holds the archive or the compressed files.
        folder: where the archive puts the files.
        archive: None where the files are distributed one by one.
        pickled: names of other versions of the data set, which hold pickles.
        terms: the licence.
        key: of `theory/references.bib`.
    """

    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    decode: Callable[[Sequence[formats.Contents], int], formats.Images]
    train: tuple[File, ...]
    test: tuple[File, ...]
    address: str
    folder: str
    archive: Archive | None
    pickled: tuple[str, ...]
    terms: str
    key: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGITS = tuple("0123456789")

# The authors' site no longer serves the files: the address is the mirror that torchvision uses.

MNIST = DataSource(
    class_names=DIGITS,
    shape=(28, 28, 1),
    decode=formats.idx_pair,
    train=(
        File(
            "train-images-idx3-ubyte",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        File(
            "train-labels-idx1-ubyte",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    test=(
        File(
            "t10k-images-idx3-ubyte",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    address="https://ossci-datasets.s3.amazonaws.com/mnist/",
    folder="raw",
    archive=None,
    pickled=("mnist.pkl.gz", "mnist.pkl", "processed"),
    terms="commonly stated as CC BY-SA 3.0",
    key="lecun1998gradient",
)

FASHION_MNIST = MNIST._replace(
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    train=(
        File(
            "train-images-idx3-ubyte",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        File(
            "train-labels-idx1-ubyte",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
    ),
    test=(
        File(
            "t10k-images-idx3-ubyte",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    address="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    terms="MIT, Copyright 2017 Zalando SE",
    key="xiao2017fashion",
)

CIFAR_10 = DataSource(
    class_names=_words("airplane automobile bird cat deer dog frog horse ship truck"),
    shape=(32, 32, 3),
    decode=formats.cifar10,
    train=(
        File(
            "data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
        ),
        File(
            "data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"
        ),
        File(
            "data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"
        ),
        File(
            "data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"
        ),
        File(
            "data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"
        ),
    ),
    test=(
        File("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    ),
    address="https://www.cs.toronto.edu/~kriz/",
    folder="cifar-10-batches-bin",
    archive=Archive(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    pickled=("cifar-10-batches-py", "cifar-10-python.tar.gz", "data_batch_1"),
    terms="no explicit licence; cite the report",
    key="krizhevsky2009cifar",
)

# Address, image shape, terms and report are those of CIFAR-10.
CIFAR_100 = CIFAR_10._replace(
    class_names=_words(
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
        "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach "
        "couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house "
        "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
        "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal "
        "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper "
        "table tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
        "willow_tree wolf woman worm"
    ),
    decode=formats.cifar100,
    train=(File("train.bin", "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),),
    test=(File("test.bin", "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),),
    folder="cifar-100-binary",
    archive=Archive(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    pickled=("cifar-100-python", "cifar-100-python.tar.gz"),
)

# Its archive of 2.6e9 bytes also holds unlabelled images, which are left in it.
STL_10 = DataSource(
    class_names=_words("airplane bird car cat deer dog horse monkey ship truck"),
    shape=(96, 96, 3),
    decode=formats.stl10,
    train=(
        File("train_X.bin", "918c2871b30a85fa023e0c44e0bee87f"),
        File("train_y.bin", "5a34089d4802c674881badbb80307741"),
    ),
    test=(
        File("test_X.bin", "7f263ba9f9e0b06b93213547f721ac82"),
        File("test_y.bin", "36f9794fa4beb8a2c72628de14fa638e"),
    ),
    address="https://cs.stanford.edu/~acoates/stl10/",
    folder="stl10_binary",
    archive=Archive(
        "stl10_binary.tar.gz",
        "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
    ),
    # No other version of it is common.
    pickled=(),
    terms="no explicit licence; images from ImageNet, cite the paper",
    key="coates2011stl",
)

SOURCES: dict[str, DataSource] = {
    "mnist": MNIST,
    "fashion-mnist": FASHION_MNIST,
    "cifar-10": CIFAR_10,
    "cifar-100": CIFAR_100,
    "stl-10": STL_10,
}
