"""What pycocotools scores is scored; what is refused can be accepted by rule and exact count."""

from __future__ import annotations

import copy
import json
import pickle
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.cli import main
from resdet.errors import CheckFailed, ConfigError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.findings import accepted_counts
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.evaluation.inputs.validation import check_results
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.submission.package_check import check_file
from tests.support import coco_json

IDS = [7, 9]


@pytest.fixture
def typed(tmp_path: Path, instances: Any, capsys: Any) -> Any:
    """Types `resdet evaluate coco` (or another command) on results; exit code, page, JSON."""
    gt = tmp_path / "instances.json"

    def run(results: Any, *words: object, command: tuple[str, ...] = ("evaluate", "coco")) -> Any:
        gt.write_text(json.dumps(instances), encoding="utf-8")
        file = tmp_path / "results.json"
        if not isinstance(results, Path):
            file.write_text(json.dumps(results), encoding="utf-8")
        path = results if isinstance(results, Path) else file
        task = ("--task", "bbox") if command == ("evaluate", "coco") else ()
        code = main.main([*command, str(path), "--gt", str(gt), *task, "--json", *map(str, words)])
        out, err = capsys.readouterr()
        return code, err, json.loads(out) if out else None

    return run


def remedy(page: str) -> list[str]:
    """The words that the last line of a refusal says to add."""
    return shlex.split(page.strip().splitlines()[-1].rpartition("number: ")[2])


@pytest.mark.parametrize("engine", coco.ENGINES)
@pytest.mark.parametrize("box", [[40, 40, 0, 10], [40, 40, 10, 0], [40, 40, 0, 0]])
def test_a_box_without_area_is_scored_as_pycocotools_scores_it(
    instances: Any, perfect: Any, engine: str, box: list[int]
) -> None:
    """Oracle: pycocotools. The box is a wrong detection, counted in a warning."""
    perfect.append(coco_json.detection(7, 1, box, 0.95))
    result = coco.evaluate(instances, perfect, engine=engine, evaluated_ids=IDS)
    stats = coco_json.by_pycocotools(instances, perfect).stats
    numbers = [-1.0 if v is None else v for v in result.numbers.values()]
    assert numbers == pytest.approx(stats.tolist(), abs=1e-12)
    assert result.numbers["AP"] == pytest.approx(0.75)  # cat: one right after one wrong, dog: 1
    (warning,) = result.warnings
    assert (warning.rule, warning.count) == ("zero-boxes", 1)
    assert f"bbox [{', '.join(map(str, box))}]" in warning.first[0]
    assert "1 of 4 entries" in warning.what


def test_random_results_with_empty_boxes_and_repeats_equal_pycocotools(random_scene: Any) -> None:
    """Oracle: pycocotools, in both engines; each is scored with a counted warning."""
    for seed in range(6):
        instances, results = random_scene(seed)
        results = copy.deepcopy(results)
        rng = np.random.default_rng(seed)
        for entry in rng.choice(len(results), 3, replace=False):
            results[entry]["bbox"][2 + int(rng.integers(2))] = 0
        results += copy.deepcopy(results[:2])
        expected = coco_json.by_pycocotools(instances, results).stats
        for engine in coco.ENGINES:
            result = coco.evaluate(instances, results, engine=engine)
            rules = {f.rule: f.count for f in result.warnings}
            assert (rules["zero-boxes"], rules["duplicates"]) == (3, 2)
            numbers = [-1.0 if v is None else v for v in result.numbers.values()]
            assert numbers == pytest.approx(expected.tolist(), abs=1e-12)


def test_results_of_empty_boxes_alone_are_refused(typed: Any, perfect: Any) -> None:
    """Nothing in the file can match; the count is accepted as any other. A few are an accident."""
    empty = [coco_json.detection(7, 1, [x, 10, 0, 20], 0.01 * x) for x in range(1, 22)]
    code, page, _ = typed(empty)
    assert (code, "21 of 21 entries" in page) == (1, True)
    code, _, output = typed(empty, *remedy(page))
    assert (code, output["AP"], output["accepted"]) == (0, 0.0, {"zero-boxes": 21})
    code, page, output = typed(empty[:20])
    assert (code, output["AP"]) == (0, 0.0)
    assert "Boxes of zero width or height: 20 of 20 entries." in page


