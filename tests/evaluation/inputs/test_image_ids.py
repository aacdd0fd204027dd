"""image_id as a file's stem or name, or a number as text: said, and mapped where that is stated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from resdet.cli import main
from resdet.errors import DataError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.image_ids import image_places
from resdet.evaluation.inputs.validation import check_results


def typed(folder: Path, instances: Any, results: Any, *words: str) -> int:
    gt, file = folder / "gt.json", folder / "r.json"
    gt.write_text(json.dumps(instances), encoding="utf-8")
    file.write_text(json.dumps(results), encoding="utf-8")
    command = ["evaluate", "coco", str(file), "--gt", str(gt), "--task", "bbox", "--json"]
    return main.main([*command, *words])


FORMS = {
    "stem": {7: "cat_7", 9: "dog.v2"},
    "name": {7: "cat_7.jpg", 9: "val/dog.v2.png"},
    "number": {7: "7", 9: "000000000009"},
}


@pytest.fixture
def named(instances: Any) -> Any:
    """`instances` whose files are val/cat_7.jpg and val/dog.v2.png."""
    for image, name in zip(instances["images"], ("cat_7.jpg", "dog.v2.png"), strict=True):
        image["file_name"] = f"val/{name}"
    return instances


@pytest.mark.parametrize("way", FORMS)
def test_the_way_is_named_and_maps_them_all(
    tmp_path: Path, named: Any, perfect: Any, capsys: Any, way: str
) -> None:
    """yolov5#5467. The page's option is typed; the numbers are those of the right ids."""
    other = [{**entry, "image_id": FORMS[way][entry["image_id"]]} for entry in perfect]
    assert typed(tmp_path, named, other) == 1
    page = capsys.readouterr().err
    assert "3 of 3 entries" in page
    assert "Is it the right --gt?" not in page
    (words,) = re.findall(r"add (--image-ids \w+) to evaluate coco", page)
    assert typed(tmp_path, named, other, *words.split()) == 0
    captured = capsys.readouterr()
    output = json.loads(captured.out)
    assert output["image_ids"] == way
    assert "Image ids of the results were read as" in captured.err
    right = coco.evaluate(named, perfect).to_json()
    assert {k: v for k, v in output.items() if k != "image_ids"} == right


def test_what_maps_some_alone_is_not_offered(named: Any, perfect: Any) -> None:
    """One stem that the set does not have: the file may be of another set."""
    others = [{**e, "image_id": "cat_7"} for e in perfect[:2]]
    (found,) = check_results([*others, {**perfect[2], "image_id": "cow"}], named, [7, 9])
    assert found.fix.startswith("Is it the right --gt?")


def test_the_sets_own_ids_are_taken_beside(named: Any, perfect: Any) -> None:
    """What the page names for the unknown ones leaves the known ones as they are."""
    mixed = [{**perfect[0], "image_id": "cat_7"}, *perfect[1:]]
    (found,) = check_results(mixed, named, [7, 9])
    assert "--image-ids stem" in found.fix
    assert check_results(mixed, named, [7, 9], image_ids="stem") == []


def test_numbers_are_taken_for_ids_that_are_text(instances: Any, perfect: Any) -> None:
    """The other way round: the set has "7"."""
    for entry in (*instances["images"], *instances["annotations"]):
        key = "image_id" if "image_id" in entry else "id"
        entry[key] = f"{entry[key]:03}"
    (found,) = check_results(perfect, instances)
    assert "--image-ids number" in found.fix
    assert "which are text" in found.fix
    assert coco.evaluate(instances, perfect, image_ids="number").numbers["AP"] == pytest.approx(1)


def test_a_stem_of_two_files_is_refused() -> None:
    """a/1.jpg and b/1.jpg: it names neither. By hand."""
    with pytest.raises(DataError, match="images 4 and 5 of the set both have 1, so"):
        image_places([4, 5], ["a/1.jpg", "b/1.png"], "stem")
    assert image_places([4, 5], ["a/1.jpg", "b/1.png"], "name")["1.png"] == 1
    with pytest.raises(DataError, match="--image-ids name: the set has no file_name"):
        image_places([4], [None], "name")
    with pytest.raises(DataError, match="--image-ids number: the set has no number"):
        image_places(["a"], ["a.jpg"], "number")
