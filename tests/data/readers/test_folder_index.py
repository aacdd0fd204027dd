"""The index of class folders: the same set without listing it, and never an older one."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from resdet.data import array_cache
from resdet.data.options import DataOptions
from resdet.data.readers import class_folders, folder_index
from resdet.data.readers.class_folders import load_folder

pytestmark = pytest.mark.usefixtures("private_cache")
FRESH = DataOptions(cache=False)


@pytest.fixture
def root(tmp_path, make_picture) -> Path:
    """Two classes of four images, beside a text file; all of long ago."""
    for name in ("ant", "bee"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(4):
            path = tmp_path / "set" / name / f"{number}.png"
            make_picture((8, 6), seed=number).save(path)
        (tmp_path / "set" / name / "notes.txt").write_text("no image")
    age(tmp_path / "set")
    return tmp_path / "set"


def age(root: Path) -> None:
    """Everything was changed an hour ago, so that it may be kept."""
    then = os.stat(root).st_mtime - 3600
    for path in [*root.rglob("*"), root]:
        os.utime(path, (then, then))


def same(a, b) -> bool:
    return (
        (a.classes, [*a.files], a.labels.tolist(), a.hash, a.counts, a.notes)
        == (b.classes, [*b.files], b.labels.tolist(), b.hash, b.counts, b.notes)
    )  # fmt: skip


def listed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Roots that are listed from here on."""
    roots: list[Path] = []
    scanned = class_folders._scanned
    monkeypatch.setattr(
        class_folders, "_scanned", lambda root, *rest: roots.append(root) or scanned(root, *rest)
    )
    return roots


def test_a_second_start_lists_nothing_and_has_the_same_set(root, monkeypatch) -> None:
    first, roots = load_folder(root, name="mine"), listed(monkeypatch)
    second = load_folder(root, name="other name")
    assert roots == [] and second.name == "other name"
    assert same(first, second) and same(second, load_folder(root, name="mine", options=FRESH))
    assert second.labels.dtype == np.int64 and second.read(7).shape == (6, 8, 3)


def change_one(root: Path, how: str) -> None:
    file = root / "bee" / "2.png"
    if how == "added":
        shutil.copy(file, root / "bee" / "9.png")
    elif how == "removed":
        file.unlink()
    elif how == "renamed":
        file.rename(root / "bee" / "22.png")
    elif how == "rewritten":
        file.write_bytes(file.read_bytes() + b"\0")
    elif how == "class added":
        shutil.copytree(root / "bee", root / "cat")
    elif how == "class renamed":
        (root / "bee").rename(root / "wasp")
    else:
        (root / "readme.txt").write_text("beside the classes")


CHANGES = (
    "added", "removed", "renamed", "rewritten", "class added", "class renamed", "beside",
)  # fmt: skip


@pytest.mark.parametrize("how", CHANGES)
def test_any_change_is_seen(root, how) -> None:
    before = load_folder(root, name="mine")
    change_one(root, how)
    after = load_folder(root, name="mine")
    assert same(after, load_folder(root, name="mine", options=FRESH))
    assert after.hash != before.hash or how == "beside"
    assert after.counts != before.counts or how in ("renamed", "rewritten", "class renamed")


def test_of_large_sets_three_files_a_class_are_looked_at(root, monkeypatch) -> None:
    """All others are taken to be what they were, as long as their folder is."""
    monkeypatch.setattr(folder_index, "MAX_STATS", 0)
    assert folder_index._watched_files(np.repeat([0, 1, 2], [1, 2, 9]), 3) == [0, 1, 2, 3, 7, 11]
    first = load_folder(root, name="mine")
    for name, is_seen in (("3.png", True), ("2.png", False)):
        age(root)
        load_folder(root, name="mine")
        file = root / "bee" / name
        file.write_bytes(file.read_bytes() + b"\0")
        assert (load_folder(root, name="mine").hash != first.hash) == is_seen, name
        file.write_bytes(file.read_bytes()[:-1])


def test_other_options_read_again(root, monkeypatch) -> None:
    """What is counted depends on them."""
    load_folder(root, name="mine")
    roots = listed(monkeypatch)
    load_folder(root, name="mine", options=DataOptions(exif="ignore"))
    assert roots == [root]
    load_folder(root, name="mine", options=FRESH)
    assert roots == [root, root]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", "cut", "objects", "no head"])
def test_a_damaged_index_is_made_anew(root, private_cache, damage) -> None:
    first = load_folder(root, name="mine")
    (path,) = (private_cache / "class_folders").iterdir()
    whole = path.read_bytes()
    if damage == "objects":
        np.savez(path, head=np.array([{"a": 1}], dtype=object))
    elif damage == "no head":
        np.savez(path, files=np.zeros(3))
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else damage)
    assert same(first, load_folder(root, name="mine"))
    assert path.stat().st_size == len(whole)


def test_folders_that_changed_just_now_are_not_kept(root, private_cache) -> None:
    """A second change within the clock's resolution would not be seen."""
    change_one(root, "added")
    load_folder(root, name="mine")
    assert not (private_cache / "class_folders").exists()


def test_a_cache_that_cannot_be_written_costs_time_alone(root, tmp_path, monkeypatch) -> None:
    (tmp_path / "taken").write_text("a file in its place")
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "taken"))
    assert same(load_folder(root, name="mine"), load_folder(root, name="mine"))


def test_what_changes_while_it_is_read_is_not_kept(root, monkeypatch, make_picture) -> None:
    """F10: a large set is read for minutes; the index would have the old list with new times."""
    scanned, now = class_folders._scanned, time.time()
    began, late = now - 1800, now - 900

    def meanwhile(*given):
        found = scanned(*given)
        make_picture((8, 6), seed=9).save(root / "ant" / "late.png")
        for path in (root / "ant" / "late.png", root / "ant"):
            os.utime(path, (late, late))
        return found

    with monkeypatch.context() as reading:
        reading.setattr(class_folders, "_scanned", meanwhile)
        clock = SimpleNamespace(time=lambda: began)
        reading.setattr(array_cache, "time", clock)
        assert len(load_folder(root, name="mine")) == 8
    assert len(load_folder(root, name="mine")) == 9


def test_an_index_with_any_damaged_byte_is_made_anew(tmp_path) -> None:
    """Whatever zipfile takes it for: no archive, an encrypted one, one of another packing."""
    path, arrays = tmp_path / "index.npz", {"a": np.arange(4)}
    array_cache.write_arrays(path, {"v": 1}, arrays)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = array_cache.read_arrays(path, {"v": 1})
        assert found is None or np.array_equal(found[1]["a"], arrays["a"])
