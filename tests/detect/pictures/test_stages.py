"""The path of one picture: the last stage is the detector's own result, to the bit."""

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from resdet.cli.main import run_command
from resdet.detect.from_run import built_detector
from resdet.detect.pictures.loaded_detector import PictureDetector
from resdet.detect.pictures.stages import proposals_of, stages_of
from resdet.run.folder import read_json
from tests.support import detector_runs
from tests.support.improved import livelier

PICTURE = "voc/JPEGImages/000004.jpg"
REFINING = ["TEST.BOX_REFINEMENT", "on"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("stages")
    detector_runs.train(place, "run")
    return place


@pytest.fixture
def built(place, monkeypatch):
    """built(keys): the run's detector with scores that differ, and its picture."""
    monkeypatch.chdir(place)

    def make(*keys):
        made = built_detector("run", ["MODEL.DEVICE", "cpu", *keys])
        torch.manual_seed(0)
        livelier(made.model)
        return made, made.reader.read(PICTURE)

    return make


@pytest.mark.parametrize("keys", [[], REFINING, ["ENGINE.FAST_INFERENCE", "on"]])
def test_the_stages_lead_to_the_detector_s_own_boxes(built, keys):
    detector, image = built(*keys)
    stages = stages_of(detector, image)
    own = PictureDetector(detector)(PICTURE)
    assert stages.is_whole and len(own) > 3
    assert np.array_equal(stages.final.boxes, own.boxes)
    assert stages.size == (96, 72) and stages.seen == (85, 64)
    assert (stages.refined is None) == (keys != REFINING) == (stages.votes is None)


def test_with_a_pyramid_the_final_boxes_are_the_detector_s_and_the_path_says_it_is_another(built):
    """The stages follow the test's own scale; TEST.SCALES pools from two others."""
    detector, image = built("TEST.SCALES", "(40, 80)")
    stages = stages_of(detector, image)
    own = PictureDetector(detector)(PICTURE)
    assert not stages.is_whole and len(own) > 3
    assert np.array_equal(stages.final.boxes, own.boxes)


def test_proposals_are_the_region_proposal_network_s_own(built):
    """Detectron2's `proposal_generator`, scaled by hand from 85 x 64 to 96 x 72."""
    detector, image = built()
    with torch.no_grad():
        images = detector.model.preprocess_image([detector.mapper({"file_name": PICTURE})])
        features = detector.model.backbone(images.tensor)
        (expected,), _ = detector.model.proposal_generator(images, features, None)
    boxes = expected.proposal_boxes.tensor.numpy() * np.float32([96 / 85, 72 / 64] * 2)
    stages = stages_of(detector, image)
    assert len(stages.proposals) == len(boxes) > 3
    # One product of two numbers in float32: 2^-24 of 96 px.
    assert np.abs(stages.proposals - boxes).max() < 1e-4
    assert np.array_equal(proposals_of(detector, image, 3), stages.proposals[:3])


def test_without_refinement_each_box_is_a_prediction_of_its_region(built):
    """Of the box that NMS kept there is one prediction of that class; nothing moves it."""
    detector, image = built()
    stages = stages_of(detector, image)
    for place in range(len(stages.final)):
        same = (stages.predicted == stages.final.boxes[place]).all(axis=1)
        same &= stages.predicted_labels == stages.final.labels[place]
        assert same.sum() >= 1 and stages.moved(place) == 0
        assert stages.origin(place).startswith("proposal ")


def test_votes_are_counted_and_move_boxes(built):
    """By hand: at least the box itself votes; a box with one vote stays where NMS left it."""
    detector, image = built(*REFINING)
    stages = stages_of(detector, image)
    assert stages.votes.min() >= 1 and stages.votes.max() > 1
    moved = np.array([stages.moved(place) for place in range(len(stages.final))])
    assert moved[stages.votes == 1].max(initial=0) < 1e-4 and moved.max() > 0.01
    origins = {stages.origin(place).split(" ")[0] for place in range(len(stages.final))}
    assert origins == {"proposal", "refined"}


def test_the_page_says_what_is_off(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    words = ["run", "--explain", PICTURE, "--score", "0", "--output"]
    assert run_command("visualize", [*words, "off"]) == 0
    printed = capsys.readouterr().out
    assert "Box refinement and voting are off (TEST.BOX_REFINEMENT)" in printed
    assert "to the bit" in printed and "3. refined" not in printed
    assert run_command("visualize", [*words, "on", *REFINING]) == 0
    printed = capsys.readouterr().out
    assert "TEST.BOX_REFINEMENT is on" in printed and "4. kept by NMS" in printed
    html = (place / "on" / "index.html").read_text(encoding="utf-8")
    assert html.count("<img ") == 5 and "refined box" in html


def test_an_image_is_named_by_its_id_too_and_proposals_are_drawn(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    words = ["run", "--explain", "000004", "--output", "by_id", "--json"]
    assert run_command("visualize", words) == 0
    assert '"is_whole": true' in capsys.readouterr().out
    words = ["run", "--worst", "2", "--proposals", "5", "--output", "proposals"]
    assert run_command("visualize", words) == 0
    assert "proposals: the best 5 cover" in capsys.readouterr().out
    assert run_command("visualize", ["run", "--explain", "nine", "--output", "none"]) == 2
    assert "nine is no file, and by its id: " in capsys.readouterr().err
    results = place / "run" / "results" / "voc%3Avoc%3Atest"
    assert read_json(results / "images.json")["image_folder"].endswith("voc/JPEGImages")
