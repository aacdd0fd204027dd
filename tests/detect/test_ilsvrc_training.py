"""A detector trained on ILSVRC's DET: its result files, and the number that anyone gets of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from tests.support import children, trainings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ilsvrc_root: Path) -> Path:
    place = tmp_path_factory.mktemp("det")
    sets = {
        "DATASETS.TRAIN": [f"ilsvrc:{ilsvrc_root}:det_train"],
        "DATASETS.TEST": [f"ilsvrc:{ilsvrc_root}:det_val", f"ilsvrc:{ilsvrc_root}:det_test"],
    }
    config = trainings.detector(trainings.FROM_SCRATCH, sets)
    (place / "c.yaml").write_text(config, encoding="utf-8")
    sampled = (
        "DATASETS.ILSVRC_PER_CLASS",
        "3",
        "DATASETS.TEST",
        f"('{sets['DATASETS.TEST'][0]}',)",
    )
    done = children.run_cli("train_det", "--config", "c.yaml", "--output", "r", *sampled, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "of each class, DATASETS.ILSVRC_PER_CLASS" in done.stderr + done.stdout
    assert "mAP (ILSVRC DET), on 12 of 12 images; 1 pairs" in done.stdout
    return place / "r"


def results(run: Path) -> Path:
    (folder,) = (run / "results").iterdir()
    return folder


def test_the_runs_score_is_that_of_its_file(run: Path, ilsvrc_root: Path) -> None:
    """`evaluate ilsvrc` reads the tree's XML and lists, the run its own records."""
    stored = json.loads((results(run) / "ilsvrc.json").read_text())
    done = children.run_cli(
        "evaluate", "ilsvrc", "det", str(results(run) / "ilsvrc_det.txt"), "--root",
        str(ilsvrc_root), "--json", cwd=run,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == stored
    assert stored["blacklisted"] == 1
    assert stored["images"] == {"expected": 12, "evaluated": 12, "missing": 0}


def test_the_file_has_the_detections_of_cocos(run: Path) -> None:
    """Line by line: index, id, score, corners."""
    images = json.loads((results(run) / "images.json").read_text())
    index = dict(zip(images["expected"], images["result_indices"], strict=True))
    expected = []
    for item in json.loads((results(run) / "coco_instances_results.json").read_text()):
        x, y, width, height = item["bbox"]
        numbers = [item["score"], x, y, x + width, y + height]
        expected.append([index[item["image_id"]], item["category_id"], *numbers])
    lines = (results(run) / "ilsvrc_det.txt").read_text().splitlines()
    assert len(lines) > 12
    assert [[float(v) for v in line.split()] for line in lines] == expected


def test_a_file_of_another_evaluation_is_refused(run: Path, tmp_path: Path) -> None:
    from resdet.errors import CheckFailed
    from resdet.evaluation import evaluate_folder

    for path in results(run).iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert evaluate_folder(tmp_path).ilsvrc is not None
    lines = (tmp_path / "ilsvrc_det.txt").read_text().splitlines()
    (tmp_path / "ilsvrc_det.txt").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(CheckFailed, match="different evaluations"):
        evaluate_folder(tmp_path)


def test_sampling_without_its_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(trainings.detector(trainings.FROM_SCRATCH), encoding="utf-8")
    done = children.run_cli(
        "train_det", "--config", "c.yaml", "DATASETS.ILSVRC_PER_CLASS", "3", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "DATASETS.TRAIN has no ilsvrc_det_train, which it is of" in done.stderr
