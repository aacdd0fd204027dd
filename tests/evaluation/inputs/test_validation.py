"""Results that are not what they claim to be: each fault named, counted, with what fixes it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.findings import Finding
from resdet.evaluation.inputs.validation import check_results

Results = list[dict[str, Any]]
IDS = (7, 9)


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [f.rule for f in findings]
    return findings[0]


def test_clean_results_have_no_findings(instances: Any, perfect: Results) -> None:
    """The objects themselves, with the images named as evaluated."""
    assert check_results(perfect, instances, IDS) == []


def test_findings_are_what_submit_check_promises(instances: Any, perfect: Results) -> None:
    """docs/commands.md: rule, count, first, fix."""
    perfect[0]["score"] = float("nan")
    found = only(check_results(perfect, instances, IDS)).to_json()
    assert set(found) == {"rule", "count", "first", "fix"}
    json.dumps(found, allow_nan=False)


CHANGES: list[Any] = [
    pytest.param("score", float("nan"), "not-finite", "score is NaN", id="F80-nan"),
    pytest.param("score", float("inf"), "not-finite", "score is infinite", id="F80-inf"),
    pytest.param("score", 10**400, "not-finite", "score is infinite", id="F80-huge-integer"),
    pytest.param(
        "bbox", [1, float("nan"), 3, 4], "not-finite", r"bbox is [1, NaN, 3, 4]", id="F80-box"
    ),
    pytest.param(
        "image_id", 77, "unknown-image", "image_id 77 is not among the 2 images", id="F81-image"
    ),
    pytest.param(
        "image_id", "7", "unknown-image", 'image_id text ("7") is not among', id="F81-image-text"
    ),
    pytest.param("image_id", True, "id-type", "image_id is true", id="F81-true"),
    pytest.param("image_id", 7.5, "id-type", "image_id is 7.5", id="F81-fraction"),
    pytest.param("image_id", None, "id-type", "image_id is null", id="F81-null"),
    pytest.param("image_id", [7], "id-type", "image_id is [7]", id="F81-list"),
    pytest.param(
        "category_id", 90, "unknown-category", "category_id 90 is not a category", id="F81-category"
    ),
    pytest.param("category_id", "1", "text-for-number", 'category_id is text ("1")', id="F87-id"),
    pytest.param(
        "category_id", "cat", "category-name", 'category "cat" given by name: use category_id 1',
        id="F87-name",
    ),
    pytest.param(
        "score", "0.9", "text-for-number", 'score is text ("0.9"); write the number 0.9',
        id="F87-score",
    ),
    pytest.param("score", None, "text-for-number", "score is null", id="F87-null"),
    pytest.param("score", True, "text-for-number", "score is true", id="F87-true"),
    pytest.param("bbox", [1, 2, "3", 4], "text-for-number", "bbox is [1, 2, '3', 4]", id="F87-box"),
    pytest.param("bbox", [1, 2, 3], "box-form", "bbox is [1, 2, 3]", id="F87-three-numbers"),
    pytest.param("bbox", "1 2 3 4", "box-form", 'bbox is text ("1 2 3 4")', id="F87-box-text"),
    pytest.param("bbox", [40, 40, -20, 10], "size", "bbox [40, 40, -20, 10]", id="F82-negative"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "rule", "first"), CHANGES)
def test_one_faulty_entry_is_named(
    instances: Any, perfect: Results, key: str, value: Any, rule: str, first: str
) -> None:
    """F80 to F82, F87: rule, entry and value; evaluation refuses with the same words."""
    perfect[0][key] = value
    found = only(check_results(perfect, instances, IDS))
    assert (found.rule, found.count, found.severity) == (rule, 1, "refuse")
    assert found.first[0].startswith("entry 0")
    assert first in found.first[0]
    with pytest.raises(CheckFailed) as refusal:
        coco.evaluate(instances, perfect, evaluated_ids=IDS)
    assert first in str(refusal.value)
    assert "1 of 3" in str(refusal.value)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_key_is_named(instances: Any, perfect: Results, key: str) -> None:
    """F87: pycocotools ends in KeyError: 'id'."""
    del perfect[1][key]
    found = only(check_results(perfect, instances, IDS))
    assert (found.rule, f"{key} is missing" in found.first[0]) == ("missing-key", True)


def test_a_category_name_under_another_key_is_seen(instances: Any, perfect: Results) -> None:
    """F87: other tools write "category": "dog"."""
    del perfect[1]["category_id"]
    perfect[1]["category"] = "dog"
    found = only(check_results(perfect, instances, IDS))
    assert (found.rule, "use category_id 3" in found.first[0]) == ("category-name", True)


def test_entries_that_are_not_objects_are_named(instances: Any, perfect: Results) -> None:
    """F87: a list of lists."""
    found = only(check_results([*perfect, [7, 1, 2, 3, 4, 0.5]], instances, IDS))  # type: ignore[list-item]
    assert found.rule == "structure"
    assert found.first[0].startswith("entry 3: it is [7, 1")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"annotations": []}', "an object with the keys annotations, not a list"),
        ('[{"image_id": 7, "cat', "not readable as JSON.*written to its end"),
        ("", "results.json is empty"),
        ("[" * 100_000, "not readable as JSON"),
        ("null", "holds null"),
    ],
    ids=["dict", "cut-off", "empty", "deep", "null"],
)
def test_files_without_a_list_are_refused(
    tmp_path: Path, instances: Any, text: str, match: str
) -> None:
    """F87: a dict around the list, a cut-off file."""
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckFailed, match=match):
        check_results(path, instances)


def test_a_missing_file_is_fixable(tmp_path: Path, instances: Any) -> None:
    """docs/commands.md: exit code 2 is for what can be fixed before anything starts."""
    with pytest.raises(DataError, match=r"none.json does not exist"):
        check_results(tmp_path / "none.json", instances)


def test_integer_ids_as_floats_are_taken(instances: Any, perfect: Results) -> None:
    """F81: 1.0 is 1."""
    perfect[0] |= {"image_id": 7.0, "category_id": np.int64(1)}
    assert check_results(perfect, instances, IDS) == []


def test_contiguous_class_numbers_are_recognised(instances: Any, perfect: Results) -> None:
    """F81: 0 and 1 for 1 and 3; the set's ids are told with the unused one."""
    for entry, number in zip(perfect, (0, 1, 1), strict=True):
        entry["category_id"] = number
    found = only(check_results(perfect, instances, IDS))
    assert found.rule == "contiguous-categories"
    assert "category ids 0 to 1 in the file, the set has 3 ids between 1 and 4" in found.what
    assert "(2 is unused)" in found.what


