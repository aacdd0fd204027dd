"""COCO's instances JSON: what is refused, what is repaired and counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from resdet.errors import DataError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.formats import coco_json as coco_json_rules
from tests.support import coco_json


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("iscrowd", "0", r'annotation 12: iscrowd is text \("0"\). Write the number 0'),
        ("iscrowd", 2, "annotation 12: iscrowd is 2"),
        ("area", -3, "annotation 12: area is -3"),
        ("area", "9", r'annotation 12: area is text \("9"\)'),
        ("id", 11, r'annotation id 11 occurs twice \("annotations" entries 0 and 1\)'),
        ("id", "12", 'annotation entry 1 has id text'),
        ("image_id", 77, 'annotation 12: image_id is 77, which is not in "images"'),
        ("category_id", 2, 'annotation 12: category_id is 2, which is not in "categories"'),
        ("bbox", [1, 2, -3, 4], "annotation 12: width -3"),
        ("bbox", [1, 2, 3], r"annotation 12: bbox is \[1, 2, 3\]"),
        ("bbox", [1, 2, 3, float("nan")], "annotation 12: bbox is .*four finite numbers"),
        ("bbox", [1, 2, "3", 4], "annotation 12: bbox is .*four finite numbers"),
    ],
    ids=[
        "F57-text", "F57-two", "F56-negative", "F56-text",
        "F58-twice", "F58-text", "F7-image", "F7-category", "F11-negative", "three", "F11-nan",
        "F11-text",
    ],
)  # fmt: skip
def test_faulty_annotations_are_named(instances: Any, key: str, value: Any, match: str) -> None:
    """F5, F7, F11, F56 to F58: the annotation's id, the value, what to write."""
    instances["annotations"][1][key] = value
    with pytest.raises(DataError, match=match):
        read_ground_truth(instances)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"annotations": None}, "has no annotations, so no AP can be had here"),
        ({"images": None}, 'has no list "images"'),
        ({"images": []}, '"images" is empty'),
        ({"categories": []}, '"categories" is empty'),
        ({"images": [{"id": 7}, {"id": 7}]}, r"image id 7 occurs twice .*entries 0 and 1"),
        ({"images": [{"id": True}]}, '"images" entry 0 has no id'),
        ({"images": [7]}, '"images" entry 0 is 7, not an object'),
        ({"images": [{"id": 7}, {"id": "7"}]}, "equal as text"),
        ({"images": [{"id": "\ud800"}]}, "half a character"),
        ({"images": [{"id": 7, "width": "9", "height": 8}]}, r'width is text \("9"\), height is 8'),
        ({"images": [{"id": 7, "width": 9}]}, r"entry 0 \(id 7\): width is 9, height is null"),
        ({"categories": [{"id": "1", "name": "a"}]}, "entry 0 has id text"),
        ({"categories": [{"id": 1}]}, r"entry 0 \(id 1\) has no name"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "id 1 occurs twice"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, 'are named "a"'),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a "}]}, 'are named "a"'),
        ({"categories": [{"id": 1, "name": " "}]}, r"entry 0 \(id 1\) has no name"),
    ],
)
def test_faulty_sets_are_refused(instances: Any, change: Any, match: str) -> None:
    """F2, F4, F5, F8: what is missing or stands twice."""
    with pytest.raises(DataError, match=match):
        read_ground_truth(instances | change)


def test_names_and_ids_are_those_of_the_loader(instances: Any) -> None:
    """Blanks around a name go, 7.0 is 7; both are counted."""
    instances["categories"][0]["name"] = " cat"
    instances["images"][0]["id"] = 7.0
    instances["annotations"][0] |= {"id": 11.0, "image_id": 7.0, "category_id": 1.0}
    truth = read_ground_truth(instances)
    assert truth.index.category_names == ("cat", "dog", "ox")
    assert [type(i) for i in truth.index.image_ids] == [int, int]
    assert truth.repairs == {"ids with a decimal point": 4, "blanks around a class name": 1}


def test_all_faults_are_counted_before_the_page(instances: Any) -> None:
    """All faults of a file at once."""
    for item in instances["annotations"]:
        item["iscrowd"] = "0"
    with pytest.raises(DataError, match="3 faults") as page:
        read_ground_truth(instances)
    assert str(page.value).count("iscrowd is text") == 3


def test_missing_fields_are_repaired_and_counted(instances: Any) -> None:
    """F56, F57, F58: the box's area, 0, a number; true and false are 1 and 0."""
    first, second, third = instances["annotations"]
    del first["area"], first["iscrowd"], second["id"], third["area"]
    second["iscrowd"] = True
    truth = read_ground_truth(instances)
    assert truth.repairs == {
        "iscrowd missing, read as 0": 1,
        "area missing, box area used": 2,
        "annotation without id, numbered": 1,
    }
    assert truth.area.tolist() == [1600, 1499, 400]
    assert truth.crowd.tolist() == [False, True, False]
    notes = coco.evaluate(instances, []).notes
    assert "Repaired in reading: 2 x area missing, box area used." in notes


def test_box_areas_are_told_apart_from_masks(instances: Any) -> None:
    """F56: sizes by box area are not comparable with COCO's."""
    assert not read_ground_truth(instances).sizes_by_box_area
    for item in instances["annotations"]:
        del item["area"]
    assert read_ground_truth(instances).sizes_by_box_area
    assert any("Sizes by box area" in note for note in coco.evaluate(instances, []).notes)


