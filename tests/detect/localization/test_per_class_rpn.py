"""The per-class RPN against the whole maps of its two siblings, and its anchors by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("detectron2")

from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from torchvision.ops import nms

from resdet.config import resolve
from resdet.detect.localization import per_class_rpn
from resdet.detect.localization.anchor_sampling import drawn, labelled
from resdet.detect.localization.per_class_rpn import PerClassRPN, build_per_class_rpn, clipped
from resdet.errors import ConfigError

CLASSES = 3
KEYS: tuple[Any, ...] = (
    "MODEL.NET.NAME", "resnet18", "MODEL.NET.WIDTH", "0.125", "MODEL.DEVICE", "cpu",
    "MODEL.BACKBONE.FREEZE_AT", "0", "LOC.STAGE", "res4", "LOC.HIDDEN", "8", "SEED", "3",
    "MODEL.ANCHOR_GENERATOR.SIZES", "[[16,32]]", "MODEL.RPN.SMOOTH_L1_BETA", "0.5",
)  # fmt: skip


def built(*more: str) -> PerClassRPN:
    cfg = resolve(None, [*KEYS, *more]).cfg
    model = build_per_class_rpn(cfg, CLASSES)
    # Outputs that differ from each other by more than rounding.
    for layer in (model.cls, model.reg):
        torch.nn.init.normal_(layer.weight, std=0.05)
        torch.nn.init.normal_(layer.bias, std=0.1)  # type: ignore[arg-type]
    return model.eval()


def image_and_box() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8), torch.tensor([[8.0, 8, 40, 40]])


def whole_outputs(model: PerClassRPN, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, K) logits and (A, K, 4) deltas of all anchors, from the siblings as convolutions."""
    hidden = model.hidden_map(image[None])
    number, k = model.num_anchors, CLASSES
    logits = model.cls(hidden)[0].view(number, k, -1).permute(2, 0, 1).reshape(-1, k)
    deltas = model.reg(hidden)[0].view(number, k, 4, -1).permute(3, 0, 1, 2).reshape(-1, k, 4)
    return logits, deltas


def test_losses_are_those_of_the_whole_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and deltas of all classes, then those of the image's: binary cross entropy and smooth
    L1 written out; each sum over 8 anchors of 2 images."""
    model, (image, box) = built(), image_and_box()
    places = {"positive": torch.tensor([21, 40]), "negative": torch.tensor([0, 3])}
    monkeypatch.setattr(
        per_class_rpn, "drawn", lambda labels, number: (places["positive"], places["negative"])
    )
    batch = [{"image": image, "boxes": box, "label": label} for label in (2, 0)]
    losses = model(batch)
    anchors = model.anchors_of(model.hidden_map(image[None]))
    cls = reg = torch.zeros(())
    for item in batch:
        logits, deltas = whole_outputs(model, image)
        mine = logits[:, item["label"]]
        target = model.transform.get_deltas(anchors[places["positive"]], box.expand(2, 4))
        cls = cls + F.softplus(-mine[places["positive"]]).sum()
        cls = cls + F.softplus(mine[places["negative"]]).sum()
        off = (deltas[places["positive"], item["label"]] - target).abs()
        reg = reg + torch.where(off < 0.5, off**2, off - 0.25).sum()
    torch.testing.assert_close(losses["loss_loc_cls"], cls / 16, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["loss_loc_reg"], reg / 16, rtol=1e-5, atol=1e-6)


def test_only_the_images_class_trains() -> None:
    """Rows of other classes have no gradient; a positive anchor moves the class's own four."""
    model, (image, box) = built(), image_and_box()
    torch.manual_seed(1)
    sum(v for n, v in model([{"image": image, "boxes": box, "label": 1}]).items()
        if n.startswith("loss")).backward()  # fmt: skip
    of_class = model.cls.weight.grad.view(model.num_anchors, CLASSES, -1)  # type: ignore[union-attr]
    moved = model.reg.weight.grad.view(model.num_anchors, CLASSES, -1)  # type: ignore[union-attr]
    assert of_class[:, 1].abs().sum() > 0 and moved[:, 1].abs().sum() > 0
    for grad in (of_class, moved):
        assert grad[:, [0, 2]].abs().sum() == 0


def test_candidates_are_those_of_the_whole_maps() -> None:
    """Every anchor decoded with the class's deltas, NMS by torchvision, best first."""
    model, (image, _) = built(), image_and_box()
    with torch.no_grad():
        logits, deltas = whole_outputs(model, image)
        anchors = model.anchors_of(model.hidden_map(image[None]))
    for found, k in zip(model.candidates(image, (2, 0), 3), (2, 0), strict=True):
        boxes = clipped(Box2BoxTransform((1, 1, 1, 1)).apply_deltas(deltas[:, k], anchors),
                        (64, 80))  # fmt: skip
        large = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        boxes, scores = boxes[large], logits[large, k].sigmoid()
        keep = nms(boxes, scores, 0.7)[:3]
        torch.testing.assert_close(found.boxes, boxes[keep], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found.scores, scores[keep], rtol=1e-4, atol=1e-5)
        assert len(found.scores) == 3


def test_an_image_without_a_box_has_negatives_alone() -> None:
    model, (image, _) = built(), image_and_box()
    losses = model([{"image": image, "boxes": torch.zeros(0, 4), "label": 1}])
    assert losses["loss_loc_reg"] == 0
    assert losses["loss_loc_cls"] > 0


def test_labels_of_anchors_by_hand() -> None:
    """Overlaps with a 10 x 10 object at the origin: 1, 0.5 (neither), 0, and one that crosses."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [20, 20, 30, 30], [-5, 0, 5, 10]])
    gt = torch.tensor([[0.0, 0, 10, 10]])
    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    labels, matches = labelled(anchors, gt, matcher, size=(40, 40), boundary=0)
    assert pairwise_iou(Boxes(gt), Boxes(anchors)).tolist()[0][:3] == [1.0, 0.5, 0.0]
    assert labels.tolist() == [1, -1, 0, -1]
    assert matches[0] == 0
    labels, _ = labelled(anchors, gt, matcher, size=(40, 40), boundary=-1)
    assert labels.tolist() == [1, -1, 0, -1 if 5 / 15 > 0.3 else 0]
    labels, _ = labelled(anchors, gt[:0], matcher, size=(40, 40), boundary=-1)
    assert labels.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(10, 50, (4, 4)), (2, 50, (2, 2)), (0, 50, (0, 4)), (10, 1, (4, 1))],
    ids=["many", "few", "none", "few-negatives"],
)
def test_positive_and_negative_anchors_are_one_to_one(
    positives: int, negatives: int, expected: tuple[int, int]
) -> None:
    """Appendix C: 8 anchors of an image, 1:1."""
    labels = torch.tensor([1] * positives + [0] * negatives + [-1] * 5)
    positive, negative = drawn(labels, 8)
    assert (len(positive), len(negative)) == expected
    assert (labels[positive] == 1).all() and (labels[negative] == 0).all()
    assert len({*positive.tolist(), *negative.tolist()}) == sum(expected)


def test_the_default_stage_is_the_nets_last() -> None:
    cfg = resolve(None, [*KEYS, "LOC.STAGE", ""]).cfg
    assert build_per_class_rpn(cfg, 2).stage == "res5"
    with pytest.raises(ConfigError, match=r"LOC\.STAGE is res9, and resnet18 has the stages stem"):
        build_per_class_rpn(resolve(None, [*KEYS, "LOC.STAGE", "res9"]).cfg, 2)
