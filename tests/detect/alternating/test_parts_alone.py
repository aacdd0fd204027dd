"""An RPN and a Fast R-CNN by themselves: stock Detectron2's to the bit, and what is refused."""

import copy
import json

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import DatasetMapper
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from PIL import Image

import resdet.detect  # noqa: F401 registers
from resdet.config import get_cfg, resolve
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect.alternating.proposal_source import ProposalSource, open_sources
from resdet.detect.alternating.step_configs import STEPS, config_of_step, shared_stages
from resdet.detect.architecture.model import fill_from_weights_and_net, refuse_parts
from resdet.detect.loading import Mapper
from resdet.errors import ConfigError, DataError
from resdet.formats.proposal_file import ProposalFile, write_proposals
from tests.support.detectors import config_of, images
from tests.support.preset_files import CONFIGS

OURS = ["MODEL.NET.NAME", "resnet18", "MODEL.NET.WIDTH", "0.25", "MODEL.WEIGHTS", "given here",
        "MODEL.ANCHOR_GENERATOR.SIZES", "[[32, 64]]", "MODEL.RPN.POST_NMS_TOPK_TEST", "20",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16"]  # fmt: skip
RPN = ["MODEL.META_ARCHITECTURE", "ProposalNetwork"]
FAST = ["MODEL.LOAD_PROPOSALS", "True"]
NO_GENERATOR = ["MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"]


def config_of_part(*opts):
    """Of the same detector, in Detectron2's own keys."""
    cfg = config_of(*OURS).clone()
    cfg.merge_from_list(list(opts))
    return cfg


def whole_and_part(*opts):
    """A Faster R-CNN, and a part of it with its weights."""
    torch.manual_seed(0)
    whole, part = build_model(config_of(*OURS)), build_model(config_of_part(*opts))
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()})
    return whole, part


def batch():
    found = images()
    for number, entry in enumerate(found):
        objects = Instances(tuple(entry["image"].shape[1:]))
        objects.gt_boxes = Boxes(torch.tensor([[10.0 + number, 12, 70, 90], [40, 30, 120, 130]]))
        objects.gt_classes = torch.tensor([1, 3])
        entry["instances"] = objects
    return found


def losses(model, given):
    model.train()
    torch.manual_seed(7)
    with EventStorage(0):
        values = model(given)
    sum(values.values()).backward()
    return {name: value.detach() for name, value in values.items()}


def test_an_rpn_alone_is_the_rpn_of_the_whole_detector_to_the_bit():
    """Losses, gradients and proposals; how many it proposes in training changes none of them."""
    whole, rpn = whole_and_part(*RPN)
    rpn.proposal_generator.pre_nms_topk[True] = 1
    assert {n.split(".")[0] for n, _ in rpn.named_parameters()} == {
        "backbone",
        "proposal_generator",
    }
    of_whole, alone = losses(whole, batch()), losses(rpn, batch())
    assert set(alone) == {"loss_rpn_cls", "loss_rpn_loc"}
    assert all(torch.equal(alone[name], of_whole[name]) for name in alone)
    head = [model.proposal_generator.rpn_head.conv.weight.grad for model in (whole, rpn)]
    assert torch.equal(*head) and head[0].abs().sum() > 0
    with torch.no_grad():
        given = images()
        outputs = rpn.eval()(given)
        preprocessed = whole.eval().preprocess_image(given)
        features = whole.backbone(preprocessed.tensor)
        expected, _ = whole.proposal_generator(preprocessed, features, None)
    for output, proposals in zip(outputs, expected, strict=True):
        assert torch.equal(output["proposals"].objectness_logits, proposals.objectness_logits)


def test_fast_rcnn_on_the_rpns_proposals_is_the_whole_detector_to_the_bit():
    whole, fast = whole_and_part(*FAST, *NO_GENERATOR)
    assert fast.proposal_generator is None
    given = images()
    with torch.no_grad():
        expected = whole.eval()(given)
        preprocessed = whole.preprocess_image(given)
        proposals, _ = whole.proposal_generator(
            preprocessed, whole.backbone(preprocessed.tensor), None
        )
        for entry, boxes in zip(given, proposals, strict=True):
            entry["proposals"] = boxes
        found = fast.eval()(given)
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one["instances"].scores, two["instances"].scores)
        assert torch.equal(one["instances"].pred_boxes.tensor, two["instances"].pred_boxes.tensor)


