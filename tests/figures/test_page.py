"""The page shows what its folder holds: nothing is lost, nothing stale passes for current."""

import dataclasses
import errno
import os

import matplotlib.pyplot as plt
import pytest

from figures import gallery
from figures.__main__ import make
from figures.kit import registry, saving
from sims import files
from sims.sweep import file as sweep_file
from sims.sweep import verdict
from sims.sweep.plan import make_plan
from theory.claims.registry import find
from theory.domain import InvalidInput

NAME = "robust-risk-bound-l2"
LEVEL = 1e-3
SCRIPT = """<script>alert("1 & 2")</script>'"""


def _sweep(name, seed=0, level=LEVEL / 118, trials=1000, errors=300, **attributes):
    """A judged sweep with totals made up, so that no simulation is needed."""
    claim = find(name)
    dataset = sweep_file.empty(make_plan(claim, trials=1000, seed=seed))
    for total in set(sweep_file.totals(dataset)) - {"nonfinite"}:
        dataset[total][:] = trials if total == "trials" else errors
    return verdict.judge(dataset, claim, level).assign_attrs(attributes)


def _picture():
    drawn, axes = plt.subplots()
    axes.plot([0, 1])
    return drawn


@pytest.fixture
def bounds():
    """Two pictures of a claim each."""
    singles = [p for p in registry.pictures().values() if len(p.claims) == 1]
    return [p for p in singles if find(p.claims[0]).relation == "<="][:2]


def _gallery(folder, pictures, **settings):
    """Leaves pictures with their data in a folder, and their page."""
    datasets = {p.claims[0]: _sweep(p.claims[0], **settings) for p in pictures}
    for picture in pictures:
        (dataset,) = (datasets[claim] for claim in picture.claims)
        files.save(dataset, folder / f"{picture.claims[0]}.nc")
        saving.save(_picture(), picture.name, folder, saving.data_digest([dataset]))
    return gallery.write(folder, pictures, datasets, LEVEL).read_text("utf-8")


def test_a_run_of_one_picture_keeps_the_others_on_the_page(tmp_path, bounds):
    before = _gallery(tmp_path, bounds)
    assert _gallery(tmp_path, bounds[:1]) == before
    assert all(f'<figure id="{picture.name}">' in before for picture in bounds)
    assert 'class="bad">Not' not in before
    assert "Of other" not in before
    assert "Not shown" not in before


def _other_data(folder, name):
    files.save(_sweep(name, errors=301), folder / f"{name}.nc")


def _other_settings(folder, name):
    files.save(_sweep(name, seed=7), folder / f"{name}.nc")


def _other_code(folder, name):
    files.save(_sweep(name, code=SCRIPT), folder / f"{name}.nc")


def _unfinished(folder, name):
    files.save(_sweep(name, trials=999), folder / f"{name}.nc")


def _damaged_picture(folder, name):
    (folder / f"{name}.png").write_bytes(b"")


MARKED = {
    _other_data: "Not drawn from the data beside it; `python -m figures",
    _other_settings: "Of other settings: points of each class 1000, width 0.0, seed 7.",
    _other_code: "Counted by other code than this page was made by.",
    _unfinished: "Not all points were counted",
    _damaged_picture: "Not drawn from the data beside it",
}


@pytest.mark.parametrize("change", MARKED)
def test_what_is_not_of_this_run_is_marked(tmp_path, bounds, change):
    _gallery(tmp_path, bounds)
    change(tmp_path, bounds[1].claims[0])
    page = _gallery(tmp_path, bounds[:1])
    first, second = (page.index(f'<figure id="{picture.name}">') for picture in bounds)
    assert first < page.index(MARKED[change]) > second
    assert page.count(MARKED[change]) == 1
    assert "<script>" not in page


def _no_data(path):
    path.unlink()


def _folder(path):
    path.unlink()
    path.mkdir()


def _damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _not_judged(path):
    files.save(files.read(path).drop_vars("low"), path)


def _another_claim(path):
    files.save(files.read(path).assign_attrs(claim=SCRIPT), path)


MISSING = {
    _no_data: "no such file",
    _folder: "is a folder",
    _damaged: "damaged",
    _not_judged: "it has no &#x27;low&#x27;",
    _another_claim: "must be a judged sweep of",
}


