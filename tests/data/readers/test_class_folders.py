"""Class folders: order, what is ignored, what is refused (F4, F31)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resdet.data.options import DataOptions
from resdet.data.readers.class_folders import load_folder
from resdet.data.records import with_labels_of
from resdet.errors import DataError

pytestmark = pytest.mark.usefixtures("private_cache")


@pytest.fixture
def fill(tmp_path, make_picture):
    """Makes images by their names below the root; gives the root."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            make_picture((8, 6), seed=sum(name.encode())).save(path, format="PNG")
        return tmp_path / "set"

    return make


def test_classes_are_sorted_names_and_labels_their_places(fill) -> None:
    """By hand: ant, bee, cat."""
    root = fill("cat/1.png", "ant/2.png", "ant/1.png", "bee/x.png")
    data = load_folder(root, name="mine")
    assert data.classes == ("ant", "bee", "cat")
    assert [Path(f).relative_to(root).as_posix() for f in data.files] == [
        "ant/1.png",
        "ant/2.png",
        "bee/x.png",
        "cat/1.png",
    ]
    assert data.labels.tolist() == [0, 0, 1, 2]
    assert data.labels.dtype == np.int64
    assert len(data) == 4
    assert data.read(3).shape == (6, 8, 3)
    assert data.name_of(3) == "cat/1.png"


def test_the_real_sample(shared_data) -> None:
    """60 photographs in 60 folders, beside a text file; one of them is grey."""
    data = load_folder(shared_data / "imagenet_sample", name="sample")
    assert (len(data), len(data.classes)) == (60, 60)
    assert data.classes[0] == "n01537544"
    assert data.counts["files outside class folders ignored"] == 1
    assert data.counts["grey"] == 1


def test_what_is_hidden_or_no_image_is_ignored_and_counted(fill) -> None:
    """F4: torchvision crashes on .ipynb_checkpoints, or takes it for a class."""
    root = fill("ant/1.png", ".ipynb_checkpoints/1.png", "ant/.hidden.png")
    (root / "ant" / "notes.txt").write_text("x", encoding="utf-8")
    (root / "readme.md").write_text("x", encoding="utf-8")
    data = load_folder(root, name="mine")
    assert data.classes == ("ant",)
    assert data.counts == {
        "images": 1,
        "classes": 1,
        "hidden folders ignored": 1,
        "hidden files ignored": 1,
        "files that are no images ignored": 1,
        "files outside class folders ignored": 1,
    }


def test_empty_classes_are_refused_together(fill) -> None:
    """F4: both are named, and a root one level too high is suspected."""
    root = fill("ant/1.png", "deep/inside/1.png")
    (root / "bee").mkdir()
    with pytest.raises(DataError) as caught:
        load_folder(root, name="mine")
    page = str(caught.value)
    assert "bee/ holds no image\n" in page
    assert "deep/ holds no image (but 1 folders: is the root one level deeper?)" in page


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param((), "has no class folders. Expected set/<class>/<image>", id="nothing"),
        pytest.param(("1.png", "2.png"), "holds 2 images and no class folders", id="flat"),
    ],
)
def test_a_root_without_class_folders(fill, tmp_path, names, message: str) -> None:
    """F3: ImageNet's val comes flat."""
    (tmp_path / "set").mkdir()
    fill(*names)
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path / "set", name="mine")


def test_a_root_that_is_not_there(tmp_path) -> None:
    """F3: the absolute path tried."""
    with pytest.raises(DataError, match=rf"{tmp_path}/gone is not a folder"):
        load_folder(tmp_path / "gone", name="mine")


def test_foreign_and_empty_files_are_found_at_the_start(fill) -> None:
    """F31: relative to the root; the empty one also where headers are not read."""
    root = fill("ant/1.png", "ant/2.png", "ant/3.png")
    (root / "ant" / "2.png").write_bytes(b"<html>")
    (root / "ant" / "3.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_folder(root, name="mine")
    assert "\n  ant/2.png is a web page" in str(caught.value)
    assert "\n  ant/3.png is empty" in str(caught.value)
    with pytest.raises(DataError, match="1 fault"):
        load_folder(root, name="mine", options=DataOptions(check_images=False))


def test_numbers_as_names_are_sorted_as_text_and_this_is_reported(fill) -> None:
    """0, 1, 10, 2: class 2 is folder 10; with ten folders there is nothing to report."""
    ten = fill(*(f"{i}/a.png" for i in range(10)))
    assert load_folder(ten, name="mine").notes == ()
    data = load_folder(fill("10/a.png"), name="mine")
    assert data.classes[:4] == ("0", "1", "10", "2")
    assert 'class 2 is folder "10", not "2"' in data.notes[0]


def test_classes_are_matched_by_name(fill, tmp_path) -> None:
    """F4: val has no bee, so its cat is label 1 of its own and label 2 of train."""
    train = load_folder(fill("ant/1.png", "bee/1.png", "cat/1.png"), name="train")
    for name in ("ant", "cat"):
        (tmp_path / "val").mkdir(exist_ok=True)
        (tmp_path / "set" / name).rename(tmp_path / "val" / name)
    val = load_folder(tmp_path / "val", name="val")
    assert val.labels.tolist() == [0, 1]
    assert with_labels_of(val, train.classes).labels.tolist() == [0, 2]
    assert with_labels_of(val, train.classes).classes == train.classes
    assert with_labels_of(train, train.classes) is train
    with pytest.raises(DataError, match="train has 1 of 3 classes that are not among the 2.*: bee"):
        with_labels_of(train, val.classes)


def test_the_hash_follows_names_and_sizes_not_the_place(fill, tmp_path) -> None:
    """Another file, another name, another size are other data; another folder is not."""
    root = fill("ant/1.png", "bee/1.png")
    first = load_folder(root, name="a").hash
    moved = root.rename(tmp_path / "moved")
    assert load_folder(moved, name="b").hash == first
    with open(moved / "ant" / "1.png", "ab") as f:
        f.write(b"\0")
    assert load_folder(moved, name="b").hash != first
