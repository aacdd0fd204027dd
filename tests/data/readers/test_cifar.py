"""CIFAR's binary files: layout by hand, and everything by which they go wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resdet.data.readers.cifar import LAYOUTS, PIXELS, cifar_folder, load_cifar
from resdet.errors import DataError


def write(root: Path, kind: str, records: np.ndarray, parent: str = "cifar") -> Path:
    """Every file of a set with the same records."""
    layout = LAYOUTS[kind]
    folder = root / parent / layout.folder
    folder.mkdir(parents=True)
    for names in layout.files.values():
        for name in names:
            (folder / name).write_bytes(records.tobytes())
    labels = "".join(f"class{i}\n" for i in range(layout.num_classes))
    (folder / layout.names_file).write_text(labels, encoding="utf-8")
    return folder


def records(kind: str, *labels: tuple[int, ...]) -> np.ndarray:
    """One record per tuple of label bytes; red counts up, green is 7, blue is 9."""
    rows = [[*label, *(i % 256 for i in range(1024)), *[7] * 1024, *[9] * 1024] for label in labels]
    return np.array(rows, dtype=np.uint8)


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        pytest.param("cifar10", [(3,), (9,)], [3, 9], id="cifar10"),
        pytest.param("cifar100", [(19, 99), (0, 5)], [99, 5], id="cifar100: fine, not coarse"),
    ],
)
def test_layout_by_hand(tmp_path, kind: str, labels, expected) -> None:
    """Label bytes, then red, green, blue planes row by row: pixel (1, 2) is red 34."""
    write(tmp_path, kind, records(kind, *labels))
    data = load_cifar(tmp_path, kind, "test")
    assert data.labels.tolist() == expected
    assert data.read(0).shape == (32, 32, 3)
    assert data.read(0)[1, 2].tolist() == [34, 7, 9]
    assert len(data.classes) == LAYOUTS[kind].num_classes
    assert data.notes == ("2 of the 10,000 images of the published set",)
    assert len(load_cifar(tmp_path, kind, "train")) == (10 if kind == "cifar10" else 2)


@pytest.mark.parametrize("parent", ["cifar", "cifar10", "."])
def test_the_folder_may_lie_in_three_places(tmp_path, parent: str) -> None:
    """The page names the first of them."""
    folder = write(tmp_path, "cifar10", records("cifar10", (1,)), parent)
    assert cifar_folder(tmp_path, "cifar10").resolve() == folder.resolve()


def test_the_real_subset(shared_data) -> None:
    """README of the sample data: 400 train and 100 test images a class, the usual class names."""
    train = load_cifar(shared_data, "cifar10", "train")
    test = load_cifar(shared_data, "cifar10", "test")
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert train.classes[0] == "airplane"
    assert train.classes[9] == "truck"
    assert train.hash != test.hash
    # The channel means of all 50,000 are 125.3, 123.0, 113.9; of 4,000 images within 2 of that.
    np.testing.assert_allclose(train.images.mean((0, 1, 2)), (125.3, 123.0, 113.9), atol=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r"is empty \(0 bytes\)", id="empty"),
        pytest.param(b"<!DOCTYPE html><p>", "is a web page", id="web page"),
        pytest.param(b"\1" * 3000, "3,000 bytes, no whole number of records of 3,073", id="cut"),
        pytest.param(b"\1" * 3074, r"of records of 3,073 \(but of cifar100's\)", id="other set"),
        pytest.param(b"\12" + b"\0" * PIXELS, "record 0 has label 10, expected 0 to 9", id="label"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, content: bytes, message: str) -> None:
    """F31: checked by record size, as a label byte out of place shifts every later image."""
    folder = write(tmp_path, "cifar10", records("cifar10", (1,)))
    (folder / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s)test_batch\.bin.*{message}"):
        load_cifar(tmp_path, "cifar10", "test")


def test_black_pictures_are_pictures(tmp_path) -> None:
    """A file that starts with zeros (label 0, black) is not taken for a foreign one."""
    write(tmp_path, "cifar10", np.zeros((2, 1 + PIXELS), np.uint8))
    assert load_cifar(tmp_path, "cifar10", "test").images.max() == 0


def test_missing_files_and_names(tmp_path) -> None:
    """F1: a batch, and the list of names."""
    folder = write(tmp_path, "cifar10", records("cifar10", (1,)))
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin cannot be read: No such file"):
        load_cifar(tmp_path, "cifar10", "train")
    (folder / "batches.meta.txt").write_text("a b", encoding="utf-8")
    with pytest.raises(DataError, match=r"batches\.meta\.txt has 2 names, expected 10"):
        load_cifar(tmp_path, "cifar10", "test")
