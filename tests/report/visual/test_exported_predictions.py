"""Exports: pycocotools scores the COCO files to the run's own numbers; FiftyOne's by its schema."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resdet.cli.main import run_command
from resdet.errors import RunError
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.report.visual.exported_predictions import fiftyone_layout
from resdet.run.folder import Run, read_json
from tests.support import fabricate


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("runs")
    return [
        fabricate.fabricate_run(place / name, net=net, skill=skill, num_images=12)
        for name, net, skill in (("a", "resnet18", 0.8), ("b", "vgg11", 0.4))
    ]


def export(*words: object) -> int:
    return run_command("export_predictions", [str(word) for word in words])


def loaded(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_pycocotools_scores_the_coco_files_to_the_run_s_numbers(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both runs, all twelve numbers; the ground truth is one file for both."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    assert export(*runs, "--to", "coco", "--output", tmp_path / "out") == 0
    assert "predictions_b.json: " in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"ground_truth.json", "predictions_a.json", "predictions_b.json"}
    truth = coco.COCO(str(tmp_path / "out" / "ground_truth.json"))
    for run in runs:
        found = loaded(tmp_path / "out" / f"predictions_{run.name}.json")
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(found["annotations"]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        own = evaluate_folder(run / "results" / "digits_test").to_json()["coco"]
        assert own is not None
        keys = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm",
                "ARl")  # fmt: skip
        for key, value in zip(keys, evaluation.stats.tolist(), strict=True):
            assert (own[key] if own[key] is not None else -1) == pytest.approx(value, abs=1e-12)


def test_a_coco_file_stands_on_its_own(runs: list[Path], tmp_path: Path) -> None:
    """Each annotation has its image and category in the file; text ids are numbered."""
    assert export(runs[0], "--to", "coco", "--score", "0.5", "--output", tmp_path / "out") == 0
    file = loaded(tmp_path / "out" / "predictions_a.json")
    images = {image["id"]: image for image in file["images"]}
    categories = {category["id"] for category in file["categories"]}
    assert len(images) == 12 and all(isinstance(i, int) for i in images)
    assert len(file["annotations"]) > 5
    for entry in file["annotations"]:
        assert entry["image_id"] in images and entry["category_id"] in categories
        assert entry["score"] >= 0.5 and entry["area"] == entry["bbox"][2] * entry["bbox"][3]
    truth = read_json(Run.open(runs[0]).results("digits_test") / "ground_truth.json.gz")
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    for image in images.values():
        assert image["file_name"] == names[image.get("set_id", image["id"])]


def test_fiftyone_s_labels_are_fractions_by_the_stem_of_the_file(
    runs: list[Path], tmp_path: Path
) -> None:
    """The schema of FiftyOneImageDetectionDataset; boxes times the size are the run's results."""
    assert export(runs[0], "--to", "fiftyone", "--output", tmp_path / "out") == 0
    folder = Run.open(runs[0]).results("digits_test")
    truth, results = (read_json(folder / name) for name in
                      ("ground_truth.json.gz", "coco_instances_results.json"))  # fmt: skip
    names = {category["id"]: category["name"] for category in truth["categories"]}
    file = loaded(tmp_path / "out" / "predictions_a.json")
    assert set(file) == {"classes", "labels"} and len(file["labels"]) == 12
    for image in truth["images"]:
        own = [r for r in results if r["image_id"] == image["id"]]
        given = file["labels"][Path(image["file_name"]).stem]
        assert len(own) == len(given)
        for result, label in zip(own, given, strict=True):
            assert set(label) <= {"label", "bounding_box", "confidence", "attributes"}
            assert file["classes"][label["label"]] == names[result["category_id"]]
            size = (image["width"], image["height"]) * 2
            box = [part * side for part, side in zip(label["bounding_box"], size, strict=True)]
            assert box == pytest.approx(result["bbox"], abs=1e-9)
            assert label["confidence"] == result["score"]
    objects = loaded(tmp_path / "out" / "ground_truth.json")["labels"]
    assert sum(map(len, objects.values())) == len(truth["annotations"])
    assert all("confidence" not in entry for entries in objects.values() for entry in entries)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["{a}", "--to", "coco", "--score", "2"], "--score is 2.0, expected 0 to 1"),
        (["{a}", "--to", "coco", "--set", "other"], "--set other: not scored by the run"),
        (["{a}", "{a}", "--to", "coco"], "is given twice"),
        (["{gone}", "--to", "coco"], "is not a folder. Give a run folder"),
    ],
)
def test_what_cannot_be_has_a_page(
    runs: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    page: str,
) -> None:
    given = [word.format(a=runs[0], gone=tmp_path / "gone") for word in words]
    assert export("--output", tmp_path / "out", *given) == 2
    assert page in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there_and_names_that_repeat_are_refused(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.json").write_text("[]")
    assert export(runs[0], "--to", "coco", "--output", tmp_path / "out") == 2
    assert "is not empty. Name another --output, or add --overwrite" in capsys.readouterr().err
    with pytest.raises(RunError, match="several images called x"):
        fiftyone_layout(scores_of("x.jpg", "x.png"), lambda _: [])


def test_images_of_folders_below_are_told_by_them() -> None:
    """FiftyOne's user guide: names may be relative paths, as the images lie; dots within stay."""
    scores = scores_of("a/x.jpg", "b/x.jpg", "b/x.1.png")
    assert set(fiftyone_layout(scores, lambda _: [])["labels"]) == {"a/x", "b/x", "b/x.1"}


def scores_of(*names: str) -> Any:
    images = [
        {"id": number, "file_name": name, "width": 8, "height": 8}
        for number, name in enumerate(names, 1)
    ]
    return SimpleNamespace(
        data_set="made",
        evaluated=tuple(range(1, len(names) + 1)),
        truth={"images": images},
        category_names={1: "ape"},
    )
