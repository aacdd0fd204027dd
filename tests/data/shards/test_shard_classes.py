"""Names of classes, and orders that are not the usual one: devkit ids for sorted wnids (F4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from resdet.data.options import DataOptions
from resdet.data.records import with_labels_of
from resdet.data.shards import shard_classes
from resdet.data.shards.shard_set import load_shards
from resdet.errors import DataError
from resdet.evaluation.ilsvrc.ilsvrc_synsets import sorted_wnids, wnids_by_id
from tests.support.shard_files import jpeg, sample, write_shard

pytestmark = pytest.mark.usefixtures("private_cache")
WNIDS = ("n01440764", "n02119789", "n02130308")


def load(folder: Path):
    return load_shards(str(folder), name="mine", options=DataOptions(cache=False))


def imagenet(folder: Path, labels, classes=None) -> Path:
    """One image of each wnid with these labels, and a list beside it."""
    keys = [f"{wnid}_{i}" for i, wnid in enumerate(WNIDS)]
    members = [m for k, n in zip(keys, labels, strict=True) for m in sample(k, n)]
    write_shard(folder / "s.tar", members)
    if classes is not None:
        (folder / "classes.txt").write_text("".join(f"{c}\n" for c in classes))
    return folder


def test_without_a_list_imagenets_names_have_the_classes(tmp_path) -> None:
    data = load(imagenet(tmp_path, (0, 1, 2)))
    assert data.classes == WNIDS and data.notes == ()


def test_without_any_name_classes_are_numbers_with_a_note(tmp_path) -> None:
    write_shard(tmp_path / "s.tar", [*sample("a", 0), *sample("b", 1), *sample("c", 2)])
    data = load(tmp_path)
    assert data.classes == ("0", "1", "2") and "classes have no names" in data.notes[0]


@pytest.mark.parametrize(
    "lines",
    [WNIDS, [f"{i} {w} name, other name" for i, w in enumerate(WNIDS)],
     [f"{w} name" for w in WNIDS]],
)  # fmt: skip
def test_lists_of_imagenet_give_its_wnids(tmp_path, lines) -> None:
    assert load(imagenet(tmp_path, (0, 1, 2), lines)).classes == WNIDS


def test_names_with_blanks_are_whole_lines(tmp_path) -> None:
    names = ("sports car", "fire truck", "3 wheeler")
    assert load(imagenet(tmp_path, (0, 1, 2), names)).classes == names


def test_the_order_of_the_kit_is_refused(tmp_path) -> None:
    """Its ids less 1: n02119789 is its first, and the second of the sorted."""
    with pytest.raises(DataError, match="label 0 is n02119789 by its files' names, not n01440764"):
        load(imagenet(tmp_path, (2, 0, 1)))


def test_a_list_that_follows_another_order_is_accepted_where_the_labels_do(tmp_path) -> None:
    order = (WNIDS[1], WNIDS[2], WNIDS[0])
    data = load(imagenet(tmp_path, (2, 0, 1), order))
    assert data.classes == order
    assert with_labels_of(data, WNIDS).labels.tolist() == [1, 2, 0]


@pytest.mark.parametrize("labels", [(0, 1, 2), (2, 0, 1)])
def test_a_list_in_another_order_than_the_labels_is_refused(tmp_path, labels) -> None:
    right = [WNIDS[labels.index(i)] for i in range(3)]
    wrong = [right[1], right[0], right[2]]
    with pytest.raises(
        DataError, match=rf"label 0 is {right[1]} in .*but its images are {right[0]}"
    ):
        load(imagenet(tmp_path, labels, wrong))


def test_labels_from_one_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="(?s)labels are 1 to 3, and .* has 3 classes, 0 to 2.*kit"):
        load(imagenet(tmp_path, (1, 2, 3), WNIDS))
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(DataError, match="labels are 1 to 3, of 3 images"):
        load(tmp_path)


def test_one_list_for_all_folders_of_a_set(tmp_path) -> None:
    for name, classes in (("a", "x\ny\n"), ("b", "y\nx\n")):
        write_shard(tmp_path / name / "s.tar", sample(name, 0))
        (tmp_path / name / "classes.txt").write_text(classes)
    with pytest.raises(DataError, match=r"a/classes\.txt and .*b/classes\.txt differ"):
        load_shards(f"{tmp_path}/{{a,b}}/s.tar", name="mine")
    (tmp_path / "b" / "classes.txt").write_text("x\ny\n")
    data = load_shards(f"{tmp_path}/{{a,b}}/s.tar", name="mine")
    assert data.classes == ("x", "y") and data.notes == ("1 of 2 classes have no image: y",)


@pytest.mark.parametrize("text", ["", "x\nx\n"])
def test_a_list_without_names_or_with_one_twice_is_refused(tmp_path, text) -> None:
    write_shard(tmp_path / "s.tar", sample("a", 0))
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=r"classes\.txt (is empty|has a class twice)"):
        load(tmp_path)


def test_the_first_validation_images_have_the_places_of_the_sorted_wnids() -> None:
    """Two lists of others, Caffe's val.txt and the kit's ids, agree by the kit's own table."""
    assert len(shard_classes._FIRST_OF_VAL) == 10
    for place, number in shard_classes._FIRST_OF_VAL:
        assert sorted_wnids()[place] == wnids_by_id()[number - 1]


@pytest.mark.parametrize("less", [0, 1])
def test_validation_labels_in_the_kits_order_are_refused(tmp_path, less) -> None:
    """Keys have no wnid there: the first images of the set tell, which everybody has."""

    def members(labels):
        keys = [f"ILSVRC2012_val_{i + 1:08d}" for i in range(len(labels))]
        facts = zip(keys, labels, strict=True)
        return [m for k, n in facts for m in ((f"{k}.JPEG", jpeg()), (f"{k}.cls", b"%d" % n))]

    (tmp_path / "classes.txt").write_text("".join(f"{w}\n" for w in sorted_wnids()))
    write_shard(tmp_path / "s.tar", members([490 - less, 361 - less, 171 - less]))
    with pytest.raises(DataError, match=r"val_00000001 has the label 4(90|89), its id of the dev"):
        load(tmp_path)
    write_shard(tmp_path / "s.tar", members([65, 970, 230]))
    assert load(tmp_path).labels.tolist() == [65, 230, 970]
