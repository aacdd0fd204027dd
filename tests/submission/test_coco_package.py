"""COCO's package: its name, its cut, its rounding, its bytes; scored again from what was packed."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.errors import CheckFailed, ConfigError, DataError, RunError
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import SetIndex, read_index
from resdet.submission import coco_package, servers
from resdet.submission.package_check import check_file
from tests.support.coco_json import by_pycocotools

SET = "coco_2017_val"


def unpacked(path: Path) -> list[dict[str, Any]]:
    """The entries, read without our code."""
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        assert name == f"{path.stem}.json"
        return json.loads(archive.read(name))


def twelve(truth: dict[str, Any], results: list[dict[str, Any]], task: str = "bbox") -> list[float]:
    """pycocotools' numbers, straight from its own loader."""
    return by_pycocotools(truth, results, task).stats.tolist()


@pytest.mark.parametrize(
    ("data_set", "name"),
    [
        ("coco_2017_val", "val2017"),
        ("coco_2017_test-dev", "test-dev2017"),
        ("coco_2017_test", "test-challenge2017"),
        ("coco_2014_val", "val2014"),
        ("coco_2014_minival", "val2017"),
        ("coco:/a/b/instances_val2017.json:/a/val2017", "val2017"),
        ("coco:x/image_info_test-dev2017.json:y", "test-dev2017"),
        ("coco:x/image_info_test2017.json:y", "test-challenge2017"),
    ],
)
def test_a_data_set_has_its_name_on_the_server(data_set: str, name: str) -> None:
    """COCO's upload page: val2017, test-dev2017, test-challenge2017; before that, val2014."""
    assert servers.coco_test_set(data_set).name == name


@pytest.mark.parametrize(
    "data_set", ["digits_test", "voc_2012_test", "coco_2017_train", "coco:my.json:images"]
)
def test_other_sets_are_refused_with_the_list(data_set: str) -> None:
    with pytest.raises(ConfigError, match=r"is no set that COCO's server knows.*test-dev2017"):
        servers.coco_test_set(data_set)


@pytest.mark.parametrize("name", ["", "a_b", "a b", "ä", "a/b", "-a", "a--b", "a.b"])
def test_an_algorithm_that_breaks_the_name_is_refused(name: str) -> None:
    """F87: letters, digits, hyphens."""
    with pytest.raises(ConfigError, match="letters, digits and hyphens"):
        servers.check_algorithm(name)


def test_cocos_categories_are_eighty_with_ten_holes(shared_data: Path) -> None:
    """Against the official annotation file."""
    text = (shared_data / "coco" / "annotations" / "instances_val2017.json").read_text("utf-8")
    official = {c["id"] for c in json.loads(text)["categories"]}
    assert servers.coco_categories() == official and len(official) == 80


def test_the_package_is_what_the_server_wants(make_run: Any, pets: Any, found: Any) -> None:
    """Name, one flat file, official ids; images by id, in them by falling score; 0.1 px."""
    made = coco_package.package(make_run(SET, pets, found), SET, algorithm="resdet-r101")
    assert made.path.name == "detections_val2017_resdet-r101_results.zip"
    assert made.path.parent.name == "coco-bbox"
    # 10.25 to 10.2 (to even), 50.25 to 50.2; 20.06 + 49.9 = 69.96 to 70.
    assert unpacked(made.path) == [
        {"image_id": 139, "category_id": 17, "bbox": [10.2, 10.0, 40.0, 40.0], "score": 0.25},
        {"image_id": 285, "category_id": 90, "bbox": [5.0, 5.0, 20.0, 20.0], "score": 0.75},
        {"image_id": 285, "category_id": 18, "bbox": [50.0, 20.1, 30.0, 49.9], "score": 0.5},
    ]
    assert (made.detections, made.images, made.cut_detections) == (3, 3, 0)


def test_the_same_results_give_the_same_bytes(
    make_run: Any, pets: Any, found: Any, tmp_path: Path
) -> None:
    """No time, no place: a package can be made again and compared by its hash."""
    run = make_run(SET, pets, found)
    one = coco_package.package(run, SET, algorithm="x", output=tmp_path / "a")
    os.utime(run.results(SET) / "coco_instances_results.json", (10**9, 10**9))
    other = coco_package.package(run, SET, algorithm="x", output=tmp_path / "b")
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.sha256 == other.sha256
    with zipfile.ZipFile(one.path) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
    assert sorted(p.name for p in one.path.parent.iterdir()) == [
        "detections_val2017_x_results.images.json", "detections_val2017_x_results.zip"
    ]  # fmt: skip