def test_every_refusal_names_what_accepts_it_and_that_works(
    typed: Any, instances: Any, perfect: Any
) -> None:
    """All twice, a swapped box and a score that is text: the page's own words are typed."""
    swapped = coco_json.detection(7, 1, [40, 40, -20, 10], 0.6)
    text = coco_json.detection(9, 3, [1, 1, 5, 5], 0.5) | {"score": "high"}
    code, page, _ = typed([*perfect, *perfect, swapped, swapped, text])
    assert code == 1
    assert remedy(page) == [
        "--accept", "text-for-number=1", "--accept", "size=2", "--accept", "duplicates=4"
    ]  # fmt: skip
    assert "without 1 entry named above" in page
    code, notes, output = typed([*perfect, *perfect, swapped, swapped, text], *remedy(page))
    assert code == 0
    assert output["accepted"] == {"text-for-number": 1, "size": 2, "duplicates": 4}
    assert notes.count("Accepted: scored as they stand.") == 2
    assert notes.count("Accepted: left out.") == 1
    # The same by hand: the entry with text away, all others as they are.
    stats = coco_json.by_pycocotools(instances, [*perfect, *perfect, swapped, swapped]).stats
    assert output["AP"] == pytest.approx(stats[0], abs=1e-12)


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["duplicates=2"], 1, "--accept duplicates=2, and it has 1 of duplicates"),
        (["corners=1"], 1, "--accept corners=1, and it has 0 of corners. What was found: dup"),
        (["duplicates"], 2, '--accept "duplicates": give RULE=COUNT'),
        (["duplicates=0"], 2, "give RULE=COUNT"),
        (["duplicates=-1"], 2, "give RULE=COUNT"),
        (["duplicates=1", "duplicates=1"], 2, "--accept duplicates is given twice"),
    ],
)
def test_another_count_is_refused(
    typed: Any, perfect: Any, words: list[str], code: int, what: str
) -> None:
    """A setting is read or refused; both numbers are shown."""
    options = [part for word in words for part in ("--accept", word)]
    got, page, output = typed([*perfect, perfect[0]], *options)
    assert (got, output) == (code, None)
    assert what in page


def test_a_warning_may_be_stated_too(typed: Any, perfect: Any) -> None:
    """--accept zero-boxes=1 on a file that is scored anyway is held to its count, and recorded."""
    perfect.append(coco_json.detection(7, 1, [40, 40, 0, 10], 0.95))
    code, _, output = typed(perfect, "--accept", "zero-boxes=1")
    assert (code, output["accepted"]) == (0, {"zero-boxes": 1})
    assert typed(perfect, "--accept", "zero-boxes=2")[0] == 1
    assert "accepted" not in typed(perfect)[2]


def test_explain_and_submit_check_accept_the_same(typed: Any, perfect: Any) -> None:
    """One option, one meaning."""
    results = [*perfect, perfect[0]]
    _, _, output = typed(results, "--accept", "duplicates=1", command=("evaluate", "explain"))
    assert output["accepted"] == {"duplicates": 1}
    code, _, output = typed(results, command=("submit", "check"))
    assert (code, output["ok"]) == (1, False)
    code, _, output = typed(results, "--accept", "duplicates=1", command=("submit", "check"))
    assert (code, output["ok"], output["accepted"]) == (0, True, {"duplicates": 1})


def test_submit_check_takes_a_box_without_area(typed: Any, perfect: Any) -> None:
    """Legal on the server, which runs pycocotools; named and counted all the same."""
    perfect.append(coco_json.detection(7, 1, [40, 40, 0, 10], 0.95))
    code, _, output = typed(perfect, command=("submit", "check"))
    assert (code, output["ok"]) == (0, True)
    assert [(f["rule"], f["count"]) for f in output["findings"]] == [("zero-boxes", 1)]


