"""A data set that does not hold what the table of its kind says is refused, in one line."""

import pathlib

import numpy as np
import pytest
import xarray as xr

from sims.files import schema
from sims.sweep import file as sweep_file
from sims.training import file as grid_file
from support.faults import kinds
from theory.domain import InvalidInput

PATH = pathlib.Path("a.nc")
TABLES = {
    "sweep": (kinds.sweep(), sweep_file.TABLE),
    "grid": (kinds.grid(), grid_file.TABLE),
}


def with_value(name, value, dtype=None):
    """Returns a function that puts one value into a variable."""

    def change(dataset):
        variable = dataset[name].copy(deep=True)
        variable = variable.astype(dtype or variable.dtype)
        variable.values.flat[-1] = value
        return dataset.assign({name: variable})

    return change


def with_attribute(name, value):
    return lambda dataset: dataset.assign_attrs({name: value})


CASES = [
    ("sweep", lambda d: d.drop_vars("trials"), "it has no 'trials'"),
    ("sweep", lambda d: d.drop_vars("label"), "it has no 'label'"),
    ("sweep", with_value("errors", -1), "errors has a value -1: must be in [0, inf)"),
    ("sweep", with_value("errors", 1001), "errors has a value 1001: must be at most trials"),
    (
        "sweep",
        with_value("trials", 5.5, float),
        "trials is of type float64: must be integer or unsigned integer",
    ),
    ("sweep", with_value("fails", 2), "fails has a value 2: must be in [0, 1]"),
    (
        "sweep",
        lambda d: d.assign(errors=d["errors"].transpose()),
        "errors has the dimensions (label, radius): must be (..., label)",
    ),
    (
        "sweep",
        lambda d: d.assign(theory=d["theory"].astype(str)),
        "theory is of type <U32: must be float",
    ),
    (
        "sweep",
        lambda d: d.assign(trials=d["trials"].isel(label=0)),
        "trials has the dimensions (radius): must be (..., label)",
    ),
    (
        "sweep",
        lambda d: d.assign_coords(label=["negative", "negative"]),
        "label has a value twice: each must be there once",
    ),
    ("sweep", lambda d: d.assign_coords(label=[0, 1]), "label is of type int64: must be text"),
    ("sweep", with_attribute("claim", 3), "its attribute claim = 3: must be text"),
    ("sweep", with_attribute("claim", ["a"]), "its attribute claim = ['a']: must be text"),
    (
        "sweep",
        with_attribute("seed", 0.5),
        "its attribute seed = 0.5: must be integer or unsigned integer",
    ),
    ("sweep", with_attribute("level", 1.5), "its attribute level = 1.5: must be in [0, 1]"),
    (
        "sweep",
        lambda d: d.drop_attrs(deep=False),
        "it has no attribute 'claim'",
    ),
    (
        "grid",
        with_value("epochs", 32),
        "epochs has a value 32: must be at most its attribute epochs = 3",
    ),
    ("grid", with_value("robust_errors", 2000), "robust_errors has a value 2000: must be at most"),
    (
        "grid",
        with_attribute("kind", "sweep"),
        "its attribute kind = 'sweep': must be train-grid",
    ),
    (
        "grid",
        with_attribute("epochs", np.int64(0)),
        "its attribute epochs = 0: must be in [1, inf)",
    ),
    ("grid", lambda d: d.assign(trials=d["trials"].astype(str)), "trials is of type <U21: must be"),
    ("grid", with_value("radius", np.nan), "radius has a value nan: must be in [0, inf)"),
    ("grid", lambda d: d.assign_coords(seed=[3, 3]), "seed has a value twice"),
]


@pytest.mark.parametrize(("kind", "change", "words"), CASES, ids=[words for *_, words in CASES])
def test_what_does_not_fit_is_named(kind, change, words):
    dataset, table = TABLES[kind]
    with pytest.raises(InvalidInput) as error:
        schema.require(PATH, change(dataset), table)
    line = str(error.value)
    assert line.startswith(f"results = {PATH}: not {table.kind}, ")
    assert words in line
    assert "\n" not in line


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_what_fits_passes_and_more_than_the_table_too(kind):
    dataset, table = TABLES[kind]
    schema.require(PATH, dataset, table)
    schema.require(PATH, dataset.assign(more=("z", [1, 2])).assign_attrs(more="a"), table)


def test_texts_of_json_are_parsed():
    table = schema.Table("a record", {"text": schema.Row(("x",), schema.TEXT, json=True)})
    schema.require(PATH, xr.Dataset({"text": ("x", ['{"a": 1}', "null"])}), table)
    broken = xr.Dataset({"text": ("x", np.array(["null", '{"a" 1}'], object))})
    with pytest.raises(InvalidInput, match=r"""text has a value '{"a" 1}': must be JSON"""):
        schema.require(PATH, broken, table)
    numbers = xr.Dataset({"text": ("x", np.array(["null", 3], object))})
    with pytest.raises(InvalidInput, match="text is of type object: must be text"):
        schema.require(PATH, numbers, table)