def test_a_stranger_finds_the_package_clean(
    make_run: Any, pets: Any, found: Any, write: Any
) -> None:
    """With the list beside it an image without detections (632) is no doubt."""
    made = coco_package.package(make_run(SET, pets, found), SET, algorithm="x")
    checked = check_file(made.path, write("gt.json", pets))
    assert checked.findings == ()
    assert checked.images == {"expected": 3, "evaluated": 3, "missing": 0}


def test_the_best_hundred_of_each_image_stay_and_ties_keep_their_order(
    make_run: Any, pets: Any
) -> None:
    """120 on one image, 99 of them of score 0.5: the three better ones and 97 in their order."""
    results = [
        {"image_id": 285, "category_id": 17, "bbox": [i / 4, 1, 20, 20], "score": 0.5}
        for i in range(99)
    ]
    best = [
        {"image_id": 285, "category_id": 18, "bbox": [1, i, 9, 9], "score": s}
        for i, s in ((1, 0.6), (2, 0.9), (3, 0.7))
    ]
    rest = [
        {"image_id": 285, "category_id": 18, "bbox": [1, 30 + i, 9, 9], "score": 0.4}
        for i in range(18)
    ]
    other = [{"image_id": 139, "category_id": 17, "bbox": [1, 1, 5, 5], "score": 0.01}]
    given = [*results[:50], *best, *rest, *results[50:], *other]
    made = coco_package.package(make_run(SET, pets, given), SET, algorithm="x", decimals=2)
    entries = unpacked(made.path)
    assert [e["image_id"] for e in entries] == [139] + [285] * 100
    assert [e["score"] for e in entries[1:5]] == [0.9, 0.7, 0.6, 0.5]
    assert [e["bbox"][0] for e in entries[4:]] == [i / 4 for i in range(97)]
    assert (made.cut_images, made.cut_detections) == (1, 20)


def test_the_limit_holds_over_all_classes_together(make_run: Any, pets: Any) -> None:
    """F55, F86: pycocotools takes 100 an image *and class*, the server 100 an image.

    100 false cats above the true dog: 1.0 for pycocotools on what was detected, 0 on the package.
    """
    cats = [
        {"image_id": 285, "category_id": 17, "bbox": [i / 4, 1, 5, 5], "score": 0.9}
        for i in range(100)
    ]
    dog = {"image_id": 285, "category_id": 18, "bbox": [50, 20, 30, 50], "score": 0.1}
    made = coco_package.package(make_run(SET, pets, [*cats, dog]), SET, algorithm="x")
    names = [what for what, _ in made.scores]
    assert names == ["as detected", "best 100 an image", "in the package"]
    assert [r.per_category["dog"] for _, r in made.scores] == [pytest.approx(1.0), 0.0, 0.0]


def test_scores_before_and_after_are_pycocotools_own(make_run: Any, shared_data: Path) -> None:
    """COCO's own example: the numbers published with it, and pycocotools on the unpacked file."""
    folder = shared_data / "oracles" / "coco_example100"
    truth, results = (
        json.loads((folder / f"instances_val2014_{n}.json").read_text("utf-8"))
        for n in ("100", "fakebbox100_results")
    )
    made = coco_package.package(
        make_run("coco_2014_val", truth, results), "coco_2014_val", algorithm="x"
    )
    (before_name, before), (after_name, after) = made.scores
    assert (before_name, after_name) == ("as detected", "in the package")
    # AP 0.505, AP50 0.697, AP75 0.573: the API's demo notebook.
    assert [round(before.numbers[n], 3) for n in ("AP", "AP50", "AP75")] == [0.505, 0.697, 0.573]
    packed = unpacked(made.path)
    assert list(after.numbers.values()) == pytest.approx(twelve(truth, packed), abs=1e-12)
    assert list(before.numbers.values()) == pytest.approx(twelve(truth, results), abs=1e-12)
    # F59: tenths of a pixel cost little; half a point would be a bug of the rounding.
    assert abs(before.numbers["AP"] - after.numbers["AP"]) < 0.002


