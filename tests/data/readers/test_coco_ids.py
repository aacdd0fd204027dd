"""COCO's JSON: ids of all kinds, twice, missing or of another type (F4, F5, F7, F16, F58)."""

from __future__ import annotations

import pytest

from resdet.errors import DataError
from tests.support.coco_reading import load, refused

pytestmark = pytest.mark.usefixtures("private_cache")


# -- ids --------------------------------------------------------------------------------------


def test_an_image_id_twice_is_refused_with_both_places(coco_tree) -> None:
    """F5: pycocotools would keep the second and lose the first."""
    coco_tree.image(42, "a.jpg")
    coco_tree.image(42, "b.jpg")
    page = refused(coco_tree)
    line = 'image id 42 occurs twice in instances_val.json ("images" entries 1 and 2: a.jpg, b.jpg)'
    assert line in page
    assert "renumber one" in page


def test_an_annotation_id_twice_is_refused_with_both_places(one) -> None:
    """F5: two objects of one id, both found, had AP 0.2525."""
    one.annotation(id=7)
    one.annotation(id=7)
    message = 'annotation id 7 occurs twice in instances_val.json ("annotations" entries 1 and 2)'
    assert message in refused(one)


def test_known_repeats_of_the_published_minival_are_left_out(one) -> None:
    """F5: Detectron2 lets these two files pass by name; equal entries count once here."""
    one.annotation(id=7)
    one.content["annotations"].append(dict(one.content["annotations"][0]))
    data = load(one, repeats=True)
    assert data.counts["objects"] == 1
    assert data.counts["annotations that occur twice, dropped"] == 1
    one.annotation(id=7, bbox=[1, 1, 5, 5], area=25)
    with pytest.raises(DataError, match="annotation id 7 occurs twice"):
        load(one, repeats=True)


def test_annotation_id_0_is_an_id_like_any(one) -> None:
    """F58: pycocotools takes it for "unmatched", so evaluation renumbers; the loader keeps it."""
    one.annotation(id=0)
    assert load(one).records[0]["annotations"][0]["id"] == 0


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], 'category id 1 occurs twice: "a", "b"'),
        (
            [{"id": 1, "name": "a"}, {"id": 2, "name": " a"}],
            'are called "a": ids 1 and 2',
        ),
        ([{"id": "1", "name": "a"}], 'id is "1" (text); write the number 1'),
        ([{"id": 1}], '"categories" entry 1 (id 1) has no name'),
        ([{"id": 1, "name": "\udc00"}], 'name is "\\udc00", with half a character'),
        ([{"id": True, "name": "a"}], "id is true"),
        ([7], '"categories" entry 1 is 7, not an object'),
        ([], '"categories" is empty'),
    ],
)
def test_bad_categories_are_refused(one, categories, message: str) -> None:
    """F4, F5, F58."""
    one.content["categories"] = categories
    assert message in refused(one)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "1", "file_name": "1.jpg"}, '"images" entry 2: id is "1", equal as text to that'),
        ({"id": "\ud800", "file_name": "1.jpg"}, 'id is "\\ud800", with half a character'),
        ({"id": 7.5, "file_name": "1.jpg"}, '"images" entry 2: id is 7.5'),
        ({"file_name": "1.jpg"}, '"images" entry 2: id is missing'),
        ({"id": 2}, '"images" entry 2 (id 2) has no file_name'),
        ({"id": 2, "file_name": "1.jpg", "width": "100", "height": 80}, 'width is "100"'),
        ({"id": 2, "file_name": "1.jpg", "width": -1, "height": 80}, "width is -1"),
        ("1.jpg", '"images" entry 2 is "1.jpg", not an object'),
    ],
)
def test_bad_image_entries_are_refused(one, entry, message: str) -> None:
    """F16, F58: with the place in the file."""
    one.content["images"].append(entry)
    assert message in refused(one)


def test_ids_with_a_decimal_point_are_fixed(one) -> None:
    """F58: 1.0 is 1; counted for the image, its two mentions and the annotation."""
    one.content["images"][0]["id"] = 1.0
    one.annotation(id=3.0, image_id=1.0)
    data = load(one)
    assert isinstance(data.records[0]["image_id"], int)
    assert data.counts["ids with a decimal point"] == 3


# -- orphans ----------------------------------------------------------------------------------


def test_orphans_are_refused_or_dropped_by_their_exact_number(one) -> None:
    """F7: 1 of 2 annotations points to image 77."""
    one.annotation()
    one.annotation(image_id=77)
    page = refused(one)
    assert 'annotation 2 in instances_val.json points to image 77, which is not in "images"' in page
    assert "1 of 2 annotations is affected" in page
    assert "DATASETS.DROP_ORPHANS mine=1." in page
    assert "DROP_ORPHANS mine=1 (not 2)" in refused(one, drop_orphans=2)
    assert "DROP_ORPHANS mine=1 (not 2)" in refused(one, drop_orphans={"mine": 2})
    assert "DROP_ORPHANS \"('other=1', 'mine=1')\"." in refused(one, drop_orphans={"other": 1})
    assert load(one, drop_orphans={"other": 7, "mine": 1}).counts["objects"] == 1
    data = load(one, drop_orphans=1)
    assert data.counts["annotations of missing images, dropped"] == 1
    assert data.counts["objects"] == 1


def test_unknown_categories_are_refused(one) -> None:
    """F7: pycocotools leaves such objects out silently."""
    one.annotation(category_id=99)
    message = 'annotation 1 has category_id 99, which is not in "categories" (ids 1 to 4)'
    assert message in refused(one)
