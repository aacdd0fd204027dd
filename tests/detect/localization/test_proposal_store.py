"""Boxes on disk: whole after any stop, and never those of something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("detectron2")

from resdet.detect.localization import proposal_store
from resdet.detect.localization.proposal_store import ProposalStore
from resdet.errors import RunError

ABOUT = {"models": ["a"]}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposal_store, "PART_IMAGES", 3)


def rows_of(image: int) -> np.ndarray:
    """As many rows as the image's number, modulo 4; so some images have none."""
    return np.full((image % 4, 2), image, dtype=np.float32)


def filled(store: ProposalStore, until: int) -> None:
    for image in range(store.done, until):
        store.add(rows_of(image))


def assert_whole(store: ProposalStore, images: int) -> None:
    stored = store.rows()
    assert len(stored) == images
    for image in range(images):
        assert np.array_equal(stored[image], rows_of(image))
    assert sorted(p.name for p in store.folder.iterdir()) == [
        "about.json", "offsets.npy", "rows.npy"
    ]  # fmt: skip


def test_rows_come_back_image_by_image(tmp_path: Path) -> None:
    store = ProposalStore(tmp_path / "s", 10, 2, ABOUT)
    filled(store, 10)
    assert_whole(store, 10)
    again = ProposalStore(tmp_path / "s", 10, 2, ABOUT)
    assert again.done == 10
    assert_whole(again, 10)


@pytest.mark.parametrize("stop", [1, 3, 7, 9])
def test_a_stop_loses_no_whole_part(tmp_path: Path, stop: int) -> None:
    """Without `write` the pending images are lost, with it none."""
    filled(ProposalStore(tmp_path / "s", 10, 2, ABOUT), stop)
    again = ProposalStore(tmp_path / "s", 10, 2, ABOUT)
    assert again.done == stop - stop % 3
    filled(again, stop)
    again.write()
    last = ProposalStore(tmp_path / "s", 10, 2, ABOUT)
    assert last.done == stop
    filled(last, 10)
    assert_whole(last, 10)


def test_a_damaged_part_and_those_behind_it_are_made_again(tmp_path: Path) -> None:
    filled(ProposalStore(tmp_path / "s", 10, 2, ABOUT), 9)
    path = tmp_path / "s" / "part_0000003.npz"
    path.write_bytes(path.read_bytes()[:-40])
    again = ProposalStore(tmp_path / "s", 10, 2, ABOUT)
    assert again.done == 3
    filled(again, 10)
    assert_whole(again, 10)


def test_boxes_of_another_model_are_not_used(tmp_path: Path) -> None:
    filled(ProposalStore(tmp_path / "s", 4, 2, ABOUT), 4)
    assert ProposalStore(tmp_path / "s", 4, 2, {"models": ["b"]}).done == 0


def test_no_row_at_all(tmp_path: Path) -> None:
    store = ProposalStore(tmp_path / "s", 2, 2, ABOUT)
    for _ in range(2):
        store.add(np.zeros((0, 2)))
    assert [len(rows) for rows in store.rows()] == [0, 0]


def test_a_file_that_is_gone_is_a_page(tmp_path: Path) -> None:
    store = ProposalStore(tmp_path / "s", 4, 2, ABOUT)
    filled(store, 4)
    (tmp_path / "s" / "rows.npy").unlink()
    with pytest.raises(RunError, match=r"(?s)holds no whole boxes.*--resume"):
        store.rows()


def test_a_stop_before_the_merge_is_made_good(tmp_path: Path, monkeypatch: object) -> None:
    store = ProposalStore(tmp_path / "s", 6, 2, ABOUT)
    store._merge = lambda: None  # type: ignore[method-assign]
    filled(store, 6)
    assert not store.is_whole
    assert_whole(ProposalStore(tmp_path / "s", 6, 2, ABOUT), 6)
