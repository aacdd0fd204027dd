"""Table 9's keys in runs: through train_det, in the run folder, in comparisons."""

import json

import pytest

pytest.importorskip("detectron2")

from resdet.report.comparison.comparability import config_differences
from resdet.report.runs import read_config
from resdet.run.folder import Run
from tests.support import children, tiny, trainings

RESULTS = "coco_instances_results.json"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("improved")
    tiny.voc_tree(place / "voc")
    config = trainings.detector(trainings.FROM_SCRATCH)
    (place / "c.yaml").write_text(config, encoding="utf-8")
    done = children.run_cli("train_det", "--config", "c.yaml", "--output", "plain", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def score(place, output, *more):
    return children.run_cli(
        *("train_det", "--config", "plain/config.yaml", "--output", output, "--eval-only"),
        *("MODEL.WEIGHTS", "plain/model_final.pth"),
        *more,
        cwd=place,
    )


def results(folder):
    return json.loads(
        (folder / "results" / "voc:voc:test".replace(":", "%3A") / RESULTS).read_text()
    )


def test_a_finished_detector_is_scored_with_refinement_into_a_folder_of_its_own(place):
    """Other boxes than without; the folder's config states the key, and no comparison hides it."""
    done = score(place, "refined", "TEST.BOX_REFINEMENT", "on")
    assert done.returncode == 0, done.stderr
    plain, refined = (results(place / name) for name in ("plain", "refined"))
    assert len(refined) > 0 and refined != plain
    configs = [read_config(Run.open(place / name)) for name in ("plain", "refined")]
    odd = [(d.key, d.kind, d.values) for d in config_differences(configs, [{}, {}])]
    assert ("TEST.BOX_REFINEMENT", "other", ("off", "on")) in odd
    again = score(place, "plain", "TEST.BOX_REFINEMENT", "on")
    assert again.returncode == 2
    assert "TEST.BOX_REFINEMENT is 'on' (command line), the run was made with 'off'" in again.stderr
    assert results(place / "plain") == plain