# -- files of proposals as input ------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """A picture, its record, and proposals of it that reach to the border and beyond one."""
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 255, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    record = {
        "file_name": str(tmp_path / "a.png"),
        "image_id": "a",
        "height": 90,
        "width": 120,
        "annotations": [{"bbox": [10, 10, 60, 50], "bbox_mode": 0, "category_id": 0}],
    }
    boxes = np.array(
        [[0.0, 0, 120, 90], [10.3, 20.7, 60.1, 55.9], [50, 40, 50, 80], [5, 6, 30, 20]]
    )
    write_proposals(
        tmp_path / "p", [("a", boxes, np.array([3.0, 2.0, 1.5, 1.0]))],
        data_set="mine", data_set_hash="h", weights="w",
    )  # fmt: skip
    data = DetectionSet("mine", [record], ("x",), (1,), ("coco",), hash="h")
    return record, data, tmp_path / "p"


@pytest.mark.parametrize("flip", ["none", "horizontal"])
def test_proposals_follow_their_image_as_in_detectron2s_own_mapper(files, flip):
    """Resized, mirrored, clipped, those without area left out, the best of them kept."""
    record, _, path = files
    cfg = get_detectron2_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (61, 75), flip
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.LOAD_PROPOSALS, cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = True, 2
    boxes, objectness = ProposalFile(path).of("a")
    theirs = {**copy.deepcopy(record), "proposal_boxes": boxes,
              "proposal_objectness_logits": objectness, "proposal_bbox_mode": 0}  # fmt: skip
    ours = Mapper.of(cfg, ImageReader(), True, ProposalSource([ProposalFile(path)], 2))
    for seed in range(4):
        found = []
        for mapper, given in ((DatasetMapper(cfg), theirs), (ours, record)):
            np.random.seed(seed)  # noqa: NPY002 Detectron2 draws from it
            found.append(mapper(copy.deepcopy(given)))
        one, two = (entry["proposals"] for entry in found)
        assert torch.equal(found[0]["image"], found[1]["image"])
        assert len(one) == 2 and torch.equal(one.proposal_boxes.tensor, two.proposal_boxes.tensor)
        assert torch.equal(one.objectness_logits, two.objectness_logits)


def fast_cfg(*paths, key="DATASETS.PROPOSAL_FILES_TRAIN"):
    cfg = get_cfg()
    cfg.MODEL.LOAD_PROPOSALS = True
    node = cfg.DATASETS
    setattr(node, key.rpartition(".")[2], tuple(map(str, paths)))
    return cfg


def test_a_file_for_each_set_and_of_its_set(files, tmp_path):
    record, data, path = files
    assert open_sources(get_cfg(), [data], is_train=True) is None
    source = open_sources(fast_cfg(path), [data], is_train=True)
    assert source is not None and source.most == 2000
    with pytest.raises(ConfigError, match="has 0 files, for 1 sets"):
        open_sources(fast_cfg(), [data], is_train=True)
    other = DetectionSet("mine", [record], ("x",), (1,), ("coco",), hash="changed")
    with pytest.raises(DataError, match="another version of it"):
        open_sources(fast_cfg(path), [other], is_train=True)
    more = DetectionSet("mine", [record, {**record, "image_id": "b"}], ("x",), (1,), (), hash="h")
    with pytest.raises(DataError, match=r"no proposals of 1 of the 2 images of mine.*'b'"):
        open_sources(fast_cfg(path), [more], is_train=True)
    write_proposals(
        tmp_path / "q", [("a", np.zeros((0, 4)), np.zeros(0))],
        data_set="yours", data_set_hash="y", weights="w",
    )  # fmt: skip
    yours = DetectionSet("yours", [record], ("x",), (1,), (), hash="y")
    with pytest.raises(ConfigError, match="mine and yours both have an image 'a'"):
        open_sources(fast_cfg(path, tmp_path / "q"), [data, yours], is_train=True)


# -- what goes together -----------------------------------------------------------------------


