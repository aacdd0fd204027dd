"""What a tree lacks is named, what can be made is made, and nothing that is there changes."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from resdet.data.ilsvrc.ilsvrc_preparation import (
    MADE,
    MISSING,
    OPTIONAL,
    THERE,
    balanced_halves,
    prepare,
    whole,
)
from resdet.errors import DataError
from resdet.formats.ilsvrc_tree import read_images
from tests.support.digit_sets import contents


@pytest.fixture
def tree(ilsvrc_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ilsvrc_root, tmp_path / "ILSVRC"))


def states(root: Path, **options: object) -> dict[str, str]:
    parts = prepare(root, **options)  # type: ignore[arg-type]
    return {part.path.name: part.state for part in parts if part.path.parts[0] != "Data"}


def test_a_whole_tree_is_left_as_it_is(tree: Path) -> None:
    before = contents(tree)
    assert states(tree)["val1.txt"] == MISSING
    assert not whole(prepare(tree))
    assert contents(tree) == before


def test_lists_are_made_and_nothing_else_changes(tree: Path) -> None:
    """Deleted lists come back with the same images; every other byte is what it was."""
    lists = tree / "ImageSets" / "CLS-LOC"
    originals = {name: read_images(lists / name) for name in ("val.txt", "train_loc.txt")}
    for name in originals:
        (lists / name).unlink()
    before = contents(tree)
    made = states(tree, halves=True)
    assert [made[n] for n in ("train_loc.txt", "val1.txt", "val2.txt")] == [MADE] * 3
    for name, images in originals.items():
        assert read_images(lists / name) == images
    after = contents(tree)
    assert {name: after[name] for name in before} == before
    assert len(after) - len(before) == 4
    assert whole(prepare(tree))


def test_val1_is_taken_from_a_file_and_val2_is_the_rest(tree: Path, tmp_path: Path) -> None:
    """Indices are those of val, whatever the order or numbers in the user's file."""
    mine = tmp_path / "mine.txt"
    mine.write_text("ILSVRC2012_val_00000005\nILSVRC2012_val_00000002\n")
    assert states(tree, val1=mine)["val2.txt"] == MADE
    first = read_images(tree / "ImageSets" / "DET" / "val1.txt")
    second = read_images(tree / "ImageSets" / "DET" / "val2.txt")
    assert first.indices == (2, 5)
    assert sorted([*first.indices, *second.indices]) == list(range(1, 13))


def test_halves_that_overlap_or_are_of_another_val_are_refused(tree: Path, tmp_path: Path) -> None:
    mine, other = tmp_path / "1.txt", tmp_path / "2.txt"
    mine.write_text("ILSVRC2013_val_00000005\n")
    with pytest.raises(DataError, match=r"1 of 1 images are not in val\.txt"):
        prepare(tree, val1=mine)
    mine.write_text("ILSVRC2012_val_00000005\n")
    other.write_text("ILSVRC2012_val_00000005\nILSVRC2012_val_00000006\n")
    with pytest.raises(DataError, match="1 images are in .* and in"):
        prepare(tree, val1=mine, val2=other)
    assert not (tree / "ImageSets" / "DET" / "val1.txt").exists()


@pytest.mark.parametrize("there", ["val1", "val2"])
def test_the_half_that_is_missing_is_the_rest_of_val(tree: Path, there: str) -> None:
    """Balanced halves of their own would share images with the list that is there."""
    folder = tree / "ImageSets" / "DET"
    text = "ILSVRC2012_val_00000005 5\nILSVRC2012_val_00000002 2\n"
    (folder / f"{there}.txt").write_text(text)
    made = states(tree, halves=True)
    assert sorted([made["val1.txt"], made["val2.txt"]]) == sorted([MADE, THERE])
    assert (folder / f"{there}.txt").read_text() == text
    halves = [set(read_images(folder / f"{name}.txt").ids) for name in ("val1", "val2")]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(read_images(folder / "val.txt").ids)


