"""What four steps will be, and their room on the disk, before the first of them."""

import shutil
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("detectron2")

import resdet.detect  # noqa: F401 registers
from resdet.config import resolve
from resdet.data.records import DetectionSet
from resdet.detect.alternating.four_steps import AlternatingTraining
from resdet.detect.alternating.proposal_room import (
    most_of_an_image,
    proposal_bytes,
    require_room,
)
from resdet.detect.alternating.step_configs import shared_stages
from resdet.detect.alternating.step_plans import disk_of_steps, lines_of_steps, plans_of_steps
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.engine.starts.start_checks import BESIDE_BYTES
from resdet.errors import RunError, TrainingStopped
from resdet.formats.proposal_file import write_proposals
from resdet.run.folder import Run
from tests.support.preset_files import CONFIGS

Usage = namedtuple("Usage", "total used free")


def with_free(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))


@pytest.fixture(scope="module")
def cfg():
    """Ren et al.'s on VOC 2007 with VGG: RPN 80,000 images one by one, Fast R-CNN 40,000 pairs."""
    path = CONFIGS / "alternating" / "voc07_vgg16_alternating.yaml"
    config = resolve(path, ["MODEL.WEIGHTS", "w.safetensors", "MODEL.DEVICE", "cpu"])
    fill_from_weights_and_net(config, None)
    return config.cfg


def rpn_of(strides, anchors):
    generator = SimpleNamespace(strides=strides, num_anchors=anchors)
    return SimpleNamespace(proposal_generator=SimpleNamespace(anchor_generator=generator))


@pytest.mark.parametrize(
    ("before", "after", "most"),
    [(12_000, 2_000, 2_000), (1_000_000, 1_000_000, 22_464), (12_000, 1_000_000, 12_000)],
)
def test_no_image_has_more_proposals_than_anchors(before, after, most):
    """600 x 1,000 at stride 16: 39 x 64 cells at most, of nine anchors each."""
    opts = ["MODEL.RPN.PRE_NMS_TOPK_TRAIN", str(before), "MODEL.RPN.POST_NMS_TOPK_TRAIN",
            str(after), "INPUT.MIN_SIZE_TEST", "600", "INPUT.MAX_SIZE_TEST", "1000"]  # fmt: skip
    cfg = resolve(None, opts).cfg
    assert most_of_an_image(cfg, rpn_of([16], [9]), as_in_training=True) == most


def test_each_level_of_a_pyramid_has_its_own_cut():
    """Strides 32 and 64 of 600 x 1,000: 20 x 33 cells and 11 x 17, of three anchors each."""
    opts = ["MODEL.RPN.PRE_NMS_TOPK_TEST", "1000", "MODEL.RPN.POST_NMS_TOPK_TEST", "5000",
            "INPUT.MIN_SIZE_TEST", "600", "INPUT.MAX_SIZE_TEST", "1000"]  # fmt: skip
    cfg = resolve(None, opts).cfg
    most = most_of_an_image(cfg, rpn_of([32, 64], [3, 3]), as_in_training=False)
    assert most == 1000 + 3 * 11 * 17


def test_a_file_takes_no_more_than_was_computed(tmp_path, cfg):
    """2,000 of each image, as the step has; the ids are VOC's."""
    boxes, objectness = np.tile([0.0, 0.0, 9.0, 9.0], (2000, 1)), np.zeros(2000)
    entries = ((f"{n:06d}", boxes, objectness) for n in range(300))
    write_proposals(tmp_path / "p", entries, data_set="a", data_set_hash="h", weights="")
    size = (tmp_path / "p").stat().st_size
    bound = proposal_bytes(cfg, rpn_of([16], [9]), 300, as_in_training=True)
    assert 0.99 * bound < size < bound


