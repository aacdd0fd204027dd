"""Images without classes: `images:FOLDER`, for scores alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resdet.data.catalog import load_classification
from resdet.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "test"
    (folder / "inside").mkdir(parents=True)
    for name in ("b_2.png", "b_10.png", "a.png"):
        Image.fromarray(np.full((4, 5, 3), len(name), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("x")
    return folder


def test_images_in_the_order_of_their_names(folder: Path) -> None:
    """As text, so 10 comes before 2; the rest is counted."""
    data = load_classification(f"images:{folder}", needs_classes=False)
    assert [Path(f).name for f in data.files] == ["a.png", "b_10.png", "b_2.png"]
    assert data.labels.tolist() == [-1] * 3 and data.classes == ()
    assert data.counts == {"images": 3, "files and folders that are no images ignored": 2}
    assert data.read(2).shape == (4, 5, 3)
    before = data.hash
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "a.png")
    assert load_classification(f"images:{folder}", needs_classes=False).hash != before


def test_hidden_files_are_no_images(folder: Path) -> None:
    """macOS leaves ._a.png beside a.png on other disks: no picture, whatever it is called."""
    (folder / "._a.png").write_bytes(b"\0\5\x16\7")
    data = load_classification(f"images:{folder}", needs_classes=False)
    assert [Path(f).name for f in data.files] == ["a.png", "b_10.png", "b_2.png"]
    assert data.counts["hidden files ignored"] == 1


def test_trainers_refuse_it(folder: Path) -> None:
    with pytest.raises(DataError, match="images without classes: only evaluate cls takes it"):
        load_classification(f"images:{folder}")


def test_what_is_no_folder_of_images_is_refused(folder: Path) -> None:
    for name, words in (
        ("images:", "not of the form images:FOLDER"),
        (f"images:{folder}/inside", "holds no image"),
        (f"images:{folder}/nowhere", "nowhere"),
    ):
        with pytest.raises(DataError, match=words):
            load_classification(name, needs_classes=False)
    (folder / "broken.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="broken.jpg is empty"):
        load_classification(f"images:{folder}", needs_classes=False)
