"""The VOC benchmark's problem: what it claims to be, and equal by both evaluators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluation import voc as benchmark
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.formats.voc_xml import VOC_CLASSES

IMAGES = 60


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voc")
    benchmark.make_problem(folder, IMAGES)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_seed_gives_the_same_files(problem: Path, tmp_path: Path) -> None:
    """60 annotations, a list, and a file for each of 20 classes, byte for byte; not with another
    seed."""
    again, other = tmp_path / "again", tmp_path / "other"
    benchmark.make_problem(again, IMAGES)
    benchmark.make_problem(other, IMAGES, seed=1)
    assert len(files(problem)) == IMAGES + 1 + 20
    assert files(again) == files(problem)
    assert files(other) != files(problem)


def test_the_tree_is_voc_2007_tests_in_small(problem: Path) -> None:
    """Shares of VOC 2007 test: 14,976 objects on 4,952 images, 12,032 of them to be found (the
    devkit's counts), a third of which are persons; whole pixels inside the image."""
    assert sum(benchmark.POSITIVES) == 12_032
    truth = voc.read_devkit_ground_truth(problem / "VOC2007", "test")
    assert len(truth.image_ids) == IMAGES
    assert len(truth.boxes) == round(14_976 * IMAGES / 4952)
    assert 0.1 < truth.difficult.mean() < 0.3
    assert 0.2 < (truth.label == VOC_CLASSES.index("person")).mean() < 0.6
    assert (truth.boxes[:, 2:] <= truth.index.sizes[truth.image]).all()
    assert (truth.boxes[:, :2] >= 1).all()
    assert (truth.boxes % 1 == 0).all()


def test_no_two_scores_of_a_class_are_equal(problem: Path) -> None:
    """100 detections an image; what equal scores do is left to the sort by Detectron2."""
    found = voc.read_detections(problem / "detections", VOC_CLASSES)
    assert len(found.scores) == 100 * IMAGES
    assert found.unread == ()
    for label in range(20):
        scores = found.scores[found.label == label]
        assert len(np.unique(scores)) == len(scores) > 0


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore::FutureWarning")
def test_both_evaluators_give_the_same_ap(problem: Path) -> None:
    """Oracle: Detectron2's voc_eval; a class without an object has AP 0 there and none here."""
    pytest.importorskip("detectron2", reason="Detectron2 is not installed here")
    ours = np.array(benchmark.run_resdet(problem), dtype=np.float64)
    theirs = np.array(benchmark.run_detectron2(problem))
    assert ours.shape == theirs.shape == (10, 20)
    assert np.isnan(ours).sum() < 100
    np.testing.assert_allclose(np.nan_to_num(ours), theirs, rtol=0, atol=1e-12)
    assert 0 < np.nanmean(ours[9]) < np.nanmean(ours[0]) < 1