def spread(count: int = 60, seed: int = 0) -> tuple[dict[str, Any], Results]:
    """Boxes well inside images of 640 x 480, ten each."""
    rng = np.random.default_rng(seed)
    images = [{"id": i, "width": 640, "height": 480} for i in range(1, count // 10 + 1)]
    low = rng.uniform(120, 200, (count, 2))
    size = rng.uniform(210, 260, (count, 2))
    results = [
        {
            "image_id": 1 + i // 10,
            "category_id": 1,
            "bbox": [*low[i].tolist(), *size[i].tolist()],
            "score": float(rng.random()),
        }
        for i in range(count)
    ]
    set_ = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    return set_, results


def test_corners_for_width_and_height_are_recognised() -> None:
    """F82: read as corners all fit, as width and height they leave their images."""
    set_, results = spread()
    assert check_results(results, set_) == []
    for entry in results:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]
    found = only(check_results(results, set_))
    assert (found.rule, found.severity) == ("corners", "refuse")
    assert "of 60 boxes leave their image as [x, y, width, height]; read as corners all fit" in (
        found.what
    )


def test_normalised_boxes_are_recognised() -> None:
    """F83: all within 0 to 1.5; 20 boxes or fewer are only warned of."""
    set_, results = spread()
    for entry in results:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x / 640, y / 480, w / 640, h / 480]
    found = only(check_results(results, set_))
    assert (found.rule, found.severity) == ("normalised", "refuse")
    assert "All 60 boxes lie in the first pixel" in found.what
    assert check_results(results[:20], set_)[-1].severity == "warn"


def test_pixels_of_a_resized_image_are_warned_of() -> None:
    """F83: a common factor of 2 between boxes and images."""
    set_, results = spread()
    for entry in results:
        entry["bbox"] = [2 * v for v in entry["bbox"]]
    found = only(check_results(results, set_))
    assert (found.rule, found.severity) == ("resized", "warn")
    assert "In 6 of 6 images" in found.what


@pytest.mark.parametrize("form", ["y, x, height, width", "y1, x1, y2, x2"])
def test_x_and_y_that_are_swapped_are_no_resized_image(form: str) -> None:
    """TensorFlow's order, in images of 2,000 x 480, whose right half is no place of a height."""
    set_, results = spread()
    for image in set_["images"]:
        image["width"] = 2000
    for entry in results:
        x, y, w, h = entry["bbox"]
        x += 1000
        entry["bbox"] = [y, x, h, w] if form.startswith("y, x") else [y, x, y + h, x + w]
    found = only(check_results(results, set_))
    assert (found.rule, found.severity) == ("axes", "warn")
    assert f"read as {form} all fit: x and y are swapped" in found.what


