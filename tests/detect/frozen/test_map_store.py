"""Maps on disk: what was written comes back, what a kill or a fault left does not."""

import numpy as np
import pytest
import torch

from resdet.detect.frozen import map_store
from resdet.detect.frozen.map_store import MapStore, bytes_of
from resdet.errors import DataError, RunError

SHAPES = {"res4": (2, 3, 3), "a/b": (1, 2, 2)}


def maps(first, count):
    return {
        name: torch.arange(first, first + count).float().reshape(-1, 1, 1, 1).expand(-1, *shape)
        for name, shape in SHAPES.items()
    }


def store(folder, about="x", images=4):
    return MapStore(folder, {"what": about}, SHAPES, images)


def test_maps_come_back_over_several_starts(tmp_path):
    first = store(tmp_path)
    first.add(maps(0, 1))
    first.flush()
    second = store(tmp_path)
    assert second.done == 1 and not second.is_whole
    second.add(maps(1, 3))
    third = store(tmp_path)
    assert third.is_whole
    for place in range(4):
        found = third[place]
        assert list(found) == list(SHAPES)
        for name, shape in SHAPES.items():
            assert torch.equal(found[name], torch.full(shape, float(place)))


def test_whether_all_are_there_is_known_before_anything_is_opened(tmp_path):
    assert not MapStore.is_whole_in(tmp_path)
    first = store(tmp_path)
    first.add(maps(0, 2))
    first.flush()
    assert not MapStore.is_whole_in(tmp_path)
    first.add(maps(2, 2))
    assert MapStore.is_whole_in(tmp_path)
    (tmp_path / map_store.INDEX).write_text("{}")
    with pytest.raises(RunError, match="index.json is damaged"):
        MapStore.is_whole_in(tmp_path)


def test_what_was_not_noted_as_done_is_computed_again(tmp_path):
    """A kill between writing maps and the index leaves maps that nobody reads."""
    first = store(tmp_path)
    first.add(maps(7, 2))
    again = store(tmp_path)
    assert again.done == 0
    with pytest.raises(IndexError):
        again[0]
    again.add(maps(0, 4))
    assert store(tmp_path)[1]["res4"][0, 0, 0] == 1


def test_one_changed_byte_is_found(tmp_path):
    whole = store(tmp_path)
    whole.add(maps(0, 4))
    path = tmp_path / "res4.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    found = store(tmp_path)
    assert found[0]
    with pytest.raises(DataError, match="maps of image 3 are not those .* Remove the folder"):
        found[3]


@pytest.mark.parametrize("change", ["about", "images", "file"])
def test_maps_of_something_else_are_refused(tmp_path, change):
    store(tmp_path).flush()
    if change == "file":
        np.save(tmp_path / "res4.npy", np.zeros((4, 9), np.float32))
    with pytest.raises(RunError, match="Remove"):
        store(tmp_path, "y" if change == "about" else "x", 5 if change == "images" else 4)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    """Per image 18 + 4 numbers of 4 bytes, and a checksum."""
    assert bytes_of(SHAPES.values(), 10) == 10 * (4 * 22 + 4)
    monkeypatch.setattr(map_store.shutil, "disk_usage", lambda path: type("", (), {"free": 100})())
    with pytest.raises(DataError, match="take 0.0 GB.*fewer images"):
        store(tmp_path / "new")
    assert not (tmp_path / "new" / "res4.npy").exists()
