"""`train_det --profile`: the same detector to the bit, and the detector's parts by name."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet import profile
from resdet.config import resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.profile_hooks import watch
from resdet.run.folder import Run
from tests.support import children, tiny, trainings

CONFIG = trainings.detector(trainings.HANDED_OVER, {"SOLVER.MAX_ITER": 4, "SOLVER.STEPS": [3]})
HEADS = ["RoI pooling", "RoI tail", "class and box layers"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("watched")
    tiny.voc_tree(place / "voc")
    (place / "c.yaml").write_text(CONFIG, encoding="utf-8")
    trainings.net_to_hand_over(place / "net.safetensors")
    for name, flags in (("off", ()), ("on", ("--profile",))):
        done = children.run_cli(
            *("train_det", "--config", "c.yaml", "--output", name, *flags),
            *("MODEL.WEIGHTS", "net.safetensors"),
            cwd=place,
        )
        assert done.returncode == 0, done.stderr
    (place / "output.txt").write_text(done.stdout, encoding="utf-8")
    return place


def sections(run):
    return {s["name"]: s for s in Run.open(run).read("profile.json")["sections"]}


def test_weights_losses_and_detections_are_equal_to_the_bit(place):
    off, on = (
        torch.load(place / n / "model_final.pth", weights_only=True)["model"] for n in ("off", "on")
    )
    assert off.keys() == on.keys() and all(torch.equal(off[k], on[k]) for k in off)
    losses = [
        [{k: v for k, v in row.items() if "loss" in k} for row in Run.open(place / n).metrics()]
        for n in ("off", "on")
    ]
    assert losses[0] == losses[1] and "total_loss" in losses[0][0]
    found = "*/coco_instances_results.json"
    (before,), (after,) = ((place / n / "results").glob(found) for n in ("off", "on"))
    assert before.read_bytes() == after.read_bytes()
    assert not list((place / "off").glob("profile.*"))


def test_training_is_told_in_the_users_terms(place):
    """Four steps of two images, so eight calls of NMS: Detectron2 calls it once an image."""
    steps = sections(place / "on")["training"]["steps"]
    assert steps["calls"] == 4
    assert list(steps["parts"]) == [
        "wait for data",
        "forward",
        "backward",
        "check of gradients",
        "optimizer step",
        "log and checkpoints",
    ]
    assert list(steps["parts"]["wait for data"]["parts"]) == ["decode", "resize and augment"]
    forward = steps["parts"]["forward"]["parts"]
    assert list(forward) == ["trunk", "RPN", "RoI heads"]
    assert list(forward["RPN"]["parts"]) == ["RPN layers", "NMS"]
    assert forward["RPN"]["parts"]["NMS"]["calls"] == 8
    assert list(forward["RoI heads"]["parts"]) == HEADS


def test_detecting_and_evaluation_are_told_too(place):
    """Three images; evaluation by VOC's rules alone, from the files."""
    report = sections(place / "on")
    assert list(report) == ["training", "detecting", "writing results", "evaluation"]
    heads = report["detecting"]["steps"]["parts"]["forward"]["parts"]["RoI heads"]["parts"]
    assert report["detecting"]["steps"]["calls"] == 3
    assert list(heads) == [*HEADS, "NMS"] and heads["NMS"]["calls"] == 3
    assert "match and sum up" in report["evaluation"]["steps"]["parts"]


def test_the_table_comes_last_and_the_picture_is_whole(place):
    report = (place / "output.txt").read_text(encoding="utf-8")
    assert report.index("run folder:") < report.index("Where the time of train_det went")
    texts = [e.text for e in ET.parse(place / "on" / "profile.svg").getroot().iter()]
    assert "Where the time of train_det went" in texts


def test_scoring_alone_with_workers_and_the_fast_form(place):
    """Decoding goes to the workers' account; regions of the fast form keep their names."""
    done = children.run_cli(
        *("train_det", "--config", "c.yaml", "--output", "fast", "--eval-only", "--profile"),
        *("MODEL.WEIGHTS", "off/model_final.pth", "DATALOADER.NUM_WORKERS", "1"),
        *("ENGINE.FAST_INFERENCE", "on"),
        cwd=place,
    )
    assert done.returncode == 0, done.stderr
    detecting = sections(place / "fast")["detecting"]
    assert detecting["steps"]["parts"]["wait for data"].get("parts") is None
    assert {k: v["calls"] for k, v in detecting["beside"].items()} == {
        "decode": 3,
        "resize and augment": 3,
    }
    heads = detecting["steps"]["parts"]["forward"]["parts"]["RoI heads"]["parts"]
    assert set(heads) == {*HEADS, "NMS"}
    assert "not in the sum: decode" in done.stdout


FEW = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "given here", "MODEL.NET.WIDTH", "0.125",
       "MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16",
       "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]  # fmt: skip


@pytest.fixture
def pyramid():
    """Detectron2's own region heads, which have other names for their parts."""
    config = resolve(Path(__file__).parents[2] / "configs" / "fpn/coco_r50_fpn.yaml", FEW)
    fill_from_weights_and_net(config, None)
    torch.manual_seed(0)
    return build_model(config.cfg).eval()


def test_detectron2s_own_heads_are_watched_and_found_the_same(pyramid):
    images = [{"image": torch.randint(0, 255, (3, 64, 64))}]
    with torch.no_grad():
        before = pyramid(images)[0]["instances"]
        record = profile.Profile("work")
        with profile.recording(record):
            watch(pyramid)
            with profile.section("detecting", "image"), profile.step():
                after = pyramid(images)[0]["instances"]
    assert torch.equal(before.pred_boxes.tensor, after.pred_boxes.tensor)
    assert torch.equal(before.scores, after.scores) and len(before)
    parts = record.report().sections[0].steps.parts
    assert list(parts) == ["trunk", "RPN", "RoI heads"]
    assert list(parts["RoI heads"].parts) == [*HEADS, "NMS"]


def test_without_a_profile_a_model_gets_no_hook(pyramid):
    watch(pyramid)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pyramid.modules())


def test_a_forward_that_fails_ends_its_spans_and_its_mode(pyramid):
    """Else every later torch call would go through the mode."""
    record = profile.Profile("work")
    with profile.recording(record):
        watch(pyramid)
        with profile.section("detecting", "image"), profile.step():
            with pytest.raises(TypeError):
                pyramid.roi_heads(None, None, None)
            with profile.span("next"):
                pass
    assert list(record.report().sections[0].steps.parts) == ["RoI heads", "next"]
    assert torch.overrides._get_current_function_mode() is None