@pytest.mark.parametrize("change", MISSING)
def test_what_cannot_be_shown_is_named(tmp_path, bounds, change):
    _gallery(tmp_path, bounds)
    change(tmp_path / f"{bounds[1].claims[0]}.nc")
    page = _gallery(tmp_path, bounds[:1])
    assert f'<figure id="{bounds[1].name}">' not in page
    line = page[page.index("<p>Not shown:</p>") :]
    assert f"<li>{bounds[1].name}: " in line
    assert MISSING[change] in line
    assert "<script>" not in page


def test_data_without_a_picture_are_named(tmp_path, bounds):
    _gallery(tmp_path, bounds)
    (tmp_path / f"{bounds[1].name}.png").unlink()
    assert "not drawn yet; `python -m figures" in _gallery(tmp_path, bounds[:1])


@pytest.mark.parametrize(
    ("theirs", "stated"), [(LEVEL / 118, "0.001"), (LEVEL, "0.00101"), (0.05, "0.0501")]
)
def test_the_level_of_a_page_is_that_of_all_its_intervals(tmp_path, bounds, theirs, stated):
    _gallery(tmp_path, bounds, level=theirs)
    assert f"1 − {stated}." in _gallery(tmp_path, bounds[:1])


def test_statements_and_sources_are_text(tmp_path, bounds, monkeypatch):
    claim = find(bounds[0].claims[0])
    source = claim.source._replace(result=SCRIPT)
    changed = dataclasses.replace(claim, statement=SCRIPT, source=source)
    monkeypatch.setattr(gallery, "find", lambda _: changed)
    picture = bounds[0]._replace(caption=SCRIPT)
    entry = gallery.Entry(picture, (_sweep(claim.name),), (SCRIPT,))
    page = gallery.page(gallery.Content((entry,), (SCRIPT,)), LEVEL)
    assert "<script" not in page
    text = "&lt;script&gt;alert(&quot;1 &amp; 2&quot;)&lt;/script&gt;&#x27;"
    # The statement, the source, the note, the line; the caption as text and for who cannot see it.
    assert page.count(text) == 6


def _command(folder, *names, **options):
    return make(names, out=folder, trials=1000, **options)


def _bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _no_space(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_takes_nothing_and_the_same_command_goes_on(tmp_path, monkeypatch):
    name = NAME
    _command(tmp_path, name)
    whole = _bytes(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _no_space)
        # Nothing new has to be written: no refusal.
        assert _command(tmp_path, name) == 0
        assert _bytes(tmp_path) == whole
        picture = whole.pop(f"{name}.png")
        (tmp_path / f"{name}.png").unlink()
        with pytest.raises(InvalidInput, match=r"output = .*\(No space left"):
            _command(tmp_path, name)
        with pytest.raises(InvalidInput, match=r"picture = .*\.pdf: cannot be written \(No space"):
            saving.save(_picture(), name, tmp_path, "data")
        assert _bytes(tmp_path) == whole
    assert _command(tmp_path, name) == 0
    assert _bytes(tmp_path) == whole | {f"{name}.png": picture}


def test_starting_anew_loses_nothing(tmp_path):
    name = NAME
    for seed in (0, 1, 2):
        _command(tmp_path, name, seed=seed, fresh=True)
    # The same once more goes on with what is there.
    _command(tmp_path, name, seed=2, fresh=True)
    kept = sorted(path.name for path in tmp_path.glob("*.nc*"))
    assert kept == [f"{name}.nc", f"{name}.nc.old", f"{name}.nc.old.2"]
    seeds = [int(files.read(tmp_path / file).attrs["seed"]) for file in kept]
    assert seeds == [2, 0, 1]
    with pytest.raises(InvalidInput, match="trials"):
        make((name,), out=tmp_path, trials=0, fresh=True)
    assert sorted(path.name for path in tmp_path.glob("*.nc*")) == kept


def test_an_output_that_is_a_file_is_refused_first(tmp_path):
    (tmp_path / "page").write_text("mine")
    with pytest.raises(InvalidInput, match=r"output = .*page: must be a folder"):
        make((NAME,), out=tmp_path / "page", trials=1000)
    assert (tmp_path / "page").read_text() == "mine"
