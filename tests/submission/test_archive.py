"""A stranger's zip is unpacked as far as a results file goes, and no further."""

import zipfile
from pathlib import Path

import pytest

from resdet.errors import CheckFailed
from resdet.submission.archive import FREE_BYTES, MAX_INFLATION, extract


def test_a_bomb_is_stopped_before_it_fills_the_disk(tmp_path: Path) -> None:
    """Zeros shrink a thousandfold: 64 MB of them are 65 KB."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r.json", bytes(64 << 20))
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckFailed, match="r.json unpacks to more than"):
        extract(path, "r.json", tmp_path / "out")
    most = FREE_BYTES + MAX_INFLATION * path.stat().st_size
    assert (tmp_path / "out").stat().st_size <= most


def test_results_that_shrink_well_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    text = b'{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},' * 5000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r.json", text)
    extract(path, "r.json", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == text
