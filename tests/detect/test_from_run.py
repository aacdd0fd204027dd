"""One way from a run folder or a file to a detector: what the run itself detected is the source."""

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.cli.main import run_command
from resdet.config import resolve
from resdet.detect.from_run import built_detector
from resdet.errors import ConfigError, RunError, WeightsError
from resdet.run.folder import Run, read_json, write_json
from tests.support import detector_runs, trainings
from tests.support.detector_runs import IMAGES, SET
from tests.support.old_runs import with_old_names

FORMS = {
    "plain": ["TEST.BEST_METRIC", f"{SET}/AP50", "TEST.EVAL_PERIOD", "1"],
    "fast": ["ENGINE.FAST_INFERENCE", "on"],
    "fast trained": ["ENGINE.FAST_TRAINING", "on"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One run per form, trained two steps, and the place that their paths are of."""
    place = tmp_path_factory.mktemp("from_run")
    for name, keys in FORMS.items():
        detector_runs.train(place, name, *keys)
    return place


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)


def own_results(folder):
    return json.loads((Run.open(folder).results(SET) / "coco_instances_results.json").read_text())


def detected(detector):
    """As the result file has them, over the images of the test set in its order."""
    entries = []
    for image_id, size in IMAGES.items():
        given = detector.mapper({"file_name": f"voc/JPEGImages/{image_id}.jpg"})
        with torch.no_grad():
            (output,) = detector.for_detecting([{**given, "width": size[0], "height": size[1]}])
        found = output["instances"]
        boxes = found.pred_boxes.tensor.double().numpy()
        boxes[:, 2:] -= boxes[:, :2]
        entries += [
            {"image_id": image_id, "category_id": label + 1, "bbox": box, "score": score}
            for box, score, label in zip(
                boxes.tolist(), found.scores.double().tolist(), found.pred_classes.tolist(),
                strict=True,
            )
        ]  # fmt: skip
    return entries


@pytest.mark.parametrize("form", FORMS)
def test_it_detects_what_the_run_has_written_to_the_bit(form):
    detector = built_detector(form)
    assert (detector.classes, detector.run.info["id"]) == (
        ("ape", "bee"), Run.open(form).info["id"],
    )  # fmt: skip
    assert not any(module.training for module in detector.model.modules())
    assert (detector.for_detecting is detector.model) == (form != "fast")
    found = detected(detector)
    assert len(found) > 10 and found == own_results(form)


def test_its_best_by_flag_and_by_file_is_the_file_of_the_best():
    """Every tensor equals the one in model_best.pth, but for the counters of live norms."""
    best, by_file = built_detector("plain", best=True), built_detector("plain/model_best.pth")
    stored = torch.load("plain/model_best.pth", weights_only=True)["model"]
    for detector in (best, by_file):
        state = detector.model.state_dict()
        names = [name for name in stored if not name.endswith("num_batches_tracked")]
        assert len(names) > 100 and all(torch.equal(state[n], stored[n]) for n in names)
        assert detector.file.name == "model_best.pth"
    assert built_detector("plain/model_final.pth").file.name == "model_final.pth"
    with pytest.raises(RunError, match="kept no best model"):
        built_detector("fast", best=True)


def test_the_generator_of_random_numbers_stays_as_it_was():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    built_detector("plain")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_keys_on_top_are_noted_with_both_values():
    keys = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.25", "INPUT.MIN_SIZE_TEST", "64"]
    detector = built_detector("plain", keys)
    assert detector.changed == {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": (0.0, 0.25)}
    assert detector.model.roi_heads.box_predictor.test_score_thresh == 0.25


def test_a_file_outside_of_a_run_needs_a_config_and_names_its_own_classes(tmp_path):
    shutil.copy("plain/model_final.pth", tmp_path / "moved.pth")
    with pytest.raises(ConfigError, match="Give --config FILE"):
        built_detector(tmp_path / "moved.pth")
    detector = built_detector(tmp_path / "moved.pth", config_file="c.yaml")
    assert (detector.classes, detector.run) == (("ape", "bee"), None)
    assert detected(detector) == own_results("plain")
    state = torch.load("plain/model_final.pth", weights_only=True)
    torch.save({"model": state["model"]}, tmp_path / "nameless.pth")
    with pytest.raises(ConfigError, match="does not name its classes"):
        built_detector(tmp_path / "nameless.pth", config_file="c.yaml")


def test_what_is_no_detector_has_a_page(tmp_path):
    for name, kind, page in (
        ("missing", None, "missing does not exist. Give a run folder"),
        ("empty", "folder", "is not a run folder"),
        ("cls", "classification", "is a classification run, and a detector is expected"),
        ("begun", "detection", "model_final.pth does not exist: the run is training. Finish it"),
    ):
        if kind:
            (tmp_path / name).mkdir()
        if kind in ("classification", "detection"):
            state = "training" if name == "begun" else "finished"
            about = {"id": "a", "kind": kind, "state": state, "created": "now"}
            write_json(tmp_path / name / "run.json", about)
        with pytest.raises(RunError, match=page):
            built_detector(tmp_path / name)
    trainings.net_to_hand_over(tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match="holds a classifier, resnet18"):
        built_detector(tmp_path / "net.safetensors", config_file="c.yaml")
    with pytest.raises(ConfigError, match="has its own config"):
        built_detector("plain", config_file="c.yaml")
    with pytest.raises(ConfigError, match="--best is for run folders"):
        built_detector(tmp_path / "net.safetensors", best=True, config_file="c.yaml")


def test_a_run_that_was_made_before_a_key_had_its_name_is_read_with_a_warning(tmp_path, caplog):
    """PRETRAIN.EMA_DECAY, today SOLVER.EMA_DECAY; in a config of one's own it is refused."""
    shutil.copytree("plain", tmp_path / "old")
    config = with_old_names(Path("plain/config.yaml").read_text("utf-8"))
    (tmp_path / "old" / "config.yaml").write_text(config, encoding="utf-8")
    detector = built_detector(tmp_path / "old")
    assert detected(detector) == own_results("plain")
    assert detector.changed == {}
    (warning,) = [m for m in caplog.messages if "older resdet" in m]
    assert "PRETRAIN.EMA_DECAY as SOLVER.EMA_DECAY" in warning
    with pytest.raises(ConfigError, match=r"line \d+: PRETRAIN.EMA_DECAY does not exist"):
        resolve(tmp_path / "old" / "config.yaml")


def test_weights_of_another_run_are_refused(tmp_path):
    """The run's id lies in the file of weights."""
    shutil.copytree("plain", tmp_path / "run")
    shutil.copy("fast/model_final.pth", tmp_path / "run" / "model_final.pth")
    with pytest.raises(RunError, match="was written by another run"):
        built_detector(tmp_path / "run")


def test_a_run_that_scored_a_file_has_that_file_s_detector(place, monkeypatch):
    monkeypatch.setenv("RESDET_CACHE", str(place / "cache"))
    words = ["--config", "c.yaml", "--eval-only", "--output", "scored", "MODEL.WEIGHTS",
             "fast/model_final.pth"]  # fmt: skip
    assert run_command("train_det", words) == 0
    detector = built_detector("scored")
    assert str(detector.file) == "fast/model_final.pth"
    assert detected(detector) == own_results("scored")
    (place / "elsewhere").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(place / "elsewhere")
        assert built_detector("../scored").file == place / "fast" / "model_final.pth"
    info = read_json("scored/run.json")
    write_json("scored/run.json", {**info, "scored_file": "gone.pth"})
    with pytest.raises(RunError, match=r"gone.pth does not exist: .*Bring it back\."):
        built_detector("scored")