FOUR = ["SOLVER.SCHEME", "alternating"]


@pytest.mark.parametrize(
    ("opts", "why"),
    [
        (["SOLVER.RPN.MAX_ITER", "10"], "SOLVER.RPN.MAX_ITER is read with SOLVER.SCHEME"),
        ([*FOUR, "SOLVER.RPN.STEPS", "(3,)"], "SOLVER.RPN.MAX_ITER is 0"),
        ([*FOUR, *RPN], "MODEL.META_ARCHITECTURE ProposalNetwork"),
        ([*FOUR, *FAST], "MODEL.LOAD_PROPOSALS True"),
        ([*FOUR, "MODEL.ROI_HEADS.NAME", "StandardROIHeads"], "the C4 detector"),
        ([*FOUR, "TEST.EVAL_PERIOD", "10"], "no whole detector to measure"),
        (["SOLVER.SCHEME", "in_turn"], "expected one of 'joint', 'alternating'"),
        ([*RPN, "MODEL.ROI_HEADS.NMS_THRESH_TEST", "0.4"], "only with region heads"),
        ([*FAST, "MODEL.RPN.NMS_THRESH", "0.6"], "only with an RPN"),
        (["DATASETS.PROPOSAL_FILES_TRAIN", "('a',)"], "only with MODEL.LOAD_PROPOSALS True"),
    ],
)
def test_a_key_that_would_not_be_read_is_refused(opts, why):
    with pytest.raises(ConfigError, match=why):
        resolve(CONFIGS / "voc07_vgg16.yaml", opts)


def test_detectron2s_pickles_are_refused_before_anything_is_read():
    opts = [*FAST, "DATASETS.PROPOSAL_FILES_TRAIN", "('box_proposals.pkl',)"]
    with pytest.raises(ConfigError, match="pickles, which run what is in them"):
        config_of(*OURS[:6], *opts)
    with pytest.raises(ConfigError, match="this detector has no proposals"):
        config_of(*OURS, *NO_GENERATOR)


def test_a_part_of_a_detector_is_named_where_a_whole_one_is_expected():
    refuse_parts(config_of(*OURS), "runs/a")
    with pytest.raises(ConfigError, match="runs/a holds an RPN alone"):
        refuse_parts(config_of_part(*RPN), "runs/a")
    with pytest.raises(ConfigError, match="Fast R-CNN alone"):
        refuse_parts(config_of_part(*FAST), "runs/a")


@pytest.mark.parametrize(("net", "stages"), [("vgg16", 5), ("r101", 4)])
def test_steps_three_and_four_freeze_all_that_is_shared(tmp_path, net, stages):
    """VGG shares conv1 to conv5; a ResNet the stem to res4 (appendix A)."""
    path = CONFIGS / "alternating" / f"voc07_{net}_alternating.yaml"
    config = resolve(path, ["MODEL.WEIGHTS", "w.safetensors"])
    fill_from_weights_and_net(config, None)
    assert shared_stages(config.cfg) == stages
    configs = [
        config_of_step(config.cfg, step, tmp_path, weights="s2.pth", proposals=[tmp_path / "p"],
                       shared_stages=stages)
        for step in STEPS
    ]  # fmt: skip
    assert [c.MODEL.BACKBONE.FREEZE_AT for c in configs] == [2, 2, stages, stages]
    assert [c.MODEL.META_ARCHITECTURE for c in configs] == [RPN[1], "GeneralizedRCNN"] * 2
    assert [(c.SOLVER.MAX_ITER, tuple(c.SOLVER.STEPS)) for c in configs] == [
        (80_000, (60_000,)), (40_000, (30_000,)), (80_000, (60_000,)), (40_000, (30_000,)),
    ]  # fmt: skip
    assert [c.SOLVER.IMS_PER_BATCH for c in configs] == [1, 2, 1, 2]
    assert [c.MODEL.WEIGHTS for c in configs] == ["w.safetensors"] * 2 + ["s2.pth"] * 2
    assert {c.SOLVER.SCHEME for c in configs} == {"joint"}
    assert json.loads(json.dumps(configs[3].DATASETS.PROPOSAL_FILES_TRAIN)) == [str(tmp_path / "p")]
