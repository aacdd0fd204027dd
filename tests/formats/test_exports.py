"""What labelling tools export is read as it comes, for training and for scoring alike."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resdet.data import catalog
from resdet.data.options import DataOptions
from resdet.errors import DataError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.evaluation.voc import voc_evaluation as voc
from tests.support import coco_json, exports, own_formats, voc_exports


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my export"


def load(name: str, **options: Any) -> Any:
    """The set as `DATASETS.TRAIN "('coco:FILE:IMAGES',)"` has it."""
    return catalog.load_detection(name, options=DataOptions(**options))


def found(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object that is no crowd, found exactly."""
    return [
        coco_json.detection(a["image_id"], a["category_id"], a["bbox"], 0.9)
        for a in content["annotations"]
        if not a.get("iscrowd")
    ]


# -- COCO --------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", exports.COCO, ids=lambda b: b.__name__)
def test_the_loader_reads_what_tools_export(
    folder: Path, build: Callable[[Path], exports.CocoExport]
) -> None:
    """Classes, objects and crowds; what is odd is counted, and nothing else is."""
    export = build(folder)
    data = load(export.name)
    objects = [a for record in data.records for a in record["annotations"]]
    assert data.classes == export.classes
    assert (len(data), len(objects)) == (2, export.objects)
    assert sum(a["iscrowd"] for a in objects) == export.crowds
    plain = {"images", "objects", "crowds", "images without objects", "objects per class"}
    repairs = {k: v for k, v in data.counts.items() if ", " in k and k not in plain}
    assert repairs == export.counts
    for begin in export.notes:
        assert any(note.startswith(begin) for note in data.notes), data.notes


@pytest.mark.parametrize("build", exports.COCO, ids=lambda b: b.__name__)
@pytest.mark.parametrize("engine", coco.ENGINES)
def test_the_evaluator_scores_against_what_tools_export(
    folder: Path, build: Callable[[Path], exports.CocoExport], engine: str
) -> None:
    """Found exactly, AP is 1 by hand; pycocotools gives the same, where it can read the file."""
    export = build(folder)
    content = export.content
    truth = read_ground_truth(export.json)
    assert truth.index.category_names == export.classes
    assert (len(truth.boxes), int(truth.crowd.sum())) == (export.objects, export.crowds)
    results = found(content)
    result = coco.evaluate(export.json, results, engine=engine)
    assert result.numbers["AP"] == pytest.approx(1)
    for entry in content["annotations"]:
        if entry.get("iscrowd") is None:
            entry["iscrowd"] = 0  # without it pycocotools ends with a KeyError or a TypeError
        entry["id"] += 1  # it takes an object 0 for "none" (F58)
    stats = coco_json.by_pycocotools(content, results).stats
    numbers = [-1 if v is None else v for v in result.numbers.values()]
    assert numbers == pytest.approx(stats.tolist(), abs=1e-12)


def test_points_of_via_are_left_out_by_their_count(folder: Path) -> None:
    """They have no box; both pages name what leaves them out, and it works."""
    export = exports.via(folder)
    content = export.content
    content["annotations"] += [exports.via_point(3), exports.via_point(4)]
    export.write(content)
    with pytest.raises(DataError) as refusal:
        load(export.name)
    page = str(refusal.value)
    assert "annotation 3 (cat, image 1): bbox is []" in page
    assert "all 2 such objects: DATASETS.DROP_DEGENERATE" in page
    data = load(export.name, drop_degenerate=2)
    assert data.counts["objects without area dropped"] == 2
    with pytest.raises(DataError, match="--accept gt-boxes=2$"):
        coco.evaluate(export.json, found(content)[:2])
    result = coco.evaluate(export.json, found(content)[:2], accepted={"gt-boxes": 2})
    assert result.numbers["AP"] == pytest.approx(1)


def test_rectangles_that_labelme_drew_backwards_are_left_out_by_their_count(folder: Path) -> None:
    """labelme2coco subtracts the first corner from the second, whichever is the upper left."""
    export = exports.labelme2coco(folder)
    content = export.content
    content["annotations"].append(
        {**content["annotations"][0], "id": 3, "bbox": [50, 40, -40, -30], "area": 1200}
    )
    export.write(content)
    with pytest.raises(DataError, match="width -40 is not above 0(.|\n)*DROP_DEGENERATE"):
        load(export.name)
    assert load(export.name, drop_degenerate=1).counts["objects"] == 2
    results = found(content)[:2]
    with pytest.raises(DataError, match="a box has no negative size(.|\n)*--accept gt-boxes=1$"):
        coco.evaluate(export.json, results)
    assert coco.evaluate(export.json, results, accepted={"gt-boxes": 1}).accepted


