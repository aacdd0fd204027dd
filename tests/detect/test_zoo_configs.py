"""Detectron2's own configs, typed as they are: trained, or refused with what to type instead.

The files are those that the installed Detectron2 ships in its model_zoo.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet import nets
from resdet.config import Config, resolve
from resdet.config.config_file import read_file
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.testing import expected_results
from resdet.detect.trainer import DetectorTraining
from resdet.errors import ConfigError
from resdet.weights import Card
from resdet.weights.cards import Input

ROOT = Path(model_zoo.__file__).parent / "configs"
# What a person names: no bases.
CONFIGS = sorted(p for p in ROOT.rglob("*.yaml") if not p.name.startswith("Base"))
BGR = Input("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))

# Trained as they are.
FASTER = {
    *(
        f"COCO-Detection/faster_rcnn_{net}.yaml"
        for net in (
            "R_50_C4_1x", "R_50_C4_3x", "R_50_DC5_1x", "R_50_DC5_3x", "R_50_FPN_1x", "R_50_FPN_3x",
            "R_101_C4_3x", "R_101_DC5_3x", "R_101_FPN_3x", "X_101_32x8d_FPN_3x",
        )
    ),
    "Detectron1-Comparisons/faster_rcnn_R_50_FPN_noaug_1x.yaml",
    "PascalVOC-Detection/faster_rcnn_R_50_C4.yaml",
    "PascalVOC-Detection/faster_rcnn_R_50_FPN.yaml",
}  # fmt: skip
MASKS = {
    *(
        f"COCO-InstanceSegmentation/mask_rcnn_{net}.yaml"
        for net in (
            "R_50_C4_1x", "R_50_C4_3x", "R_50_DC5_1x", "R_50_DC5_3x", "R_50_FPN_1x", "R_50_FPN_3x",
            "R_50_FPN_1x_giou", "R_101_C4_3x", "R_101_DC5_3x", "R_101_FPN_3x",
            "X_101_32x8d_FPN_3x",
        )
    ),
    "Cityscapes/mask_rcnn_R_50_FPN.yaml",
    "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x.yaml",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
    "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml",
    "Misc/mask_rcnn_R_50_FPN_1x_cls_agnostic.yaml",
    "Misc/mask_rcnn_R_50_FPN_3x_gn.yaml",
    "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn.yaml",
    "Misc/scratch_mask_rcnn_R_50_FPN_9x_gn.yaml",
    *(
        f"quick_schedules/{name}.yaml"
        for name in (
            "cascade_mask_rcnn_R_50_FPN_inference_acc_test",
            "cascade_mask_rcnn_R_50_FPN_instant_test",
            "mask_rcnn_R_50_C4_GCV_instant_test",
            "mask_rcnn_R_50_C4_inference_acc_test",
            "mask_rcnn_R_50_C4_instant_test",
            "mask_rcnn_R_50_C4_training_acc_test",
            "mask_rcnn_R_50_DC5_inference_acc_test",
            "mask_rcnn_R_50_FPN_instant_test",
            "mask_rcnn_R_50_FPN_pred_boxes_training_acc_test",
            "mask_rcnn_R_50_FPN_training_acc_test",
        )
    ),
}  # fmt: skip
# An RPN alone: its proposals and their recall. The quick ones state results of another recall.
RPN = {"COCO-Detection/rpn_R_50_C4_1x.yaml", "COCO-Detection/rpn_R_50_FPN_1x.yaml",
       "quick_schedules/rpn_R_50_FPN_instant_test.yaml",
       "quick_schedules/rpn_R_50_FPN_inference_acc_test.yaml"}  # fmt: skip
# By what stands in a name: not a Faster R-CNN, whatever else is typed.
NEVER = {
    "retinanet": "RetinaNet, a detector without regions, is not built yet",
    "panoptic": "panoptic segmentation is not trained here",
    "semantic": "semantic segmentation has no boxes",
}
# The rest is trained without what its page names.
WITHOUT = {
    "fast_rcnn": "proposal files are pickles",
    "keypoint": "keypoints are not trained here",
    "mask_rcnn": "(samplers by class|crops for detection|testing at several scales) (are|is) not "
    "built|PRETRAIN.BN_IMAGES|compiled operators",
}


def as_train_det_reads_it(path: Path, opts: list[str]) -> Config:
    """As far as `train_det --explain` goes before it looks at weights."""
    config = resolve(path, opts)
    cfg = config.cfg
    expected_results.check_form(
        cfg.TEST.EXPECTED_RESULTS, cfg.DATASETS.TEST, masks=cfg.MODEL.MASK_ON
    )
    config.cfg.MODEL.WEIGHTS = "a file"
    fill_from_weights_and_net(config, None)
    return config


def reason_of(path: Path, table: dict[str, str]) -> str:
    """Of the first entry whose name is a word of the file's."""
    return next((why for name, why in table.items() if re.search(rf"(^|_){name}", path.stem)), "")


