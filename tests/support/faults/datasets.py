"""Data sets with one entry changed, as a damaged file or a careless tool would leave them."""

from collections.abc import Callable
from typing import Any

import xarray as xr


def with_value(name: str, value: Any, *at: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    """Returns what copies a data set and puts a value into a variable, at an index."""

    def change(dataset: xr.Dataset) -> xr.Dataset:
        dataset = dataset.copy(deep=True)
        dataset[name].values[at] = value
        return dataset

    return change