def test_masks_are_packed_as_they_are(make_run: Any, shared_data: Path) -> None:
    """COCO's example for masks: no boxes, the same masks, so the same twelve numbers."""
    folder = shared_data / "oracles" / "coco_example100"
    truth, results = (
        json.loads((folder / f"instances_val2014_{n}.json").read_text("utf-8"))
        for n in ("100", "fakesegm100_results")
    )
    run = make_run("coco_2014_val", truth, results)
    made = coco_package.package(run, "coco_2014_val", algorithm="x", task="segm")
    assert made.path.parent.name == "coco-segm"
    packed = unpacked(made.path)
    assert set(packed[0]) == {"image_id", "category_id", "segmentation", "score"}
    assert twelve(truth, packed, "segm") == twelve(truth, results, "segm")
    (_, before), (_, after) = made.scores
    assert before.numbers == after.numbers


def test_masks_without_ground_truth_for_them_leave_no_package(
    make_run: Any, pets: Any, found: Any
) -> None:
    """The refusal comes from the scores, after the zip was made and checked: none may stay, as
    the ledger does not count it."""
    for item in found:
        del item["bbox"]
        item["segmentation"] = {"size": [80, 100], "counts": [10, 20, 7970]}
    run = make_run("coco_2017_val", pets, found)
    with pytest.raises(DataError, match="3 of 3 objects have no mask to score against"):
        coco_package.package(run, "coco_2017_val", algorithm="x", task="segm")
    assert list(run.path.rglob("*.zip")) == []


def columns(boxes: list[list[float]], scores: list[float] | None = None) -> Columns:
    zeros = np.zeros(len(boxes), dtype=np.int64)
    scored = np.array(scores or [0.5] * len(boxes))
    return Columns(zeros, zeros, np.array(boxes, dtype=np.float64), scored, str)


INDEX = SetIndex("one", (1,), np.array([[100.0, 80.0]]), (17,), ("cat",))


@pytest.mark.parametrize(
    ("box", "decimals", "expected", "thin"),
    [
        pytest.param([1.26, 2.24, 3.0, 4.0], 1, [1.3, 2.2, 3.0, 4.0], 0, id="tenths"),
        pytest.param([1.26, 2.24, 3.0, 4.0], 0, [1, 2, 3, 4], 0, id="whole-pixels"),
        pytest.param([1.26, 2.24, 3.125, 4.0], 3, [1.26, 2.24, 3.125, 4.0], 0, id="thousandths"),
        # 60.06 + 39.94 = 100: rounded by itself, the width would be 39.9 or reach 100.1.
        pytest.param([60.06, 0, 39.94, 80], 1, [60.1, 0, 39.9, 80], 0, id="ends-at-the-border"),
        pytest.param([5.01, 5, 0.02, 8], 1, [5.0, 5, 0.1, 8], 1, id="thin"),
        pytest.param([99.98, 5, 0.02, 8], 1, [99.9, 5, 0.1, 8], 1, id="thin-at-the-far-border"),
        pytest.param([-0.0004, 0, 9, 8], 1, [0, 0, 9, 8], 0, id="no-minus-zero"),
    ],
)  # fmt: skip
def test_corners_are_rounded(
    box: list[float], decimals: int, expected: list[float], thin: int
) -> None:
    """Worked by hand."""
    boxes, number = coco_package.rounded(columns([box]), INDEX, decimals)
    assert boxes.tolist() == [expected]
    assert number == thin
    assert not np.signbit(boxes).any()


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_boxes_inside_their_image_stay_inside_and_have_a_size(decimals: int) -> None:
    """10,000 random boxes, many at the borders and many thin; no corner moves by over half a unit,
    but for boxes that were thinner than one."""
    generator = np.random.default_rng(5)
    corners = generator.uniform(0, 1, (10_000, 2, 2)) ** generator.choice(
        [0.05, 1, 8], (10_000, 1, 1)
    )
    corners = np.sort(corners, axis=1) * np.array([100.0, 80.0])
    corners[::3, 1] = np.minimum(corners[::3, 0] + 0.03, [100.0, 80.0])
    corners[::7, 1] = [100.0, 80.0]
    boxes = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], axis=1)
    boxes = boxes[(boxes[:, 2:] > 0).all(axis=1)]
    given = columns(boxes.tolist())
    after, thin = coco_package.rounded(given, INDEX, decimals)
    unit = 10.0**-decimals
    ends = after[:, :2] + after[:, 2:]
    assert (after[:, :2] >= 0).all() and (ends <= np.array([100, 80]) + 1e-9).all()
    assert (after[:, 2:] >= unit - 1e-9).all()
    assert 0 < thin < len(boxes)
    moved = np.abs(
        np.concatenate([after[:, :2] - boxes[:, :2], ends - boxes[:, :2] - boxes[:, 2:]], axis=1)
    )
    wide = (boxes[:, 2:] > unit).all(axis=1)
    assert moved[wide].max() <= unit / 2 + 1e-9
    assert moved.max() <= 1.5 * unit


