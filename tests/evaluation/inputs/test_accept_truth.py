"""Faults of a ground truth: each page has what accepts it, which is typed and leads on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from resdet.cli import main
from resdet.errors import CheckFailed, DataError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.annotation_entries import RULES
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from tests.support import coco_json


@pytest.fixture
def typed(tmp_path: Path, instances: Any, perfect: Any, capsys: Any) -> Any:
    """Types a command on a perfect result and the instances as they are; code, page, JSON."""
    gt, results = tmp_path / "gt.json", tmp_path / "results.json"
    results.write_text(json.dumps(perfect), encoding="utf-8")

    def run(*words: str, command: str = "evaluate coco") -> Any:
        gt.write_text(json.dumps(instances), encoding="utf-8")
        task = ["--task", "bbox"] if command == "evaluate coco" else []
        code = main.main([*command.split(), str(results), "--gt", str(gt), *task, "--json", *words])
        out, err = capsys.readouterr()
        return code, err, json.loads(out) if out else None

    return run


def remedy(page: str) -> list[str]:
    """The words that the last line of a refusal says to add."""
    line = page.strip().splitlines()[-1]
    return shlex.split(line[line.index("--accept") :])


# The entry that is added, and the rule that accepts it. A cat and two dogs are found all the same.
CASES = [
    ("images", {"id": 13, "width": "wide"}, "gt-images"),
    ("images", {"id": 7}, "gt-images"),
    ("images", "no object", "gt-images"),
    ("categories", {"id": 1, "name": "lynx"}, "gt-categories"),
    ("categories", {"id": 9, "name": 9}, "gt-categories"),
    ("annotations", "no object", "gt-entries"),
    ("annotations", {"id": "a"}, "gt-ids"),
    ("annotations", {"id": 11}, "gt-ids"),
    ("annotations", {"image_id": 77}, "gt-orphans"),
    ("annotations", {"category_id": 77}, "gt-unknown-categories"),
    ("annotations", {"bbox": []}, "gt-boxes"),
    ("annotations", {"bbox": ["1", 2, 3, 4]}, "gt-boxes"),
    ("annotations", {"bbox": [9, 9, -3, 4]}, "gt-boxes"),
    ("annotations", {"area": -1}, "gt-areas"),
    ("annotations", {"area": []}, "gt-areas"),
    ("annotations", {"iscrowd": -1}, "gt-flags"),
    ("annotations", {"difficult": "Unspecified"}, "gt-flags"),
]


@pytest.mark.parametrize(("key", "change", "rule"), CASES)
@pytest.mark.parametrize("command", ["evaluate coco", "evaluate explain"])
def test_every_fault_of_a_ground_truth_can_be_accepted(
    typed: Any, instances: Any, perfect: Any, key: str, change: Any, rule: str, command: str
) -> None:  # fmt: skip
    """One more entry with a fault; the page is followed to the letter."""
    entry = change
    if isinstance(change, dict):
        extra = coco_json.annotation(14, 7, 4, [60, 60, 5, 5], area=24)
        entry = ({} if key != "annotations" else extra) | change
    instances[key].append(entry)
    code, page, _ = typed(command=command)
    assert (code, remedy(page)) == (2, ["--accept", f"{rule}=1"])
    assert RULES[rule] in page
    code, notes, output = typed(*remedy(page), command=command)
    assert (code, output["accepted"]) == (0, {rule: 1})
    assert f"Accepted in gt.json: 1 x {RULES[rule]}." in notes
    if command == "evaluate coco":
        found = [output["per_category"][name] for name in ("cat", "dog")]
        assert found == pytest.approx([1.0, 1.0])


def test_every_rule_has_a_case() -> None:
    assert {rule for _, _, rule in CASES} == set(RULES)


def test_annotations_of_what_is_left_out_are_left_out_without_a_word_of_their_own(
    typed: Any, instances: Any
) -> None:
    """One fault is one statement; its detections then are of an image that the set lacks."""
    instances["images"][0]["id"] = [7]
    code, page, _ = typed()
    assert (code, remedy(page)) == (2, ["--accept", "gt-images=1"])
    assert "annotation 11" not in page
    code, page, _ = typed(*remedy(page))
    assert (code, remedy(page)) == (1, ["--accept", "gt-images=1", "--accept", "unknown-image=1"])
    code, notes, output = typed(*remedy(page))
    assert (code, output["images"]["expected"], output["per_category"]["dog"]) == (0, 1, 1.0)
    assert "Left out with them: 1 annotations of images or categories" in notes


def test_faults_of_several_kinds_are_on_one_page(typed: Any, instances: Any) -> None:
    """And of both files: what was accepted before stands on the next page too."""
    instances["annotations"][0]["area"] = -1
    instances["annotations"][1]["iscrowd"] = "0"
    instances["annotations"][2]["bbox"] = [1, 2, 3]
    _, page, _ = typed()
    words = ["--accept", "gt-areas=1", "--accept", "gt-flags=1", "--accept", "gt-boxes=1"]
    assert remedy(page) == words
    code, _, output = typed(*words)
    assert (code, output["accepted"]) == (0, {"gt-areas": 1, "gt-flags": 1, "gt-boxes": 1})


def test_another_count_is_refused(typed: Any, instances: Any) -> None:
    """Both numbers are shown, also where there is no fault at all."""
    code, page, _ = typed("--accept", "gt-boxes=2")
    assert (code, "--accept gt-boxes=2, and it has 0 of gt-boxes" in page) == (1, True)
    instances["annotations"][0]["area"] = -1
    code, page, _ = typed("--accept", "gt-areas=2")
    assert (code, "it has 1 of gt-areas" in page) == (1, True)


def test_submit_check_accepts_what_it_reads_of_a_set(typed: Any, instances: Any) -> None:
    """Images and categories; annotations are not looked at."""
    instances["categories"].append({"id": 9, "name": 9})
    code, page, _ = typed(command="submit check")
    assert (code, remedy(page)) == (2, ["--accept", "gt-categories=1"])
    code, _, output = typed(*remedy(page), command="submit check")
    assert (code, output["accepted"]) == (0, {"gt-categories": 1})


def test_an_empty_set_is_never_offered(instances: Any) -> None:
    """Nothing would be left to score."""
    instances["images"] = [{"id": [7]}]
    with pytest.raises(DataError) as refusal:
        read_ground_truth(instances, {})
    page = str(refusal.value)
    assert ": 1 fault, so it" in page
    assert "--accept" not in page
    with pytest.raises(DataError, match='every entry of "images" has a fault'):
        read_ground_truth(instances, {"gt-images": 1})


def test_callers_state_what_a_ground_truth_was_read_with(instances: Any, perfect: Any) -> None:
    """From Python: a ground truth that was read is not read again."""
    instances["annotations"][0]["area"] = -1
    truth = read_ground_truth(instances, {"gt-areas": 1})
    assert coco.evaluate(truth, perfect, accepted={"gt-areas": 1}).accepted == {"gt-areas": 1}
    assert coco.evaluate(truth, perfect).accepted == {"gt-areas": 1}
    with pytest.raises(CheckFailed, match="was read with"):
        coco.evaluate(truth, perfect, accepted={"gt-areas": 2})
    with pytest.raises(DataError) as refusal:
        read_ground_truth(instances)
    assert "--accept" not in str(refusal.value)