def test_there_are_as_many_as_detectron2_ships():
    """0.6 and its main alike: a new one is looked at here before it is in no list."""
    relative = {p.relative_to(ROOT).as_posix() for p in CONFIGS}
    assert relative >= FASTER | MASKS
    assert len(CONFIGS) > 70
    covered = [p for p in CONFIGS if reason_of(p, NEVER) or reason_of(p, WITHOUT)]
    assert relative - FASTER - RPN == {p.relative_to(ROOT).as_posix() for p in covered}


@pytest.mark.parametrize("name", sorted(FASTER | MASKS))
def test_a_faster_or_mask_rcnn_is_read_as_it_is(name):
    config = as_train_det_reads_it(ROOT / name, [])
    assert config.cfg.MODEL.BACKBONE.NAME.startswith("build_resnet")
    assert (name in MASKS) == config.cfg.MODEL.MASK_ON


@pytest.mark.parametrize("name", sorted(RPN))
def test_an_rpn_alone_is_read_but_for_results_by_detectron2s_own_recall(name):
    opts = ["TEST.EXPECTED_RESULTS", "()"] if name.endswith("acc_test.yaml") else []
    config = as_train_det_reads_it(ROOT / name, opts)
    assert config.cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork"


@pytest.mark.parametrize("path", [p for p in CONFIGS if reason_of(p, NEVER)], ids=lambda p: p.stem)
def test_what_is_no_faster_rcnn_is_refused_with_the_reason_alone(path):
    """One statement: a mask in a panoptic config is not what keeps it out."""
    with pytest.raises(ConfigError, match=reason_of(path, NEVER)) as caught:
        as_train_det_reads_it(path, [])
    assert "MODEL.META_ARCHITECTURE is " in str(caught.value)
    assert "MASK_ON" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in CONFIGS
        if reason_of(p, WITHOUT)
        and not reason_of(p, NEVER)
        and p.relative_to(ROOT).as_posix() not in MASKS
    ],
    ids=lambda p: p.stem,
)
def test_the_others_are_read_once_what_their_page_names_is_typed(path):
    """The page's own words, typed: then there is no second page but for expected results."""
    with pytest.raises(ConfigError, match=reason_of(path, WITHOUT)) as caught:
        as_train_det_reads_it(path, [])
    if "compiled operators" in str(caught.value):
        return  # there is nothing to type where Detectron2 was installed without them
    typed: list[str] = []
    for _ in range(2):
        typed += [
            word for line in re.findall(r"or add: (.+)", str(caught.value)) for word in
            shlex.split(line)
        ]  # fmt: skip
        try:
            config = as_train_det_reads_it(path, typed)
            break
        except ConfigError as error:
            if "dconv" in path.stem and "compiled operators" in str(error):
                return  # there is nothing to type where Detectron2 was installed without them
            assert "TEST.EXPECTED_RESULTS" in str(error)
            caught = SimpleNamespace(value=error)
    assert not config.cfg.MODEL.KEYPOINT_ON
    assert ("mask_rcnn" in path.stem) == config.cfg.MODEL.MASK_ON


def test_a_lazy_config_is_not_run(tmp_path):
    with pytest.raises(ConfigError, match="is Python, which would have to be run"):
        resolve(ROOT / "COCO-Detection" / "retinanet_R_50_FPN_1x.py")


# -- RetinaNet's anchors -----------------------------------------------------------------------