def test_float32_scores_stay_apart_and_keep_their_order(make_run: Any, pets: Any) -> None:
    """Neighbouring float32 numbers, which fewer than 9 digits would make ties of (F51)."""
    scores = [np.float32(0.1)]
    for _ in range(40):
        scores.append(np.nextafter(scores[-1], np.float32(1)))
    results = [
        {"image_id": 285, "category_id": 17, "bbox": [i, 1, 20, 20], "score": float(s)}
        for i, s in enumerate(scores)
    ]
    made = coco_package.package(make_run(SET, pets, results), SET, algorithm="x")
    entries = unpacked(made.path)
    assert [e["bbox"][0] for e in entries] == list(range(40, -1, -1))
    assert [np.float32(e["score"]) for e in entries] == scores[::-1]


def test_a_set_without_annotations_is_packed_and_not_scored(
    make_run: Any, pets: Any, found: Any
) -> None:
    del pets["annotations"]
    run = make_run("coco_2017_test-dev", pets, found)
    made = coco_package.package(run, "coco_2017_test-dev", algorithm="x")
    assert made.path.name == "detections_test-dev2017_x_results.zip"
    assert made.scores == () and len(unpacked(made.path)) == 3


def test_no_detection_at_all_is_an_empty_list(make_run: Any, pets: Any) -> None:
    made = coco_package.package(make_run(SET, pets, []), SET, algorithm="x")
    assert unpacked(made.path) == []
    assert made.scores[-1][1].numbers["AP"] == 0


def test_an_unfinished_evaluation_is_refused(make_run: Any, pets: Any, found: Any) -> None:
    """F85: one of three images was never visited; nothing is left in the output folder."""
    run = make_run(SET, pets, found, evaluated=[139, 285])
    with pytest.raises(CheckFailed, match="Expected 3 images, results cover 2; missing first: 632"):
        coco_package.package(run, SET, algorithm="x")
    assert not run.submissions("coco-bbox").exists()


def test_a_category_that_is_none_of_cocos_is_refused(make_run: Any, pets: Any, found: Any) -> None:
    """A set mapped onto more classes numbers the new ones beyond COCO's: 91 is none of them."""
    pets["categories"][2]["id"] = pets["annotations"][2]["category_id"] = 91
    found[1]["category_id"] = 91
    with pytest.raises(CheckFailed, match="category 91, which is none of COCO's 80"):
        coco_package.package(make_run(SET, pets, found), SET, algorithm="x")


def test_boxes_that_rounding_makes_equal_are_warned_of(
    make_run: Any, pets: Any, found: Any
) -> None:
    """F84: whole pixels make one of two, which the server scores as a wrong detection."""
    twin = {**found[0], "bbox": [50.14, 20.06, 29.85, 49.9]}
    run = make_run(SET, pets, [*found, twin])
    coco_package.package(run, SET, algorithm="x", decimals=2)
    made = coco_package.package(run, SET, algorithm="y", decimals=0)
    (warning,) = [w for w in made.warnings if w.rule == "duplicates"]
    assert (warning.count, "1 of 4 entries are repeats" in warning.what) == (1, True)


@pytest.mark.parametrize("decimals", [-1, 7])
def test_decimals_out_of_range_are_refused(
    make_run: Any, pets: Any, found: Any, decimals: int
) -> None:
    with pytest.raises(ConfigError, match=f"--decimals is {decimals}. Give 0 to 6"):
        coco_package.package(make_run(SET, pets, found), SET, algorithm="x", decimals=decimals)


def test_results_that_are_not_whole_are_refused(make_run: Any, pets: Any, found: Any) -> None:
    run = make_run(SET, pets, found)
    (run.results(SET) / "ground_truth.json.gz").unlink()
    with pytest.raises(RunError, match="it is not whole"):
        coco_package.package(run, SET, algorithm="x")


def test_the_index_of_a_run_is_read_from_either_file(make_run: Any, pets: Any, found: Any) -> None:
    run = make_run(SET, pets, found)
    assert read_index(run.results(SET) / "ground_truth.json.gz").image_ids == (139, 285, 632)
