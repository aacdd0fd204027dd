"""ILSVRC's lists and maps, in the forms that the development kit's readme gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from resdet.errors import DataError
from resdet.formats.ilsvrc_tree import (
    DET,
    LOC,
    IlsvrcTree,
    read_det_blacklist,
    read_images,
    read_labelled,
    read_numbers,
    read_synsets,
)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_map_gives_wnids_by_id_and_readable_names(tmp_path: Path) -> None:
    """The first lines of the kit of 2015's map_det.txt."""
    path = written(tmp_path / "m.txt", "n02672831 1 accordion\nn02691156 2 air_plane\n")
    synsets = read_synsets(path)
    assert synsets.wnids == ("n02672831", "n02691156")
    assert synsets.names == ("accordion", "air plane")
    assert synsets.place() == {"n02672831": 0, "n02691156": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n02672831 2 accordion\n", 'line 1: "n02672831 2 accordion" is not .* with id 1'),
        ("n1 1 a\nn1 2 b\n", "wnids twice: n1"),
        ("", "no class in it"),
    ],
    ids=["order", "twice", "empty"],
)
def test_a_map_in_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_synsets(written(tmp_path / "m.txt", text))


def test_a_list_has_indices_or_counts_from_1(tmp_path: Path) -> None:
    two = read_images(written(tmp_path / "a.txt", "ILSVRC2012_val_00000007 7\n\na/b 9\n"))
    assert (two.ids, two.indices) == (("ILSVRC2012_val_00000007", "a/b"), (7, 9))
    assert read_images(written(tmp_path / "b.txt", "x\r\ny\r\n")).indices == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\nb 0\n", "1 lines are not `image_id index`"),
        ("a 1\nb ²\n", "1 lines are not `image_id index`"),
        (f"a {'9' * 5000}\n", "1 lines are not `image_id index`"),
        ("a 7\nb\n", "1 of 2 images have no index, the others have one"),
        ("a 1 2\n", 'line 1: "a 1 2"'),
        ("a 1\na 2\n", "1 images twice"),
        ("a 1\nb 1\n", "1 indices twice"),
        ("", "lists 0 images"),
    ],
    ids=[
        "zero",
        "superscript",
        "too-long",
        "some-without",
        "three",
        "image-twice",
        "index-twice",
        "empty",
    ],
)
def test_a_list_in_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_images(written(tmp_path / "l.txt", text))


def test_a_missing_file_names_the_command_that_lists_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt does not exist.*prepare_ilsvrc\.py"):
        read_images(tmp_path / "absent.txt")


def test_labels_of_a_class_list(tmp_path: Path) -> None:
    """Readme 2.2.1: 1 positive, 0 partial, -1 negative; lists of 2014 have positives alone."""
    path = written(tmp_path / "train_1.txt", "a/b 1\nc 0\nd -1\n")
    assert list(read_labelled(path)) == [("a/b", "1"), ("c", "0"), ("d", "-1")]
    assert list(read_labelled(written(tmp_path / "p.txt", "a\n"))) == [("a", "1")]
    with pytest.raises(DataError, match=r'line 1: the label "2" is not'):
        list(read_labelled(written(tmp_path / "q.txt", "a 2\n")))


def test_class_lists_by_number_in_either_spelling(tmp_path: Path) -> None:
    tree = IlsvrcTree(tmp_path, DET)
    folder = tmp_path / "ImageSets" / "DET"
    for name in ("train_pos_2", "train_pos_10", "train_pos_1", "train"):
        written(folder / f"{name}.txt", "a 1\n")
    assert [p.stem for p in tree.class_lists()] == ["train_pos_1", "train_pos_2", "train_pos_10"]
    written(folder / "train_1.txt", "a 1\n")
    assert [p.stem for p in tree.class_lists()] == ["train_1"]


def test_folders_of_splits(tmp_path: Path) -> None:
    det, loc = IlsvrcTree(tmp_path, DET), IlsvrcTree(tmp_path, LOC)
    assert det.images("val2") == tmp_path / "Data" / "DET" / "val"
    assert loc.annotations("train_loc") == tmp_path / "Annotations" / "CLS-LOC" / "train"
    assert det.list_file("val2").name == "val2.txt"
    assert det.blacklist is None
    written(det.kit / "ILSVRC2014_det_validation_blacklist.txt", "")
    written(det.kit / "ILSVRC2015_det_validation_blacklist.txt", "7 n02672831\n")
    assert det.blacklist is not None and det.blacklist.name.startswith("ILSVRC2015")
    assert read_det_blacklist(det.blacklist, {"n02672831": 0}) == [(7, 1)]
    with pytest.raises(DataError, match="is not `index wnid`"):
        read_det_blacklist(det.blacklist, {})


def test_numbers_one_a_line(tmp_path: Path) -> None:
    assert read_numbers(written(tmp_path / "n.txt", "490\n361\n")) == [490, 361]
    for text in ("0", "²"):
        with pytest.raises(DataError, match=f'line 2: "{text}" is not a number from 1'):
            read_numbers(written(tmp_path / "z.txt", f"1\n{text}\n"))