def test_boxes_that_leave_their_image_a_little_are_counted() -> None:
    """F82: legal up to a pixel, more than that is counted apart."""
    set_, results = spread()
    results[0]["bbox"] = [500, 100, 140.5, 50]
    results[1]["bbox"] = [-3, 100, 140.5, 50]
    found = only(check_results(results, set_))
    assert (found.rule, found.severity, found.count) == ("outside", "warn", 2)
    assert "1 of them by more than a pixel" in found.what


def test_a_file_written_twice_is_recognised(instances: Any, perfect: Results) -> None:
    """F84: AP would halve; k copies are called so."""
    found = only(check_results(perfect * 3, instances, IDS))
    assert (found.rule, found.count) == ("duplicates", 6)
    assert found.what == "The file contains every detection 3 times."
    assert "3 processes" in found.fix


def test_some_repeats_are_refused_with_their_share(instances: Any, perfect: Results) -> None:
    """F84: identical image, class, box and score; another score is no repeat."""
    other = copy.deepcopy(perfect[1]) | {"score": 0.1}
    assert check_results([*perfect, other], instances, IDS) == []
    found = only(check_results([*perfect, perfect[1]], instances, IDS))
    assert "1 of 4 entries are repeats" in found.what
    assert found.first[0].startswith("entry 3 (image 9)")


def test_images_never_evaluated_are_refused(instances: Any, perfect: Results) -> None:
    """F85, F91: ids visited are known, one is missing; a subset makes it legal."""
    found = only(check_results(perfect[:1], instances, [7]))
    assert (found.rule, found.count, found.first) == ("missing-images", 1, ["9"])
    assert "Expected 2 images, results cover 1; missing first: 9." in found.what
    assert check_results(perfect[:1], instances, [7], subset=[7]) == []


def test_unknown_visits_are_warned_of(instances: Any, perfect: Results) -> None:
    """F85: a foreign file does not state which images were seen."""
    found = only(check_results(perfect[:1], instances))
    assert (found.rule, found.severity) == ("images-without-detections", "warn")
    assert "50 % of the images have no detection at all (1 of 2 images)" in found.what


def test_detections_on_images_not_visited_are_refused(instances: Any, perfect: Results) -> None:
    """F85: the list of evaluated images is of another run."""
    rules = {f.rule for f in check_results(perfect, instances, [7], subset=[7])}
    assert rules == {"unvisited-image"}
    rules = {f.rule for f in check_results(perfect, instances, [7, 9, 10])}
    assert rules == {"unknown-image"}


def test_more_than_100_on_an_image_is_warned_of() -> None:
    """F86: 101 on one image; the server cuts at 100 per image, pycocotools per class too."""
    set_, results = spread(1010)
    for entry in results[:101]:
        entry["image_id"] = 1
    found = check_results(results, set_, [image["id"] for image in set_["images"]])
    assert [(f.rule, f.severity, f.count) for f in found] == [("over-100", "warn", 1)]
    assert found[0].first == ["image 1: 101"]


def test_scores_outside_0_to_1_are_warned_of(instances: Any, perfect: Results) -> None:
    """F80: logits; AP is the same."""
    perfect[0]["score"] = 3.5
    found = only(check_results(perfect, instances, IDS))
    assert (found.rule, found.severity) == ("score-range", "warn")


def test_the_callers_results_are_left_as_they_were(instances: Any, perfect: Results) -> None:
    """pycocotools' loadRes writes ids and areas into the entries it is given."""
    before, gt_before = copy.deepcopy(perfect), copy.deepcopy(instances)
    coco.evaluate(instances, perfect)
    assert perfect == before
    assert instances == gt_before


def test_nothing_that_json_can_hold_crashes_the_validator(instances: Any) -> None:
    """3,000 random entries from odd values: findings or numbers, never another error."""
    rng = np.random.default_rng(0)
    odd: list[Any] = [
        None, True, "", "7", "cat", -1, 0, 1, 3, 7, 9, 0.5, 1e308, -1e308, 10**400, float("nan"),
        [], [1, 2, 3, 4], [0, 0, 1e308, 1e308], [1, 2, 3, None], {}, {"size": [80, 100]},
        {"size": [80, 100], "counts": "PP"}, {"size": [0, 0], "counts": ""},
        {"size": [80, 100], "counts": [8000]}, {"size": [80, 100], "counts": "\x00\x7f"},
    ]  # fmt: skip
    keys = ["image_id", "category_id", "bbox", "score", "segmentation"]
    good = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    good["segmentation"] = {"size": [80, 100], "counts": [10, 20, 7970]}
    for task in ("bbox", "segm"):
        for _ in range(150):
            entries = []
            for _ in range(10):
                entry = dict(good)
                for key in rng.choice(keys, rng.integers(0, 3)):
                    entry[str(key)] = odd[rng.integers(len(odd))]
                entries.append(entry)
            for finding in check_results(entries, instances, IDS, task=task):
                assert finding.count > 0
                assert "\n".join(finding.lines())