def test_groups_that_open_images_does_not_know_are_accepted_as_pycocotools_takes_them(
    folder: Path,
) -> None:
    """IsGroupOf is -1 where nobody looked. Oracle: pycocotools on 1, as which it took -1 before
    numpy 2 refused to put that into eight bits without a sign."""
    export = exports.open_images(folder)
    content = export.content
    content["annotations"][2]["iscrowd"] = -1
    export.write(content)
    results = [*found(content), coco_json.detection("0001eeaf4aed83f9", 2, [0, 5, 9, 60], 0.95)]
    with pytest.raises(DataError, match="iscrowd is -1(.|\n)*--accept gt-flags=1$"):
        coco.evaluate(export.json, results)
    with pytest.raises(DataError, match="iscrowd is -1"):
        load(export.name)
    result = coco.evaluate(export.json, results, accepted={"gt-flags": 1})
    numbers = [-1 if v is None else v for v in result.numbers.values()]
    content["annotations"][2]["iscrowd"] = 1
    stats = coco_json.by_pycocotools(content, results).stats
    assert numbers == pytest.approx(stats.tolist(), abs=1e-12)


@pytest.mark.parametrize("kind", own_formats.OWN)
def test_formats_of_the_tools_own_are_named_with_what_writes_cocos(folder: Path, kind: str) -> None:
    """Not "is it an instances file?": the tool, and its command or menu."""
    content, expected = own_formats.OWN[kind]
    folder.mkdir()
    path = folder / "export.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    pages = []
    with pytest.raises(DataError) as refusal:
        load(f"coco:{path}:{folder}")
    pages.append(str(refusal.value))
    with pytest.raises(DataError) as refusal:
        coco.evaluate(path, [])
    pages.append(str(refusal.value))
    for page in pages:
        assert expected in page, page


# -- VOC ---------------------------------------------------------------------------------------


def load_voc(root: Path, export: voc_exports.VocExport) -> Any:
    return load(f"voc:{root}:{export.split}", voc_origin=export.origin)


def score_voc(root: Path, export: voc_exports.VocExport) -> voc.VocGroundTruth:
    return voc.read_devkit_ground_truth(root, export.split)


@pytest.mark.parametrize("build", voc_exports.VOC, ids=lambda b: b.__name__)
def test_voc_exports_are_read_once_they_have_vocs_layout(
    folder: Path, build: Callable[[Path], voc_exports.VocExport]
) -> None:
    """The page's commands are typed as they stand; then training and scoring read the same."""
    folder.mkdir()
    export = build(folder)
    root = export.root
    if not (root / "ImageSets").is_dir():
        pages = []
        for read in (load_voc, score_voc):
            with pytest.raises(DataError) as refusal:
                read(root, export)
            pages.append(str(refusal.value))
        typed = [re.findall(r"^  ((?:mkdir|ln|\().*)$", page, re.MULTILINE) for page in pages]
        assert typed[0] == typed[1] != []
        for command in typed[0]:
            subprocess.run(command, shell=True, check=True)
        named = re.findall(r"Then the root is (.*)\.$", pages[0], re.MULTILINE)
        root = Path(named[0])
    data, truth = load_voc(root, export), score_voc(root, export)
    objects = [a for record in data.records for a in record["annotations"]]
    assert data.classes == ("cat", "dog")
    # Among VOC's twenty, so these are the classes.
    assert {truth.classes[k] for k in truth.label.tolist()} == {"cat", "dog"}
    assert len(objects) == len(truth.boxes) > 0
    assert tuple(r["image_id"] for r in data.records) == truth.image_ids
    for what, number in export.counts.items():
        assert (data.counts[what], truth.repairs[what]) == (number, number)


def test_files_that_count_from_0_name_the_key(folder: Path) -> None:
    """Label Studio's corners; the key on the page is typed."""
    export = voc_exports.cvat_voc(folder)
    with pytest.raises(DataError, match="DATASETS.VOC_ORIGIN 0"):
        load(f"voc:{export.root}:default")
    assert load(f"voc:{export.root}:default", voc_origin=0).counts["objects"] == 2
