"""`submit check`: exit code 0 only for a clean file, one JSON object, zips as the server wants."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resdet.errors import DataError
from resdet.evaluation.inputs.ground_truth import read_ground_truth, read_index
from resdet.submission.package_check import check_file

Found = list[dict[str, Any]]
Write = Callable[[str, Any], Path]
GOOD = "detections_val2017_resdet-r101_results"


def rules(path: Path, gt: Path, **more: Any) -> list[str]:
    return [f.rule for f in check_file(path, gt, **more).findings]


def test_a_clean_file_passes_and_states_what_commands_md_promises(
    submit: Any, pets: Any, found: Found, write: Write
) -> None:
    """Exit code 0; the four keys and, under images, three numbers; nothing else on the stream."""
    write("r.images.json", {"evaluated": [139, 285, 632]})
    done = submit("check", write("r.json", found), "--gt", write("gt.json", pets), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "ok": True, "detections": 3, "findings": [],
        "images": {"expected": 3, "evaluated": 3, "missing": 0},
    }  # fmt: skip
    assert done.stderr == ""


def test_a_faulty_file_fails_with_rule_count_first_and_fix(
    submit: Any, pets: Any, found: Found, write: Write
) -> None:
    """F81 and F80 in one file of three entries: exit code 1, each fault once."""
    found[0]["category_id"] = 91
    found[1]["score"] = float("nan")
    done = submit("check", write("r.json", found), "--gt", write("gt.json", pets), "--json")
    assert done.returncode == 1, done.stderr
    output = json.loads(done.stdout)
    assert output["ok"] is False and output["detections"] == 3
    assert output["images"] == {"expected": 3, "evaluated": None, "missing": None}
    by_rule = {f["rule"]: f for f in output["findings"]}
    assert {"unknown-category", "not-finite"} <= set(by_rule)
    for item in by_rule.values():
        assert set(item) == {"rule", "count", "first", "fix"}
    assert by_rule["not-finite"]["count"] == 1
    assert "entry 1 (image 285): score is NaN" in by_rule["not-finite"]["first"][0]
    page = submit("check", "r.json", "--gt", "gt.json")
    assert page.returncode == 1 and "not clean:\n- [unknown-category]" in page.stdout


def test_a_set_without_annotations_is_enough(pets: Any, found: Found, write: Write) -> None:
    """image_info files: ids, sizes and categories are checked; scoring refuses the same file."""
    del pets["annotations"]
    gt = write("image_info.json", pets)
    assert rules(write("r.json", found), gt) == ["images-without-detections"]
    found[0]["image_id"] = 77
    found[1]["category_id"] = 3
    found[2]["bbox"] = [10, 10, 140, 40]
    assert rules(write("r.json", found), gt)[:2] == ["unknown-image", "unknown-category"]
    assert "outside" in rules(write("r.json", found), gt)
    with pytest.raises(DataError, match="has no annotations"):
        read_ground_truth(gt)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"images": None}, 'gt.json has no list "images"', id="no-images"),
        pytest.param({"categories": []}, '"categories" is empty', id="no-categories"),
        pytest.param({"images": [{"id": 1}, {"id": 1}]}, "image id 1 occurs twice", id="id-twice"),
    ],
)
def test_a_faulty_set_is_refused(pets: Any, write: Write, change: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_index(write("gt.json", pets | change))


def test_a_results_file_is_no_set(found: Found, write: Write) -> None:
    with pytest.raises(DataError, match="r.json holds a list"):
        read_index(write("r.json", found))


def test_the_index_is_the_one_of_the_whole_set(pets: Any, write: Write) -> None:
    """With annotations there, both readers give the same images, sizes and categories."""
    gt = write("gt.json", pets)
    one, other = read_index(gt), read_ground_truth(gt).index
    assert (one.title, one.image_ids, one.category_ids, one.category_names) == (
        other.title, other.image_ids, other.category_ids, other.category_names
    )  # fmt: skip
    assert one.sizes.tolist() == other.sizes.tolist() == [[100, 80]] * 3


def test_what_was_evaluated_is_known_from_a_list_or_proven(
    pets: Any, found: Found, write: Write
) -> None:
    """F85: nobody knows about 632 without a list; with a detection there it was evaluated."""
    gt, path = write("gt.json", pets), write("r.json", found)
    checked = check_file(path, gt)
    assert checked.images == {"expected": 3, "evaluated": None, "missing": None}
    assert checked.ok
    write("r.images.json", {"evaluated": [139, 285]})
    checked = check_file(path, gt)
    assert checked.images == {"expected": 3, "evaluated": 2, "missing": 1}
    assert not checked.ok
    (path.parent / "r.images.json").unlink()
    found.append({"image_id": 632, "category_id": 17, "bbox": [1, 1, 5, 5], "score": 0.1})
    checked = check_file(write("r.json", found), gt)
    assert checked.images == {"expected": 3, "evaluated": 3, "missing": 0}
    assert checked.findings == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param([{"score": 4.5}], "score-range", id="logits"),
        pytest.param(
            [{"bbox": [1 + i / 10, 1, 9, 9]} for i in range(101)], "over-100", id="101-an-image"
        ),
    ],
)
def test_what_evaluation_scores_with_a_warning_is_not_clean(
    pets: Any, found: Found, write: Write, change: list[Any], rule: str
) -> None:
    """The server would cut, or thresholds mean nothing: exit code 1, as for a refusal."""
    results = [*found, *({**found[0], "score": 0.3, **c} for c in change)]
    checked = check_file(
        write("r.json", results), write("gt.json", pets), evaluated=[139, 285, 632]
    )
    assert [f.rule for f in checked.findings] == [rule]
    assert not checked.ok


def test_masks_are_checked_with_their_task(pets: Any, found: Found, write: Write) -> None:
    """F87: a mask of another size than its image; the same file has fine boxes."""
    for item in found:
        item["segmentation"] = {"size": [80, 90], "counts": [7200]}
    gt, path = write("gt.json", pets), write("r.json", found)
    assert check_file(path, gt).ok
    assert rules(path, gt, task="segm")[0] == "mask"


@pytest.mark.parametrize(
    "text", ['[{"image_id": 139, "sc', '{"annotations": []}', "", "nothing"],
    ids=["cut-off", "object", "empty", "no-json"],
)  # fmt: skip
def test_a_file_that_holds_no_list_is_one_finding(
    submit: Any, pets: Any, write: Write, tmp_path: Path, text: str
) -> None:
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    done = submit("check", "r.json", "--gt", write("gt.json", pets), "--json")
    assert done.returncode == 1, done.stderr
    output = json.loads(done.stdout)
    assert [f["rule"] for f in output["findings"]] == ["results-unreadable"]
    assert output["detections"] is None
    page = submit("check", "r.json", "--gt", "gt.json")
    assert page.returncode == 1 and "r.json" in page.stdout


@pytest.mark.parametrize("missing", ["r.json", "gt.json"])
def test_nothing_to_check_is_exit_code_2(
    submit: Any, pets: Any, found: Found, write: Write, missing: str
) -> None:
    for name, value in (("r.json", found), ("gt.json", pets)):
        if name != missing:
            write(name, value)
    done = submit("check", "r.json", "--gt", "gt.json")
    assert done.returncode == 2
    assert f"{missing} does not exist" in done.stderr and "Traceback" not in done.stderr


# -- zips ---------------------------------------------------------------------------------------


def pack(folder: Path, stem: str, content: dict[str, str]) -> Path:
    path = folder / f"{stem}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def test_a_zip_made_as_the_server_wants_is_clean(
    tmp_path: Path, pets: Any, found: Found, write: Write
) -> None:
    path = pack(tmp_path, GOOD, {f"{GOOD}.json": json.dumps(found)})
    checked = check_file(path, write("gt.json", pets), evaluated=[139, 285, 632])
    assert checked.findings == ()
    assert (checked.title, checked.detections) == (f"{GOOD}.zip", 3)


ZIPS: list[Any] = [
    pytest.param(GOOD, [f"results/{GOOD}.json"], ["zip-not-flat"], id="folder-PAA-20"),
    pytest.param(GOOD, ["a/", f"{GOOD}.json"], ["zip-not-flat"], id="empty-folder"),
    pytest.param(GOOD, [f"{GOOD}.json", "readme.txt"], ["zip-files"], id="two-files"),
    pytest.param(GOOD, [], ["zip-files"], id="no-file"),
    pytest.param(GOOD, ["results.json"], ["zip-stem"], id="other-stem"),
    pytest.param(GOOD, [f"{GOOD}.txt"], ["zip-stem"], id="no-json"),
    pytest.param("results", ["results.json"], ["zip-name"], id="no-name"),
    pytest.param(
        "detections_test2017_x_results", ["detections_test2017_x_results.json"], ["zip-name"],
        id="no-such-set",
    ),
    pytest.param(
        "detections_val2017_my_net_results", ["detections_val2017_my_net_results.json"],
        ["zip-name"], id="underscore-in-the-algorithm",
    ),
    pytest.param(
        "detections_val2017_x.1_results", ["detections_val2017_x.1_results.json"], ["zip-name"],
        id="dot-in-the-algorithm",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("stem", "names", "expected"), ZIPS)
def test_a_zip_that_the_server_would_not_take_is_named(
    tmp_path: Path, pets: Any, found: Found, write: Write,
    stem: str, names: list[str], expected: list[str],
) -> None:  # fmt: skip
    """F87: flatness, number of files, the zip's name, the file's name."""
    content = {n: json.dumps(found) if n.endswith(".json") else "" for n in names}
    path = pack(tmp_path, stem, content)
    checked = check_file(path, write("gt.json", pets), evaluated=[139, 285, 632])
    assert [f.rule for f in checked.findings] == expected
    assert not checked.ok


def test_faults_inside_a_zip_are_found(
    tmp_path: Path, pets: Any, found: Found, write: Write
) -> None:
    found[0]["bbox"] = [40, 40, -20, 10]
    path = pack(tmp_path, GOOD, {f"{GOOD}.json": json.dumps(found)})
    assert "size" in rules(path, write("gt.json", pets))


@pytest.mark.parametrize("cut", [slice(0, 40), slice(0, -30)], ids=["start-only", "end-missing"])
def test_a_damaged_zip_is_one_finding(
    tmp_path: Path, pets: Any, found: Found, write: Write, cut: slice
) -> None:
    path = pack(tmp_path, GOOD, {f"{GOOD}.json": json.dumps(found)})
    path.write_bytes(path.read_bytes()[cut])
    assert rules(path, write("gt.json", pets)) == ["zip-unreadable"]


def test_a_flipped_bit_in_a_zip_is_found(
    tmp_path: Path, pets: Any, found: Found, write: Write
) -> None:
    """The checksum of the zip tells, although the JSON would still be readable."""
    path = pack(tmp_path, GOOD, {f"{GOOD}.json": json.dumps(found)})
    raw = path.read_bytes()
    assert b"0.75" in raw
    path.write_bytes(raw.replace(b"0.75", b"0.85"))
    assert rules(path, write("gt.json", pets)) == ["zip-unreadable"]
