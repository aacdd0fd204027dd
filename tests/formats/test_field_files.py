"""Files as public reports have them: read, scored, or refused with what leads on, which is typed.

Each is made here after the report that its docstring names; the values are made up.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resdet.cli import main
from resdet.data import catalog
from resdet.data.options import DataOptions
from resdet.errors import DataError
from tests.support import coco_json

OUTLINE = [10.0, 10.0, 50.0, 10.0, 50.0, 40.0, 10.0, 40.0]


class Files:
    """A ground truth of two pictures, and perfect results; what a test changes is then written."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self.capsys = folder, capsys
        for name in ("0.jpg", "1.jpg"):
            Image.new("RGB", (100, 80), (200, 10, 60)).save(folder / name)
        self.truth: Any = {
            "images": [coco_json.image(i) for i in (0, 1)],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [
                coco_json.annotation(1, 0, 1, [10, 10, 40, 30]),
                coco_json.annotation(2, 1, 2, [50, 20, 30, 50]),
            ],
        }
        self.results: Any = [
            coco_json.detection(0, 1, [10, 10, 40, 30], 0.9),
            coco_json.detection(1, 2, [50, 20, 30, 50], 0.8),
        ]
        self.gt, self.found = folder / "gt.json", folder / "found.json"

    def write(self) -> None:
        self.gt.write_text(json.dumps(self.truth), encoding="utf-8")
        self.found.write_text(json.dumps(self.results), encoding="utf-8")

    def load(self) -> Any:
        """The set as `train_det` has it."""
        self.write()
        options = DataOptions(cache=False)
        return catalog.load_detection(f"coco:{self.gt}:{self.folder}", options=options)

    def page(self) -> str:
        with pytest.raises(DataError) as refusal:
            self.load()
        return str(refusal.value)

    def typed(self, *words: object, command: str = "evaluate coco") -> tuple[int, str, Any]:
        """Exit code, page and JSON of a command on both files."""
        self.write()
        task = ["--task", "bbox"] if command == "evaluate coco" else []
        found = next((w for w in words if isinstance(w, Path)), self.found)
        more = [str(w) for w in words if not isinstance(w, Path)]
        code = main.main(
            [*command.split(), str(found), "--gt", str(self.gt), *task, "--json", *more]
        )
        out, err = self.capsys.readouterr()
        return code, err, json.loads(out) if out else None

    def compared(self, *words: str) -> int:
        """`compare --results` of the results with themselves and one detection less."""
        self.write()
        half = self.folder / "half.json"
        half.write_text(json.dumps(self.results[:1]), encoding="utf-8")
        named = ["--results", f"a={self.found}", f"b={half}", "--gt", str(self.gt)]
        return main.main(["compare", *named, "--output", str(self.folder / "report"), *words])


@pytest.fixture
def files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Files:
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    return Files(tmp_path, capsys)


def test_ids_of_annotations_may_be_text_where_images_have_numbers(files: Files) -> None:
    """dbolya/yolact#156, from VIA: "image_id": "0" beside "id": 0; were called orphans."""
    for entry in files.truth["annotations"]:
        entry["image_id"], entry["category_id"] = str(entry["image_id"]), str(entry["category_id"])
    data = files.load()
    assert data.counts["ids as text, read as the number"] == 4
    assert data.counts["objects"] == 2
    code, notes, output = files.typed()
    assert (code, output["AP"]) == (0, pytest.approx(1))
    assert "4 x ids as text, read as the number" in notes
    assert files.typed(command="submit check")[0] == 0
    assert files.compared() == 0


def test_a_polygon_that_is_no_list_of_polygons_costs_its_mask_alone(files: Files) -> None:
    """roboflow/supervision#205, dbolya/yolact#156: "segmentation": [612, 345, …]."""
    for entry in files.truth["annotations"]:
        entry["segmentation"] = OUTLINE
    assert files.load().counts["masks that are no polygons, dropped"] == 2
    assert files.typed()[2]["AP"] == pytest.approx(1)
    assert files.compared() == 0


