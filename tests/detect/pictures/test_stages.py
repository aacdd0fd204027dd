"""The path of one picture: the last stage is the detector's own result, to the bit."""

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.structures import Boxes

from resdet.cli.main import run_command
from resdet.detect.from_run import built_detector
from resdet.detect.pictures.loaded_detector import PictureDetector
from resdet.detect.pictures.stages import proposals_of, stages_of
from resdet.errors import ConfigError
from resdet.run.folder import read_json
from tests.support import detector_runs
from tests.support.improved import livelier

PICTURE = "voc/JPEGImages/000004.jpg"
REFINING = ["TEST.BOX_REFINEMENT", "on"]
SCALES = ["TEST.SCALES", "(40, 80)"]
ENSEMBLE = ["TEST.ENSEMBLE", "('other',)"]
EVERY = [
    [], REFINING, ["ENGINE.FAST_INFERENCE", "on"], SCALES, ENSEMBLE, [*SCALES, *ENSEMBLE, *REFINING]
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("stages")
    detector_runs.train(place, "run")
    detector_runs.train(place, "other", "SEED", "9")
    detector_runs.train(place, "context", "MODEL.REGION_HEADS.CONTEXT", "True")
    return place


@pytest.fixture
def built(place, monkeypatch):
    """built(keys): the run's detector with scores that differ, and its picture."""
    monkeypatch.chdir(place)

    def make(*keys, name="run"):
        made = built_detector(name, ["MODEL.DEVICE", "cpu", *keys])
        torch.manual_seed(0)
        livelier(made.model)
        return made, made.reader.read(PICTURE)

    return make


@pytest.mark.parametrize("keys", EVERY, ids=" ".join)
def test_the_stages_lead_to_the_detector_s_own_boxes(built, keys):
    detector, image = built(*keys)
    stages = stages_of(detector, image)
    own = PictureDetector(detector)(PICTURE)
    assert stages.is_whole and len(own) > 3
    assert np.array_equal(stages.final.boxes, own.boxes)
    assert stages.size == (96, 72) and stages.seen == (85, 64)
    assert (stages.refined is None) == ("TEST.BOX_REFINEMENT" not in keys) == (stages.votes is None)


def test_the_sizes_of_a_pyramid_are_named(built):
    """96 x 72 at shorter sides of 40 and 80: 53.3 and 106.7 wide, which Detectron2 rounds."""
    detector, image = built("TEST.SCALES", "(40, 80)", *REFINING)
    assert stages_of(detector, image).levels == ((53, 40), (107, 80))
    detector, image = built()
    assert stages_of(detector, image).levels == ((85, 64),)


def test_members_of_an_ensemble_propose_one_after_the_other(built):
    """The same detector twice proposes nothing new; another one of other weights does."""
    detector, image = built("TEST.ENSEMBLE", "('other',)")
    stages = stages_of(detector, image)
    alone, theirs = (proposals_of(one, image, 10) for one in (detector, detector.members[0]))
    assert stages.proposed == (len(alone), len(theirs))
    assert np.array_equal(stages.proposals, np.concatenate([alone, theirs]))
    assert np.array_equal(stages.best_proposals(2), np.concatenate([alone[:2], theirs[:2]]))
    origins = {stages.origin(place)[-8:] for place in range(len(stages.final))}
    assert origins == {"member 1", "member 2"}
    detector, image = built("TEST.ENSEMBLE", "('run',)")
    torch.nn.Module.load_state_dict(detector.members[0].model, detector.model.state_dict())
    assert stages_of(detector, image).proposed == (len(alone), 0)


def test_with_context_predictions_are_those_of_the_region_beside_the_whole_image(built):
    """Detectron2's predictor by hand: features of regions and of the image, side by side."""
    detector, image = built(name="context")
    stages = stages_of(detector, image)
    heads, mapped = detector.model.roi_heads, detector.mapper({"file_name": PICTURE})
    with torch.no_grad():
        images = detector.model.preprocess_image([mapped])
        maps = detector.model.backbone(images.tensor)
        (proposals,), _ = detector.model.proposal_generator(images, maps, None)
        whole = proposals.proposal_boxes.tensor.new_tensor([[0.0, 0.0, 85.0, 64.0]])
        regions = heads.region_features(maps, [proposals.proposal_boxes])
        around = heads.region_features(maps, [Boxes(whole)]).expand(len(regions), -1)
        logits, _ = heads.box_predictor(torch.cat([regions, around], dim=1))
        scores = logits.softmax(dim=1)[:, :-1]
    expected = scores[scores > heads.box_predictor.test_score_thresh].numpy()
    assert stages.is_whole and len(expected) > 3
    assert np.abs(np.sort(stages.predicted_scores) - np.sort(expected)).max() < 1e-5


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


@pytest.mark.parametrize("keys", [[], SCALES, ENSEMBLE], ids=" ".join)
def test_without_refinement_each_box_is_a_prediction_of_its_region(built, keys):
    """Of the box that NMS kept there is one prediction of that class; nothing moves it."""
    detector, image = built(*keys)
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
    assert run_command("visualize", ["context", *words[1:], "more", *SCALES, *ENSEMBLE]) == 0
    printed = capsys.readouterr().out
    for sentence in (
        "TEST.SCALES is on: regions are pooled from two adjacent ones of 53x40, 107x80",
        "TEST.ENSEMBLE is on: 2 detectors propose ",
        "MODEL.REGION_HEADS.CONTEXT is on",
    ):
        assert sentence in printed


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


def test_a_detector_without_such_steps_has_a_page_of_what_it_can(built):
    """It advised to leave off a test of table 9 that was not on."""
    detector, image = built()
    detector.model.roi_heads.__class__ = CascadeROIHeads
    for asked in (lambda: stages_of(detector, image), lambda: proposals_of(detector, image, 5)):
        with pytest.raises(
            ConfigError, match=r"is CascadeROIHeads, .*visualize --explain.*StandardROIHeads; its"
        ) as page:
            asked()
        assert "TEST." not in str(page.value)