def test_the_plan_has_each_step_by_itself_and_the_sum(cfg):
    """Ren et al. 3.1.3: 80,000 images, then 40,000 pairs, and both again; VOC 2007 has 5,011."""
    plans = plans_of_steps(cfg, [5011])
    assert [p.plan.steps for p in plans] == [80_000, 40_000, 80_000, 40_000]
    assert [p.plan.batch for p in plans] == [1, 2, 1, 2]
    assert [p.proposals for p in plans] == [2000, 0, 2000, 0]
    # VGG's 13 convolutions and an RPN of 512 channels and nine anchors; the same with fc6,
    # fc7 and 80 classes, as the config has them before a set is read.
    assert plans[0].plan.parameters == 14_714_688 + 9 * 512 * 512 + 512 + 45 * 513
    assert plans[1].plan.parameters == 14_714_688 + 25_089 * 4096 + 4097 * 4096 + 401 * 4097
    lines = "\n".join(lines_of_steps(cfg, [5011]))
    assert "step 1 of 4, RPN from the classifier:\n  batch      1 image: one process" in lines
    assert "  length     80,000 steps, 80,000 images: 16.0 epochs of 5,011\n" in lines
    assert "at most 191 MB of proposals and 191 MB more while they are joined" in lines
    assert "all four steps:\n  length     240,000 steps, 320,000 images\n" in lines


def test_what_a_step_leaves_is_there_in_the_next(cfg):
    """By hand: of each step two checkpoints of two copies and a result, twice the proposals; on top
    of it the whole detector at the end, for which there is one of each result."""
    plans = plans_of_steps(cfg, [5011])
    rpn, fast = (4 * p.plan.parameters for p in plans[:2])
    proposals = 4096 + 5011 * (2000 * 20 + 32)
    left = 2 * (5 * rpn + proposals) + 2 * 5 * fast + 4 * BESIDE_BYTES
    # The last step writes one more checkpoint, which is more than the whole detector.
    assert disk_of_steps(plans) == pytest.approx(left + 2 * fast, rel=1e-4)
    assert disk_of_steps(plans_of_steps(cfg, None)) < disk_of_steps(plans)


def test_steps_that_have_ended_need_no_more_than_they_left(cfg):
    """Of 100,000 images, the parts of step 3 are the most that any step needs."""
    plans = plans_of_steps(cfg, [100_000])
    needs = [planned.plan.disk for planned in plans]
    before = needs[0].stays + needs[1].stays
    assert disk_of_steps(plans) == disk_of_steps(plans, 2) == before + needs[2].most
    last = before + needs[2].stays + needs[3].most
    assert disk_of_steps(plans, 3) == last < disk_of_steps(plans)


def test_a_set_that_is_not_read_leaves_its_proposals_open(cfg):
    lines = lines_of_steps(cfg, None)
    assert "  proposals  of a training image at most 2,000" in lines
    assert lines[-1].endswith(", and the proposals of the training images: what each step writes "
                              "stays")  # fmt: skip


def test_four_steps_that_do_not_fit_are_refused_before_the_first(tmp_path, cfg, monkeypatch):
    """Nothing is trained and no step's folder is made; what is there already counts."""
    run = Run.create(tmp_path / "r", kind="detection", config_text="", command=[], seed=0)
    data = DetectionSet("mine", [{}] * 100_000, ("x",), (1,), ("coco",))
    steps = AlternatingTraining(cfg, run, [data], None, None, shared_stages(cfg))
    need = disk_of_steps(plans_of_steps(cfg, [100_000]))
    assert need > 3 * 4_000_000_000  # two files and the parts of one, of 4 GB each
    with_free(monkeypatch, need - 1)
    with pytest.raises(RunError, match=r"four steps, twice at most 3\.7 GB of proposals, and the"):
        steps.train(resuming=False)
    assert not (run.path / "alternating").exists()


def test_proposals_that_do_not_fit_are_not_begun(tmp_path, monkeypatch):
    """A file of 1,000 bytes at most and its parts. Half of the images are there with 200 bytes: the
    others may have 500, once in parts and once in the file, where those 200 are again."""
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "a").write_bytes(bytes(200))
    with_free(monkeypatch, 1200)
    require_room(tmp_path / "later", 1000, parts, left=0.5)
    with_free(monkeypatch, 2000)
    require_room(tmp_path / "later", 1000, tmp_path / "none")
    with_free(monkeypatch, 1199)
    with pytest.raises(TrainingStopped, match=r"proposals may need .*with --resume") as stopped:
        require_room(tmp_path / "later", 1000, parts, left=0.5)
    assert stopped.value.exit_code == 3
