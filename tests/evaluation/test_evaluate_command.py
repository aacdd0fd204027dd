"""`evaluate voc` and `evaluate coco`: arguments, streams, JSON, tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from resdet.cli import evaluate
from resdet.errors import CheckFailed, ConfigError, DataError
from tests.support import children


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args([str(w) for w in words]))


@pytest.fixture
def detections(tmp_path: Path) -> Path:
    folder = tmp_path / "dets"
    folder.mkdir()
    (folder / "comp4_det_test_cow.txt").write_text("000001 0.9 1 1 10 10\n", encoding="utf-8")
    return folder


@pytest.fixture
def files(tmp_path: Path, instances: Any, perfect: Any) -> tuple[Path, Path]:
    results, gt = tmp_path / "results.json", tmp_path / "instances.json"
    results.write_text(json.dumps(perfect), encoding="utf-8")
    gt.write_text(json.dumps(instances), encoding="utf-8")
    return results, gt


def test_voc_json_is_one_object(devkit: Path, detections: Path, capsys: Any) -> None:
    """docs/commands.md: standard output is one JSON object, warnings go to standard error."""
    code = run(
        "voc", detections, "--root", devkit, "--split", "test", "--ap", "11-point", "--json"
    )  # fmt: skip
    out, err = capsys.readouterr()
    page = json.loads(out)
    assert code == 0
    assert page["mean_ap"] == 1.0
    assert page["classes"]["cow"] == {"ap": 1.0, "positives": 1, "detections": 1}
    assert "no detection at all (1 of 2 images)" in err
    assert "Note: Mean of 1 of 20 classes" in err


def test_voc_table_is_for_people(devkit: Path, detections: Path, capsys: Any) -> None:
    """Percent, the rule in full, the counts; a dash where nothing is defined."""
    run("voc", detections, "--root", devkit, "--split", "test", "--ap", "area", "--style", "devkit")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "AP50 (VOC, area), overlap >= 0.5, on 2 of 2 images"
    assert lines[2].split() == ["class", "AP", "objects", "difficult", "detections"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[4:-1]}
    assert rows["cow"] == ["100.0", "1", "1", "1"]
    assert rows["dog"] == ["-", "0", "0", "-"]
    assert lines[-1].startswith("mean of 1 of 20 classes  100.0")


def test_coco_json_is_one_object(files: tuple[Path, Path], capsys: Any) -> None:
    """docs/commands.md; category ox has no object: null."""
    assert run("coco", files[0], "--gt", files[1], "--task", "bbox", "--json") == 0
    page = json.loads(capsys.readouterr().out)
    assert page["per_category"]["ox"] is None
    assert page["AP"] == pytest.approx(1.0)


def test_coco_table_is_for_people(files: tuple[Path, Path], capsys: Any) -> None:
    """Twelve numbers in percent, then the categories."""
    run("coco", files[0], "--gt", files[1], "--task", "bbox")
    out = capsys.readouterr().out
    assert "COCO bbox (official), on 2 of 2 images" in out
    assert "AP50   100.0" in out
    assert "APl        -" in out


def test_exit_codes_follow_the_page(files: tuple[Path, Path], tmp_path: Path) -> None:
    """docs/commands.md: 2 for a path that is not there, 1 for a file that does not load."""
    with pytest.raises(DataError, match=r"none.json does not exist") as missing:
        run("coco", tmp_path / "none.json", "--gt", files[1], "--task", "bbox")
    assert missing.value.exit_code == 2
    files[0].write_text("[{", encoding="utf-8")
    with pytest.raises(CheckFailed, match="not readable as JSON") as broken:
        run("coco", files[0], "--gt", files[1], "--task", "bbox")
    assert broken.value.exit_code == 1


def test_an_overlap_out_of_range_is_refused(devkit: Path, detections: Path) -> None:
    """Exit code 2, with the value."""
    with pytest.raises(ConfigError, match="--iou is 50"):
        run("voc", detections, "--root", devkit, "--split", "test", "--ap", "area", "--iou", 50)


def test_what_was_evaluated_is_read_beside_the_results(files: tuple[Path, Path]) -> None:
    """F85: images.json shows that image 9 was never visited."""
    (files[0].parent / "images.json").write_text('{"evaluated": [7]}', encoding="utf-8")
    with pytest.raises(CheckFailed, match="missing first: 9"):
        run("coco", files[0], "--gt", files[1], "--task", "bbox")


def test_evaluation_imports_neither_torch_nor_detectron2() -> None:
    """numpy and pycocotools only; every module of the package is imported."""
    code = (
        "import importlib, pkgutil, sys, resdet.evaluation as e\n"
        "names = [m.name for m in pkgutil.walk_packages(e.__path__, 'resdet.evaluation.')]\n"
        "for n in names: importlib.import_module(n)\n"
        "bad = {'torch', 'detectron2', 'matplotlib', 'PIL', 'cv2'}\n"
        "bad |= {'resdet.run.folder', 'resdet.data'}\n"
        "print(len(names), sorted(bad & set(sys.modules)))"
    )
    count, found = children.printed_by(code).split(" ", 1)
    assert int(count) >= 30
    assert found.strip() == "[]"


def test_a_profile_changes_no_number_and_not_standard_output(
    files: tuple[Path, Path], capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """One JSON object stays alone; the table goes to standard error, the files lie where one is."""
    words = ["coco", files[0], "--gt", files[1], "--task", "bbox", "--json"]
    run(*words)
    before, _ = capsys.readouterr()
    assert not (tmp_path / "profile.json").exists()
    monkeypatch.chdir(tmp_path)
    assert run(*words, "--profile") == 0
    out, err = capsys.readouterr()
    assert out == before
    assert "Where the time of evaluate coco went" in err
    (section,) = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))["sections"]
    assert list(section["steps"]["parts"]) == [
        "read annotations",
        "read results",
        "check results",
        "pycocotools",
    ]
    assert (tmp_path / "profile.svg").read_text(encoding="utf-8").startswith("<svg")
    assert not list(tmp_path.glob("*.tmp"))


def test_every_metric_can_be_profiled(
    devkit: Path, detections: Path, files: tuple[Path, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    """And a refused file leaves what was measured until then."""
    monkeypatch.chdir(tmp_path)

    def rows() -> list[str]:
        page = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))
        return list(page["sections"][0]["steps"]["parts"])

    run("voc", detections, "--root", devkit, "--split", "test", "--ap", "area", "--profile")
    assert rows()[:4] == ["read annotations", "read results", "check results", "match and sum up"]
    run("explain", files[0], "--gt", files[1], "--profile")
    assert rows()[3:5] == ["COCO's rules", "VOC's rules"]
    files[0].write_text("{}", encoding="utf-8")
    with pytest.raises(CheckFailed):
        run("coco", files[0], "--gt", files[1], "--task", "bbox", "--profile")
    assert rows() == ["read annotations", "read results"]