def test_a_results_file_as_ground_truth_is_recognised(tmp_path: Path, perfect: Any) -> None:
    """The two paths in the wrong order."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps(perfect), encoding="utf-8")
    with pytest.raises(
        DataError, match="list of results, as RESULTS takes it: give the set's instances here"
    ):
        read_ground_truth(path)


def test_packed_files_are_read(tmp_path: Path, instances: Any) -> None:
    """ground_truth.json.gz of a result folder."""
    path = tmp_path / "gt.json.gz"
    path.write_bytes(gzip.compress(json.dumps(instances).encode()))
    assert read_ground_truth(path).index.image_ids == (7, 9)


def test_the_exporters_root_category_is_left_out(instances: Any, perfect: Any) -> None:
    """Roboflow: scored as if the root were not there; by hand, all objects are found."""
    for category in instances["categories"]:
        category["supercategory"] = "dog"
    instances["categories"].insert(0, {"id": 0, "name": "dog", "supercategory": "none"})
    result = coco.evaluate(instances, perfect)
    assert list(result.per_category) == ["cat", "dog", "ox"]
    assert result.numbers["AP"] == pytest.approx(1.0)
    assert any(n.startswith('Category 0 "dog" is left out: the super') for n in result.notes)
    instances["annotations"][0]["category_id"] = 0
    with pytest.raises(DataError, match='1 fault, .*\n  two categories are named "dog"'):
        read_ground_truth(instances)


def test_a_category_name_that_is_a_number_is_one_statement(instances: Any) -> None:
    """Not "has no name"; each category once, none of its annotations."""
    instances["categories"][0]["name"] = 0
    with pytest.raises(DataError, match=r"1 fault.*\n.*\(id 1\) has the name 0, which is not text"):
        read_ground_truth(instances)


@pytest.mark.parametrize("key", ["difficult", "ignore"])
def test_difficult_objects_are_to_be_found_as_pycocotools_has_it(
    instances: Any, perfect: Any, key: str
) -> None:
    """Oracle: pycocotools, which overwrites `ignore` with `iscrowd` (cocoapi#466)."""
    instances["annotations"][1][key] = 1
    instances["annotations"][0][key] = 0
    del perfect[1]
    result = coco.evaluate(instances, perfect)
    stats = coco_json.by_pycocotools(instances, perfect).stats
    assert result.numbers["AP"] == pytest.approx(stats[0], abs=1e-12)
    (note,) = [n for n in result.notes if key in n]
    assert note.startswith(f'1 object with "{key}": 1 counts as to be found, like any other')


def test_a_federated_set_is_noted(instances: Any, perfect: Any) -> None:
    """LVIS: images say which categories were looked for; COCO's metric does not ask."""
    for image in instances["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": [1]}
    assert any("not LVIS's AP" in note for note in coco.evaluate(instances, perfect).notes)


def test_notes_of_a_runs_set_stand_beside_its_number_once(instances: Any, perfect: Any) -> None:
    """ground_truth.json.gz has them in its info; what the file itself shows is not said twice."""
    instances["annotations"][1]["difficult"] = 1
    note = coco_json_rules.counted_in_coco("difficult", 1)
    instances["info"] = {"notes": [note, "federated as LVIS: so and so", 7, ""]}
    notes = coco.evaluate(instances, perfect).notes
    assert notes.count(f"{note}.") == 1
    assert "Federated as LVIS: so and so." in notes


@pytest.mark.parametrize(("box", "area", "counted"), [
    ([1, 1, 3.4, 3.4], 16, 1), ([1, 1, 0.5, 1.2], 0, 1), ([1, 1, 3.4, 3.4], 11, 0),
])  # fmt: skip
def test_rounded_areas_of_tiny_boxes_are_scored_as_written(
    instances: Any, perfect: Any, box: list[float], area: float, counted: int
) -> None:
    """Oracle: pycocotools, for which an area only decides what is small."""
    instances["annotations"][0] |= {"bbox": box, "area": area}
    truth = read_ground_truth(instances)
    assert truth.area[0] == area
    assert truth.repairs.get("area above its tiny box's by rounding, kept", 0) == counted
    expected = coco_json.by_pycocotools(instances, perfect).stats
    numbers = [-1 if v is None else v for v in coco.evaluate(truth, perfect).numbers.values()]
    assert numbers == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize(
    ("box", "area"),
    [([1, 1, 3.4, 3.4], 20), ([1, 1, 30, 50], 1600), ([1, 1, 30, 50], 0), ([1, 1, 3, 3], 1e7)],
)
@pytest.mark.parametrize("engine", coco.ENGINES)
def test_an_area_that_its_box_cannot_have_is_scored_and_counted(
    instances: Any, perfect: Any, box: list[float], area: float, engine: str
) -> None:
    """Oracle: pycocotools. (3.4 + 1)^2 is 19.36; a box of 1500 is not tiny."""
    instances["annotations"][0] |= {"bbox": box, "area": area}
    result = coco.evaluate(instances, perfect, engine=engine)
    assert "Repaired in reading: 1 x area that no mask in its box has, kept." in result.notes
    expected = coco_json.by_pycocotools(instances, perfect).stats
    numbers = [-1 if v is None else v for v in result.numbers.values()]
    assert numbers == pytest.approx(expected.tolist(), abs=1e-12)


def test_null_is_no_crowd_and_counted(instances: Any) -> None:
    """FiftyOne wrote null for what it did not know."""
    instances["annotations"][0]["iscrowd"] = None
    truth = read_ground_truth(instances)
    assert not truth.crowd.any()
    assert truth.repairs == {"iscrowd null, read as 0": 1}