@pytest.mark.parametrize("empty", [None, [], ...])
def test_a_box_that_is_missing_is_taken_from_the_polygons(files: Files, empty: Any) -> None:
    """maskrcnn-benchmark#480, from labelme: no bbox but a mask; was refused."""
    entry = files.truth["annotations"][0]
    entry |= {"bbox": empty, "segmentation": [OUTLINE]}
    if empty is ...:
        del entry["bbox"]
    data = files.load()
    assert data.counts["bbox missing, taken from the polygons"] == 1
    assert data.records[0]["annotations"][0]["bbox"] == [10, 10, 50, 40]
    code, notes, output = files.typed()
    assert (code, output["AP"]) == (0, pytest.approx(1))
    assert "1 x bbox missing, taken from the polygons" in notes
    assert files.compared() == 0


def test_the_list_of_annotations_alone_is_named(files: Files) -> None:
    """detectron2#735: "annotation file format <class 'list'> not supported"."""
    files.truth = files.truth["annotations"]
    what = "list of annotations alone: an instances file has images and categories beside"
    assert what in files.page()
    assert what in files.typed()[1]
    assert what in files.typed(command="submit check")[1]


@pytest.mark.parametrize("key", ["annotations", "predictions", "bbox"])
def test_results_within_an_object_are_named_and_the_command_works(files: Files, key: str) -> None:
    """cocoapi#401: "results in not an array of objects"; had no command."""
    files.results = {"info": {}, key: files.results}
    code, page, _ = files.typed()
    assert code == 1
    (command,) = re.findall(r"^  (python .*)$", page, re.MULTILINE)
    subprocess.run(command, shell=True, check=True)
    code, _, output = files.typed(files.folder / "found.list.json")
    assert (code, output["AP"]) == (0, pytest.approx(1))


def in_layout(results: list[Any]) -> dict[str, Any]:
    """As `resdet detect --output` writes boxes: names, under ids of its own."""
    return {
        "images": [{"id": 8 - i, "file_name": f"{i}.jpg"} for i in (0, 1)],
        "categories": [{"id": 5, "name": "dog"}, {"id": 6, "name": "cat"}],
        "annotations": [
            {**r, "image_id": 8 - r["image_id"], "category_id": {1: 6, 2: 5}[r["category_id"]]}
            for r in results
        ],
    }


@pytest.mark.parametrize("engine", ["official", "fast"])
def test_boxes_in_cocos_layout_are_scored_by_the_names_in_them(files: Files, engine: str) -> None:
    """Its ids are not the set's; the bare list that was advised put boxes on other images."""
    files.results = in_layout(files.results)
    code, notes, output = files.typed("--engine", engine)
    assert (code, output["AP"]) == (0, pytest.approx(1)), notes
    code, page, _ = files.typed("--image-ids", "stem")
    assert code == 2 and "names the file of each image, and is read by that" in page


def test_files_of_one_name_in_two_folders_are_not_taken_for_each_other(files: Files) -> None:
    """With their folders they are told apart; without, or of other folders, nothing is guessed."""
    for image, folder in zip(files.truth["images"], ("a", "b"), strict=True):
        image["file_name"] = f"{folder}/same.jpg"
    files.results = in_layout(files.results)
    for image, folder in zip(files.results["images"], ("a", "b"), strict=True):
        image["file_name"] = f"{folder}/same.jpg"
    code, notes, output = files.typed()
    assert (code, output["AP"]) == (0, pytest.approx(1)), notes
    for image, folder in zip(files.results["images"], ("c", "d"), strict=True):
        image["file_name"] = f"{folder}/same.jpg"
    code, page, _ = files.typed()
    assert code == 1 and "2 images of it are not in gt.json" in page
    # The set has one of them alone, and two pictures must not end up on it.
    files.truth["images"][0]["file_name"] = "same.jpg"
    files.truth["images"][1]["file_name"] = "other.jpg"
    code, page, _ = files.typed()
    assert code == 1 and "2 images of it are not in gt.json" in page


@pytest.mark.parametrize(
    ("table", "entry", "page"),
    [
        (
            "images",
            {"id": 8, "file_name": "other.jpg"},
            "1 image of it is not in gt.json:\n  other",
        ),
        ("categories", {"id": 6, "name": "horse"}, "1 class of it is not in gt.json:\n  horse"),
    ],
)
def test_boxes_in_cocos_layout_of_something_else_are_refused(
    files: Files, table: str, entry: dict[str, Any], page: str
) -> None:
    files.results = in_layout(files.results)
    files.results[table] = [e for e in files.results[table] if e["id"] != entry["id"]] + [entry]
    code, told, _ = files.typed()
    assert code == 1 and page in told


