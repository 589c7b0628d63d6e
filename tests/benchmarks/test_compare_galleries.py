"""The comparison of two galleries: what it must see, and what is no difference."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from benchmarks.compare_galleries import compare, units_apart

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "compare_galleries.py"


def _dataset(**changes):
    values = {
        "errors": (("radius", "label"), np.array([[10, 2], [30, 4]])),
        "losses": (("radius", "label"), np.array([[1.5, np.nan], [0.25, 1e300]])),
        "theory": (("radius", "component"), np.array([[0.1], [np.nan]])),
        "weights": (("radius", "component", "label"), np.full((2, 1, 2), 0.5)),
        "low": (("radius", "component"), np.array([[0.05], [0.2]])),
        "verdict": (("radius", "component"), np.array([[0], [1]], np.int8)),
    }
    coordinates = {"radius": [0.0, 1.0], "label": ["negative", "positive"], "component": ["risk"]}
    attributes = {"code": "before", "level": 1e-3, "statement": "a sentence"}
    dataset = xr.Dataset(values, coordinates, attributes)
    for name, value in changes.items():
        if name in dataset:
            dataset[name].values.flat[0] = value
        else:
            dataset.attrs[name] = value
    return dataset


def _galleries(root, before, after):
    folders = []
    for name, gallery in (("before", before), ("after", after)):
        (root / name).mkdir()
        for claim, dataset in gallery.items():
            dataset.to_netcdf(root / name / f"{claim}.nc", engine="h5netcdf")
        folders.append(root / name)
    return folders


def test_the_same_numbers_are_no_difference(tmp_path):
    after = _dataset(code="after", statement="another sentence")
    count, lines = compare(*_galleries(tmp_path, {"a": _dataset()}, {"a": after}))
    assert count == 0
    assert lines == [
        "note: a.nc: other words in statement",
        "1 data sets compared, 0 differences",
    ]


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"errors": 11}, "errors: 1 of 4 values differ"),
        ({"losses": np.nextafter(1.5, 2)}, "losses: 1 of 4 sums differ"),
        ({"losses": np.nan}, "losses: 1 of 4 sums differ"),
        ({"theory": 0.1 + 2**-55}, "theory: 1 of 2 values differ, by up to 2 units"),
        ({"theory": -0.1}, "theory: 1 of 2 values differ, by up to 9.18"),
        ({"theory": np.nan}, "theory: 1 of 2 values differ, by up to inf units"),
        ({"low": 0.06}, "low: 1 of 2 values differ"),
        ({"verdict": 1}, "verdict: 1 of 2 values differ"),
    ],
)
def test_a_changed_number_is_seen(change, seen, tmp_path):
    count, lines = compare(*_galleries(tmp_path, {"a": _dataset()}, {"a": _dataset(**change)}))
    assert count == 1
    assert lines[0].startswith(f"a.nc: {seen}")


def test_some_units_may_be_allowed_to_closed_forms_and_none_to_sums(tmp_path):
    after = _dataset(theory=0.1 + 2**-55, losses=np.nextafter(1.5, 2))
    before, changed = _galleries(tmp_path, {"a": _dataset()}, {"a": after})
    assert compare(before, changed, units=1)[0] == 2
    assert compare(before, changed, units=2)[0] == 1


def test_intervals_at_another_level_are_not_compared(tmp_path):
    after = _dataset(low=0.06, verdict=1, level=5e-4)
    count, lines = compare(*_galleries(tmp_path, {"a": _dataset()}, {"a": after}))
    assert count == 0
    assert "another level" in lines[0]


def test_variables_and_shapes_are_compared(tmp_path):
    before = {name: _dataset() for name in "abcd"}
    before["b"] = _dataset().isel(radius=[0])
    after = {
        "a": _dataset().drop_vars("theory"),
        "b": _dataset(),
        "c": _dataset().assign(errors=_dataset()["errors"].astype(float)),
        "d": _dataset().assign_coords(radius=[0.0, 1.0 + 2**-52]),
    }
    _, lines = compare(*_galleries(tmp_path, before, after))
    assert "a.nc: theory: missing" in lines
    assert "b.nc: radius: ('radius',) (1,) is now ('radius',) (2,)" in lines
    assert "c.nc: errors: int64 is now float64" in lines
    assert "d.nc: radius: 1 of 2 values differ, by up to 1 units" in lines


def test_names_that_are_missing_or_new_are_differences(tmp_path):
    before, after = {"a": _dataset(), "b": _dataset()}, {"b": _dataset(), "c": _dataset()}
    folders = _galleries(tmp_path, before, after)
    assert compare(*folders) == (
        2,
        ["a.nc: missing", "c.nc: new", "1 data sets compared, 2 differences"],
    )
    for second, status in ((1, 1), (0, 0)):
        call = [sys.executable, str(SCRIPT), str(folders[0]), str(folders[second])]
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    assert "2 data sets compared, 0 differences" in done.stdout


def test_a_folder_without_data_sets_is_bad_input(tmp_path):
    call = [sys.executable, str(SCRIPT), str(tmp_path), str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 2
    assert "has no data sets" in done.stderr


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_are_counted_through_zero(dtype):
    tiny = np.nextafter(dtype(0), dtype(1))
    before = np.array([0.0, -tiny, 1.0, -1.0, np.inf, np.nan], dtype)
    after = np.array([-0.0, tiny, np.nextafter(dtype(1), dtype(2)), -1.0, np.inf, np.nan], dtype)
    assert units_apart(before, after).tolist() == [0, 2, 1, 0, 0, 0]