def test_a_list_that_is_there_is_not_passed_over(tree: Path, tmp_path: Path) -> None:
    """--val1 FILE beside another val1.txt: neither is written over nor ignored."""
    mine = tmp_path / "mine.txt"
    mine.write_text("ILSVRC2012_val_00000005\n")
    prepare(tree, val1=mine)
    assert states(tree, val1=mine)["val1.txt"] == THERE
    mine.write_text("ILSVRC2012_val_00000006\n")
    with pytest.raises(DataError, match=r"val1\.txt is there, with 1 image, and .* has 1, 2 of"):
        prepare(tree, val1=mine)
    (tree / "ImageSets" / "DET" / "val2.txt").write_text("ILSVRC2012_val_00000005 5\n")
    with pytest.raises(DataError, match="1 images are in val1 and in val2"):
        prepare(tree)


def test_a_meta_det_that_is_none_is_a_page(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    kit = tmp_path / "devkit" / "data"
    kit.mkdir(parents=True)
    (kit / "meta_det.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"meta_det\.mat cannot be read as the development kit's"):
        prepare(tmp_path)


def test_an_empty_tree_names_all_with_their_origin(tmp_path: Path) -> None:
    parts = prepare(tmp_path, loc_wnids=("n01440764",))
    assert {part.state for part in parts} == {MISSING, OPTIONAL}
    assert all(part.source for part in parts)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="is not a folder"):
        prepare(tmp_path / "absent")


def test_the_map_of_loc_is_made_for_imagenets_own_classes(tmp_path: Path) -> None:
    """Where the folders are ImageNet's; a tree with others is not guessed at."""
    for name in ("n01440764", "n02119789"):
        (tmp_path / "Data" / "CLS-LOC" / "train" / name).mkdir(parents=True)
    made = states(tmp_path, loc_wnids=("n02119789", "n01440764"))
    assert made["map_clsloc.txt"] == MADE
    text = (tmp_path / "devkit" / "data" / "map_clsloc.txt").read_text()
    assert [line.split()[:2] for line in text.splitlines()] == [["n02119789", "1"],
                                                                ["n01440764", "2"]]  # fmt: skip
    (tmp_path / "devkit" / "data" / "map_clsloc.txt").unlink()
    assert states(tmp_path, loc_wnids=("n01440764",))["map_clsloc.txt"] == MISSING


def test_a_map_of_meta_det_mat(tmp_path: Path) -> None:
    """The kit's own form: a struct array with WNID and name, written here by scipy."""
    io = pytest.importorskip("scipy.io")
    np = pytest.importorskip("numpy")
    synsets = np.array(
        [("n02672831", "accordion"), ("n02691156", "air plane")],
        dtype=[("WNID", object), ("name", object)],
    )
    kit = tmp_path / "devkit" / "data"
    kit.mkdir(parents=True)
    io.savemat(kit / "meta_det.mat", {"synsets": synsets})
    assert states(tmp_path)["map_det.txt"] == MADE
    assert (kit / "map_det.txt").read_text() == "n02672831 1 accordion\nn02691156 2 air_plane\n"


def test_halves_have_as_many_objects_of_each_class() -> None:
    """Of 40 images with a frequent and a rare class: rare ones differ by at most one."""
    objects = {f"{i:02d}": Counter(often=1 + i % 3) for i in range(40)}
    for i in range(0, 40, 5):
        objects[f"{i:02d}"]["rare"] = 1
    ids = [f"{i:02d}" for i in range(44)]
    first, second = balanced_halves(ids, objects)
    assert not first & second and first | second == set(ids)
    sums = [sum((objects.get(i, Counter()) for i in half), Counter()) for half in (first, second)]
    assert sums[0]["rare"] == sums[1]["rare"] == 4
    assert abs(sums[0]["often"] - sums[1]["often"]) <= 3
    assert balanced_halves(ids, objects) == (first, second)


def test_a_trial_tree_is_as_the_script_wants_it(ilsvrc_root: Path) -> None:
    parts = {part.path.name: part for part in prepare(ilsvrc_root)}
    assert {n for n, p in parts.items() if p.state == MISSING} == {"val1.txt", "val2.txt"}
    assert parts["map_det.txt"].what == "10 classes"
    assert parts["val.txt"].state == THERE