def test_class_numbers_are_named_with_the_ids_that_they_stand_for(files: Files) -> None:
    """ultralytics#18251: predictions.json counts classes from 0, the set from 1; the page had no
    map."""
    for entry in files.results:
        entry["category_id"] -= 1
    code, page, _ = files.typed()
    assert code == 1
    assert "In the order of the set, 0 is 1 (cat), 1 is 2 (dog)." in page
    (command,) = re.findall(r"^ *(python -c .*)$", page, re.MULTILINE)
    given = command.replace("INSTANCES.json", str(files.gt)).replace(
        "RESULTS", str(files.found)[:-5]
    )
    subprocess.run(given, shell=True, check=True, cwd=files.folder)
    code, _, output = files.typed(files.folder / "MAPPED.json")
    assert (code, output["AP"]) == (0, pytest.approx(1))
    ids = {int(a): int(b) for a, b in re.findall(r"(\d+) is (\d+) \(", page)}
    for entry in files.results:
        entry["category_id"] = ids[entry["category_id"]]
    assert files.typed()[2]["AP"] == pytest.approx(1)


def test_an_annotation_without_a_category_is_one_statement_and_is_accepted(files: Files) -> None:
    """Yet-Another-EfficientDet-Pytorch#579: KeyError: 'category_id'."""
    files.truth["annotations"].append(coco_json.annotation(3, 0, 1, [1, 1, 5, 5]))
    del files.truth["annotations"][2]["category_id"]
    page = files.page()
    assert "annotation 3: category_id is missing" in page
    assert "cannot be used: 1 fault in" in page
    code, page, _ = files.typed()
    assert (code, page.strip().endswith("--accept gt-unknown-categories=1")) == (2, True)
    code, _, output = files.typed("--accept", "gt-unknown-categories=1")
    assert (code, output["AP"]) == (0, pytest.approx(1))
    assert files.compared("--accept", "gt-unknown-categories=1") == 0


def test_a_detector_that_found_nothing_is_scored(files: Files) -> None:
    """cocoapi#450 and #675: IndexError in loadRes."""
    files.results = []
    code, notes, output = files.typed()
    assert (code, output["AP"]) == (0, 0)
    assert "100 % of the images have no detection at all" in notes
    assert files.typed(command="submit check")[0] == 0


def test_classes_without_a_supercategory_are_all_read(files: Files) -> None:
    """rf-detr#609: classes whose supercategory is "none" were none at all."""
    for entry in files.truth["categories"]:
        entry["supercategory"] = "none"
    assert files.load().classes == ("cat", "dog")
    assert list(files.typed()[2]["per_category"]) == ["cat", "dog"]


def test_ids_and_names_alone_are_enough(files: Files) -> None:
    """pylabel#33, mmdetection#804, cocoapi#374: neither sizes nor area nor iscrowd."""
    for image in files.truth["images"]:
        del image["width"], image["height"]
    for entry in files.truth["annotations"]:
        del entry["area"], entry["iscrowd"]
    counts = files.load().counts
    assert counts["size missing, taken from the image"] == 2
    assert counts["area missing, box area used"] == 2
    assert files.typed()[2]["AP"] == pytest.approx(1)
    assert files.typed(command="submit check")[0] == 0
    assert files.compared() == 0


def test_a_file_that_ends_in_the_middle_is_named(files: Files) -> None:
    """detectron2#2023: a width of numpy's stopped json.dump behind "width": ."""
    files.write()
    files.gt.write_bytes(b'{"images": [{"id": 0, "width": ')
    with pytest.raises(DataError, match="cut off or damaged"):
        catalog.load_detection(f"coco:{files.gt}:{files.folder}")
    words = ["evaluate", "coco", str(files.found), "--gt", str(files.gt), "--task", "bbox"]
    assert main.main(words) == 2
    assert "Was it written to its end?" in files.capsys.readouterr().err


def test_a_set_without_images_is_one_statement(files: Files) -> None:
    """label-studio#1470: an export of tasks without a region lists no image."""
    files.truth["images"], files.truth["annotations"] = [], []
    assert '"images" is empty, so the set is empty' in files.page()
    code, page, _ = files.typed()
    assert (code, '"images" is empty: there is nothing to score.' in page) == (2, True)
    assert "--accept" not in page