def test_voc_detections_are_accepted_by_rule_and_count(voc_problem: Any) -> None:
    """Repeats by hand: the cow is found twice, so the second is wrong and AP stays 1."""
    found = [("1", "cow", 0.9 - 0.1 * x, [1 + x, 1, 10 + x, 10]) for x in (0, 1, 2)] * 2
    truth, detections = voc_problem([("1", "cow", [1, 1, 10, 10])], found)
    with pytest.raises(CheckFailed, match="every detection 2 times(.|\n)*--accept duplicates=3$"):
        voc.evaluate(truth, detections, accepted={})
    result = voc.evaluate(truth, detections, accepted={"duplicates": 3})
    assert (result.mean_ap, result.to_json()["accepted"]) == (1.0, {"duplicates": 3})
    # One repeat is scored, with a warning.
    truth, detections = voc_problem([("1", "cow", [1, 1, 10, 10])], [found[0], found[0]])
    result = voc.evaluate(truth, detections)
    assert (result.mean_ap, [w.rule for w in result.warnings]) == (1.0, ["duplicates"])


def test_counts_are_read_strictly() -> None:
    """As the page writes them, and in no other form."""
    assert accepted_counts(["size=12", "outside=1"]) == {"size": 12, "outside": 1}
    for word in ("size=1.0", "=1", "size=", "size:1"):
        with pytest.raises(ConfigError, match="give RULE=COUNT"):
            accepted_counts([word])


# -- no second, false statement -----------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"image_id": 77}, {"score": None}, {"category_id": "cat"}, {"bbox": [1, 2, 3]}]
)
@pytest.mark.parametrize("command", [("evaluate", "coco"), ("submit", "check")])
def test_a_file_in_which_all_entries_fail_has_images_without_a_verdict(
    typed: Any, perfect: Any, change: Any, command: tuple[str, ...]
) -> None:
    """Not "100 % of the images have no detection": they have, and all were refused. Nothing that
    would leave an empty file is offered."""
    code, page, output = typed([{**entry, **change} for entry in perfect], command=command)
    text = page + json.dumps(output)
    assert code == 1
    assert "3 of 3" in page or output["findings"][0]["count"] == 3
    assert "no detection at all" not in text
    assert "--accept" not in text


def test_a_score_that_is_no_number_is_not_to_be_written(instances: Any, perfect: Any) -> None:
    """ "write the number high" would be no help."""
    perfect[0]["score"] = "high"
    (found,) = check_results(perfect, instances, IDS)
    assert found.first == ['entry 0 (image 7): score is text ("high")']


# -- files of other formats ---------------------------------------------------------------------


def test_json_lines_are_named_and_the_remedy_works(
    tmp_path: Path, typed: Any, perfect: Any
) -> None:
    """One object a line: the command on the page makes the list."""
    lines = tmp_path / "it's lines.json"
    lines.write_text("\n".join(map(json.dumps, perfect)) + "\n", encoding="utf-8")
    code, page, _ = typed(lines)
    assert (code, "holds one JSON value a line (JSON lines), not one list" in page) == (1, True)
    (command,) = re.findall(r"^  (python .*)$", page, re.MULTILINE)
    subprocess.run(command, shell=True, check=True)
    assert typed(tmp_path / "it's lines.list.json")[0] == 0


def test_a_pickle_is_named(tmp_path: Path, typed: Any, instances: Any, perfect: Any) -> None:
    """mmdetection's results.pkl; it is never opened, as that would run it."""
    file = tmp_path / "results.pkl"
    for protocol in (2, 4, 5):
        file.write_bytes(pickle.dumps(perfect, protocol))
        code, page, _ = typed(file)
        assert (code, "is a Python pickle, not JSON" in page) == (1, True)
        assert "written to its end" not in page
    (found,) = check_file(file, read_ground_truth(instances).index).findings
    assert found.what.startswith("results.pkl is a Python pickle, not JSON")


def test_other_formats_are_named(tmp_path: Path, typed: Any) -> None:
    """A web page, a zip; a list that is cut off is not one of them."""
    file = tmp_path / "r.json"
    for data, what in (
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"PK\x03\x04abc", "is a zip archive"),
        (b'[{"image_id": 1,', "written to its end"),
    ):
        file.write_bytes(data)
        assert what in typed(file)[1]
