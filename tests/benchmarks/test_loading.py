"""The loading benchmark: what it makes, that it compares, and that it fails where it should."""

from __future__ import annotations

import pytest
from PIL import Image

pytest.importorskip("detectron2")
pytest.importorskip("skimage")

from benchmarks import loading


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    return loading.make_folder(tmp_path_factory.mktemp("made"), 6)


def test_the_made_files_are_jpegs_of_500_by_375(folder) -> None:
    files = sorted(folder.glob("*/*.jpg"))
    assert len(files) == 6
    for path in files:
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("JPEG", (500, 375))


def test_every_way_is_measured_against_its_peer(folder) -> None:
    """A peer's ratio to itself is 1; the ways of one kind give the same crops in the bounds."""
    claims = loading.measure(folder, 1, with_memory=False)
    for claim, (kind, peer) in zip(claims, loading.PEERS.items(), strict=True):
        assert claim.agrees and "6 crops decoded at full size" in claim.checked
        names = [row.name for row in claim.rows]
        assert names == [peer, f"ours, {kind}, off", f"ours, {kind}, on"]
        assert claim.rows[0].ratio == 1


def test_crops_that_lie_apart_fail_it(folder, monkeypatch, capsys) -> None:
    """With the crops of the other kind for "on"."""
    made = loading._crops

    def other(root, kind, by_region):
        return made(root, "paper" if by_region else kind, by_region)

    monkeypatch.setattr(loading, "_crops", other)
    assert loading.main(["--folder", str(folder), "--quick"]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out
