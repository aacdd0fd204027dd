"""Table 9's keys in runs: through train_det, in the run folder, in comparisons."""

import json

import pytest

pytest.importorskip("detectron2")

from resdet.detect.onnx.detector_export import export_detector
from resdet.errors import RunError
from resdet.report.comparison.config_differences import config_differences
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


def test_a_finished_detector_is_scored_with_refinement_into_a_folder_of_its_own(place, monkeypatch):
    """Other boxes than without; the folder's config states the key, and no comparison hides it."""
    done = score(place, "refined", "TEST.BOX_REFINEMENT", "on")
    assert done.returncode == 0, done.stderr
    plain, refined = (results(place / name) for name in ("plain", "refined"))
    assert len(refined) > 0 and refined != plain
    configs = [read_config(Run.open(place / name)) for name in ("plain", "refined")]
    odd = [(d.key, d.kind, d.values) for d in config_differences(configs, [{}, {}])]
    assert ("TEST.BOX_REFINEMENT", "other", ("off", "on")) in odd
    monkeypatch.chdir(place)  # the folder names the weights from here
    with pytest.raises(RunError, match="tested with TEST.BOX_REFINEMENT, .* --resume TEST.BOX_REF"):
        export_detector("refined", "out")
    again = score(place, "plain", "TEST.BOX_REFINEMENT", "on")
    assert again.returncode == 2
    assert "TEST.BOX_REFINEMENT is 'on' (command line), the run was made with 'off'" in again.stderr
    assert results(place / "plain") == plain


def test_scales_and_an_ensemble_with_a_net_of_its_own_preprocessing(place):
    """A member from scratch with other pixel statistics and another size; one scale is none."""
    more = trainings.detector(
        trainings.FROM_SCRATCH,
        {
            "MODEL.NET.NAME": "plain18",
            "INPUT.MIN_SIZE_TEST": 48,
            "INPUT.FORMAT": "RGB",
            "MODEL.PIXEL_MEAN": [90.0, 91.0, 92.0],
        },
    )
    (place / "other.yaml").write_text(more, encoding="utf-8")
    done = children.run_cli("train_det", "--config", "other.yaml", "--output", "other", cwd=place)
    assert done.returncode == 0, done.stderr
    done = score(place, "one_scale", "TEST.SCALES", "(64,)")
    assert done.returncode == 0, done.stderr
    assert results(place / "one_scale") == results(place / "plain")
    done = score(place, "both", "TEST.SCALES", "(48, 64, 96)", "TEST.ENSEMBLE", "('other',)")
    assert done.returncode == 0, done.stderr
    assert results(place / "both") != results(place / "plain") and results(place / "both")
    (one, two) = Run.open(place / "both").info["ensemble"]
    assert (one["net"], two["net"]) == ("resnet18", "plain18")
    assert two["run"] == Run.open(place / "other").info["id"] and one["weights"] != two["weights"]


def test_a_member_that_is_not_there_or_of_other_classes_is_refused_before_a_training(place):
    train = ("train_det", "--config", "c.yaml", "--output", "never")
    done = children.run_cli(*train, "TEST.ENSEMBLE", "('nothing',)", cwd=place)
    assert done.returncode == 2 and "TEST.ENSEMBLE names nothing, which does not" in done.stderr
    assert not (place / "never").exists()
