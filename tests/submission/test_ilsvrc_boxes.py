"""DET's and LOC's files of a run, packed and read back, and the check of anyone's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resdet.cli.main import main
from resdet.errors import CheckFailed, RunError
from resdet.run.folder import Run, write_json
from resdet.submission.ilsvrc_boxes import (
    can_be_packed,
    check_det_file,
    check_loc_file,
    package_det,
    package_loc,
)
from resdet.submission.servers import ilsvrc_boxes_test_set

DET = "7 2 0.123456789 1.5 2 30 40\n9 1 0.5 1 1 9 9\n"
LOC = "3 1 2 30.25 40 1 5 5 9 9\n\n2 1 1 8 8\n"


def made(path: Path, kind: str) -> Run:
    return Run.create(path, kind=kind, config_text="MODEL: {}\n", command=["x"], seed=1)


def det_run(path: Path, text: str = DET, **images: Any) -> Run:
    """A run with results on two images of a list whose indices are 7 and 9."""
    run = made(path, "detection")
    folder = run.results("ilsvrc_det_val2")
    about = {"expected": ["a", "b"], "evaluated": ["a", "b"], "result_indices": [7, 9], **images}
    write_json(folder / "images.json", about)
    write_json(folder / "ground_truth.json.gz", {"categories": [{"id": 1}, {"id": 2}]})
    write_json(folder / "ilsvrc.json", {"mean_ap": 0.25})
    (folder / "ilsvrc_det.txt").write_text(text)
    return run


def loc_run(path: Path, *rows: dict[str, Any]) -> Run:
    run = made(path, "localization")
    listed = rows or ({"file": "p.txt", "classes": "predicted", "images": 3, "error": 0.5},)
    add_set(run, "ilsvrc_loc_val", *listed)
    return run


def add_set(run: Run, data_set: str, *rows: dict[str, Any]) -> None:
    folder = run.localization(data_set)
    write_json(
        folder / "rows.json",
        [{"data_set": data_set, "testing": "centre", "net": "rpn", **row} for row in rows],
    )
    for row in rows:
        (folder / row["file"]).write_text(LOC)


def numbers(path: Path) -> list[list[float]]:
    return [[float(v) for v in line.split()] for line in path.read_text("utf-8").splitlines()]


def test_dets_file_has_the_runs_numbers(tmp_path: Path) -> None:
    """To the last digit, with the indices of the list."""
    run = det_run(tmp_path / "r")
    assert can_be_packed(run, "ilsvrc_det_val2")
    package = package_det(run, "ilsvrc_det_val2")
    assert package.path == run.path / "submissions" / "ilsvrc-det" / "ilsvrc-det.txt"
    assert numbers(package.path) == [[float(v) for v in line.split()] for line in DET.splitlines()]
    assert (package.images, package.detections) == (2, 2)
    assert package.score == "mAP (ILSVRC DET) of the run: 25.00 %."
    # Indices 1 to 6 and 8 are of no image of the run.
    assert package.warnings == ()
    assert package.test_set is None  # two images are not the 20,121 of val


@pytest.mark.parametrize(
    ("text", "images", "message"),
    [
        ("7 3 0.5 1 1 9 9\n", {}, "DET ids outside 1 to 2"),
        (DET, {"evaluated": ["a"]}, "1 of 2 images were not detected on"),
        ("7 1 0.5 9 9 1 1\n", {}, "end before they begin"),
    ],
    ids=["class", "images", "box"],
)
def test_what_is_not_clean_makes_no_file(
    tmp_path: Path, text: str, images: dict[str, Any], message: str
) -> None:
    run = det_run(tmp_path / "r", text, **images)
    with pytest.raises(CheckFailed, match=message):
        package_det(run, "ilsvrc_det_val2")
    assert not (run.path / "submissions").exists() or not list(run.path.rglob("ilsvrc-det.txt"))


def test_locs_file_is_that_of_predicted_classes(tmp_path: Path) -> None:
    """Line by line, the empty one too; several or none must be named."""
    known = {"file": "k.txt", "classes": "known", "images": 3, "error": 0.1}
    row = {"file": "p.txt", "classes": "predicted", "images": 3, "error": 0.5}
    package = package_loc(loc_run(tmp_path / "a", known, row))
    assert numbers(package.path) == [[float(v) for v in line.split()] for line in LOC.splitlines()]
    assert package.score == "top-5 localization error of the run: 50.00 %."
    assert (package.images, package.detections) == (3, 3)
    assert package_loc(loc_run(tmp_path / "b", known), "k.txt").score == (
        "box error of the run: 10.00 %."
    )
    with pytest.raises(RunError, match=r"(?s)0 files of predicted classes\..*k\.txt of ilsvrc_loc"):
        package_loc(loc_run(tmp_path / "c", known))
    with pytest.raises(RunError, match=r"(?s)no file x\.txt\..*p\.txt of ilsvrc_loc_val"):
        package_loc(loc_run(tmp_path / "d"), "x.txt")
    with pytest.raises(RunError, match=r"has no result file\. Test first: train_loc"):
        package_loc(made(tmp_path / "e", "localization"))


def test_each_set_that_was_tested_keeps_its_files(tmp_path: Path) -> None:
    """The same file name of two sets: one must be named; what is packed is of that set."""
    run = loc_run(tmp_path / "a")
    add_set(run, "ilsvrc_loc_test", {"file": "p.txt", "classes": "predicted", "images": 3})
    with pytest.raises(RunError, match=r"(?s)has 2 files p\.txt\. Name one with --file and --set"):
        package_loc(run, "p.txt")
    package = package_loc(run, "p.txt", data_set="ilsvrc_loc_test")
    assert (package.data_set, package.score) == ("ilsvrc_loc_test", "")
    assert package_loc(run, data_set="ilsvrc_loc_val").score.startswith("top-5 localization error")
    with pytest.raises(RunError, match=r"(?s)no file p\.txt of x\. Name one"):
        package_loc(run, "p.txt", data_set="x")


def test_a_file_with_a_line_too_few_is_refused(tmp_path: Path) -> None:
    run = loc_run(tmp_path / "a")
    (run.localization("ilsvrc_loc_val") / "p.txt").write_text("3 1 2 30 40\n")
    with pytest.raises(CheckFailed, match="1 lines for 3 images"):
        package_loc(run)


def test_anyones_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text(DET)
    assert check_det_file(path, 9).ok
    refused = check_det_file(path, 8)
    assert not refused.ok
    assert [f.rule for f in refused.findings if f.severity == "refuse"] == ["unknown-image"]
    path.write_text(LOC)
    checked = check_loc_file(path, 3)
    assert checked.images == {"expected": 3, "evaluated": 3, "missing": 0}
    assert [f.rule for f in checked.findings] == ["images-without-guess"]
    assert not check_loc_file(path, 4).ok


def test_commands_pack_check_and_note(tmp_path: Path, capsys: Any, ledger_path: Path) -> None:
    det_run(tmp_path / "r")
    assert main(["submit", "ilsvrc-det", str(tmp_path / "r")]) == 0
    out = capsys.readouterr().out
    assert "2 detections on 2 images" in out and "a rehearsal" in out and "uncertain" in out
    file = str(tmp_path / "r" / "submissions" / "ilsvrc-det" / "ilsvrc-det.txt")
    assert main(["submit", "check", file, "--ilsvrc-det", "9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    loc_run(tmp_path / "l")
    assert main(["submit", "ilsvrc-loc", str(tmp_path / "l")]) == 0
    assert "top-5 localization error of the run: 50.00 %" in capsys.readouterr().out
    entries = [json.loads(line) for line in ledger_path.read_text("utf-8").splitlines()]
    assert [e["server"] for e in entries] == ["ilsvrc-det", "ilsvrc-loc"]
    assert main(["submit", "check", file, "--ilsvrc-loc", "0"]) == 2


def test_the_sets_of_2015() -> None:
    """Numbers of the development kit's readme: 20,121 and 50,000 of val, 100,000 of LOC's test."""
    assert ilsvrc_boxes_test_set("ilsvrc-det", "val").images == 20_121
    assert ilsvrc_boxes_test_set("ilsvrc-loc", "val").images == 50_000
    assert ilsvrc_boxes_test_set("ilsvrc-loc", "test").images == 100_000