def test_the_anchors_of_base_retinanet_are_read_without_running_them():
    """Three sizes an octave: 32 times 1, 2^(1/3), 2^(2/3), and so on; as eval has them."""
    entries = {key: value for key, value, _ in read_file(ROOT / "Base-RetinaNet.yaml")}
    expected = [[x, x * 2 ** (1.0 / 3), x * 2 ** (2.0 / 3)] for x in [32, 64, 128, 256, 512]]
    assert entries["MODEL.ANCHOR_GENERATOR.SIZES"] == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "(lambda: 1)()", "[x for x in range(9)]", "'a' * 9",
        "9 ** 9 ** 9", "2 ** 999", "((9 ** 64) ** 64) ** 3", "[[y for y in [1]] for x in [1]]",
        "x", "1 / 0", "True",
        "[x for x in [1] if x]", "(-8) ** 0.5 * 2", "[1][0]", "1 if 1 else 2", "1 <", "{1: 2}",
    ],
)  # fmt: skip
def test_any_other_expression_is_refused(text, tmp_path):
    file = tmp_path / "c.yaml"
    tag = "!!python/object/apply:eval"
    file.write_text(f'SOLVER:\n  STEPS: {tag} ["{text}"]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 2: the tag .*eval would run code; refused"):
        list(read_file(file))


# -- ImageNet's weights in Detectron2's own ResNet ---------------------------------------------


@pytest.fixture(scope="module")
def r50() -> dict[str, Any]:
    """A classifier of 50 layers with statistics that are not those of a fresh norm."""
    torch.manual_seed(0)
    net = nets.build("resnet50", num_classes=2)
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.normal_(0.0, 0.1)
    return {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("kind", ["C4", "DC5", "FPN"])
def test_a_classifier_arrives_in_a_stock_config_as_detectron2_loads_it(kind, r50, tmp_path):
    """Detectron2's own checkpointer, from the same tensors: every tensor of the net, to the bit."""
    path = ROOT / "COCO-Detection" / f"faster_rcnn_R_50_{kind}_1x.yaml"
    small = [] if kind == "C4" else ["MODEL.ROI_BOX_HEAD.FC_DIM", "8"]
    config = resolve(path, ["MODEL.DEVICE", "cpu", *small])
    fill_from_weights_and_net(config, Card("resnet50", BGR, {"stride_in_1x1": True}))
    cfg = config.cfg
    assert (cfg.MODEL.NET.NAME, cfg.MODEL.RESNETS.DEPTH) == ("", 50)
    torch.manual_seed(1)
    ours, theirs = build_model(cfg), build_model(cfg)
    run: Any = SimpleNamespace(write=lambda *_: None)
    training: Any = SimpleNamespace(model=ours, cfg=cfg, run=run)
    received = DetectorTraining.load_backbone(training, r50, "r50.pth")
    assert [n for n in received.left_over if not n.startswith("linear.")] == []
    file = tmp_path / "r50.pth"
    torch.save({"model": r50, "matching_heuristics": True}, file)
    DetectionCheckpointer(theirs).load(str(file))
    of_net = (".stem.", ".res2.", ".res3.", ".res4.", ".res5.")
    state = theirs.state_dict()
    names = [
        name
        for name in state
        if any(part in f".{name}" for part in of_net) and not name.endswith("num_batches_tracked")
    ]
    assert len(names) == received.expected == 265
    for name in names:
        assert torch.equal(ours.state_dict()[name], state[name])


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (Card("vgg16", BGR), "Detectron2's own ResNet, but the weights are of vgg16. Give"),
        (Card("resnet50", BGR, {"width": 0.5}), "the weights are of resnet50 with width. Give"),
        (
            Card("resnet101", BGR),
            r"DEPTH is 50 \(faster_rcnn_R_50_C4_1x.yaml, line 6\).*expected 101",
        ),
        (Card("resnet50", Input("RGB", (1.0,) * 3, (1.0,) * 3)), ""),
    ],
    ids=["vgg", "narrow", "other-depth", "other-input"],
)
def test_weights_of_another_net_are_refused_by_a_stock_config(card, message):
    config = resolve(
        ROOT / "COCO-Detection" / "faster_rcnn_R_50_C4_1x.yaml", ["MODEL.WEIGHTS", "f"]
    )
    if not message:  # what was not stated follows from the card
        fill_from_weights_and_net(config, card)
        assert (config.cfg.INPUT.FORMAT, config.cfg.MODEL.PIXEL_STD) == ("RGB", [1.0, 1.0, 1.0])
        return
    with pytest.raises(ConfigError, match=message):
        fill_from_weights_and_net(config, card)


def test_a_stock_net_from_random_weights_is_never_frozen():
    """As for our nets: live norms and nothing frozen, or a refusal where it was stated."""
    path = ROOT / "COCO-Detection" / "faster_rcnn_R_50_C4_1x.yaml"
    opts = ["MODEL.WEIGHTS", "", "TRANSFER.FROM_SCRATCH", "True"]
    config = resolve(path, opts)
    fill_from_weights_and_net(config, None)
    assert (config.cfg.MODEL.BACKBONE.FREEZE_AT, config.cfg.MODEL.RESNETS.NORM) == (0, "BN")
    config = resolve(path, [*opts, "MODEL.RESNETS.NORM", "FrozenBN"])
    with pytest.raises(ConfigError, match="NORM is 'FrozenBN' .*random weights are never frozen"):
        fill_from_weights_and_net(config, None)
