"""ImageNet's odd files are named and read, in folders and in shards, in small sets and large."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resdet.data.checks.odd_images import CMYK_FILES, ODD_FILES, places_of_odd
from resdet.data.options import DataOptions
from resdet.data.readers import class_folders
from resdet.data.readers.class_folders import load_folder
from resdet.data.shards import shard_headers
from resdet.data.shards.making import make_shards
from resdet.data.shards.shard_set import load_shards
from tests.support.shard_files import jpeg

pytestmark = pytest.mark.usefixtures("private_cache")
FRESH = DataOptions(cache=False)
CMYK, PNG, EXIF = "n01739381_1309.JPEG", "n02105855_2933.JPEG", "n02077923_14822.JPEG"


@pytest.fixture
def folders(tmp_path) -> Path:
    """The three kinds beside a plain file, and a known one that somebody has repaired."""
    png = io.BytesIO()
    Image.open(io.BytesIO(jpeg(1))).save(png, "PNG")
    contents = {
        CMYK: jpeg(0, mode="CMYK"),
        PNG: png.getvalue(),
        EXIF: jpeg(2, exif=b"Exif\0\0no TIFF"),
        "n02447366_23489.JPEG": jpeg(3),
        "n01440764_1.JPEG": jpeg(4),
    }
    for name, content in contents.items():
        folder = tmp_path / "train" / name.partition("_")[0]
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
    return tmp_path / "train"


@pytest.mark.parametrize("most", [60_000, 2])
def test_each_is_named_with_what_is_done(folders, tmp_path, monkeypatch, most) -> None:
    monkeypatch.setattr(class_folders, "MAX_HEADERS", most)
    monkeypatch.setattr(shard_headers, "MAX_HEADERS", most)
    data = load_folder(folders, name="imagenet_train", options=FRESH)
    (note,) = data.notes
    assert f"1 CMYK, made RGB ({CMYK})" in note
    assert f"1 of another format than its suffix, read by its content ({PNG})" in note
    assert f"1 with a broken EXIF block, which is not read ({EXIF})" in note
    assert "n02447366" not in note and "n01440764" not in note
    made = make_shards(data, tmp_path / "shards", options=FRESH)
    shards = load_shards(made.name.removeprefix("wds:"), name="shards", options=FRESH)
    assert shards.notes == data.notes and shards.hash == data.hash
    assert ("CMYK" in shards.counts) == ("CMYK" in data.counts) == (most > 2)
    for index in range(len(data)):
        pixels = shards.read(index)
        assert pixels.shape == (20, 24, 3) and pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, data.read(index))


def test_a_set_without_them_has_no_note(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(jpeg(0, mode="CMYK"))
    data = load_folder(tmp_path, name="mine", options=FRESH)
    assert data.notes == () and data.counts["CMYK"] == 1


def test_the_lists_have_22_of_train_and_one_of_val() -> None:
    assert len(set(CMYK_FILES)) == 23 and len(ODD_FILES) == 24
    assert sum(name.startswith("n") for name in CMYK_FILES) == 22
    assert places_of_odd(["a.jpg", "n02105855_2933.png", "n02105855_29331.JPEG"]) == [1]
