"""How many images a set has: counted where it lies, the published number and its name elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resdet.data import digits
from resdet.data.set_sizes import SetSizes, sizes_of
from tests.support import tiny


def test_sets_that_are_not_here_have_the_number_of_their_publication(tmp_path: Path) -> None:
    """VOC's own statistics: 5,011 and 11,540 images."""
    one = sizes_of(["voc_2007_trainval"], root=tmp_path)
    assert one == SetSizes((5011,), ("voc_2007_trainval",))
    assert one.source() == ", as published: voc_2007_trainval is not here"
    two = sizes_of(["voc_2007_trainval", "voc_2012_trainval"], root=tmp_path)
    assert two is not None and two.images == (5011, 11_540)
    assert two.source().endswith("voc_2007_trainval, voc_2012_trainval are not here")


def test_what_is_here_is_counted_by_its_list(tmp_path: Path) -> None:
    """Three images are listed in each split; the other year is not here."""
    tree = tiny.voc_tree(tmp_path / "VOC2007")
    here = sizes_of(["voc_2007_test", "voc_2012_train"], root=tmp_path)
    assert here == SetSizes((3, 5717), ("voc_2012_train",))
    assert sizes_of([f"voc:{tree}:train"], root=tmp_path) == SetSizes((3,))
    (tree / "ImageSets" / "Main" / "test.txt").write_text("", encoding="utf-8")
    # It is here, and damaged: neither number.
    assert sizes_of(["voc_2007_test"], root=tmp_path) is None


def test_cocos_images_are_those_of_the_instances_file(tmp_path: Path) -> None:
    """The folder may hold more: minival2014 and val2014 share one."""
    folder, file = tmp_path / "coco" / "val2017", "coco/annotations/instances_val2017.json"
    folder.mkdir(parents=True)
    (tmp_path / file).parent.mkdir()
    content = {"images": [{"id": 1}, {"id": 2}], "annotations": [], "categories": []}
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    assert sizes_of(["coco_2017_val"], root=tmp_path) == SetSizes((2,))
    assert sizes_of([f"coco:{tmp_path / file}:{folder}"]) == SetSizes((2,))
    (tmp_path / file).write_text("{", encoding="utf-8")
    assert sizes_of([f"coco:{tmp_path / file}:{folder}"]) is None


def test_the_digits_have_theirs_before_they_are_made() -> None:
    assert sizes_of(["digits_train"]) == SetSizes((digits.SIZES["scenes_train"],))


@pytest.mark.parametrize(
    "names", [[], ["mine"], ["voc:nowhere:train"], ["voc:"], ["digits_train", "x"]]
)
def test_a_number_that_nobody_knows_is_none(names: list[str], tmp_path: Path) -> None:
    assert sizes_of(names, root=tmp_path) is None


def test_the_real_subset_is_counted(shared_data: Path) -> None:
    """250 and 120 images of VOC 2007 lie there (its README)."""
    expected = SetSizes((250, 120))
    assert sizes_of(["voc_2007_trainval", "voc_2007_test"], root=shared_data) == expected
