"""The RPN of ImageNet's localisation: a score and a box for every class at every anchor.

    trunk of the classifier ─ 3x3 convolution, ReLU ─┬─ cls, 1x1: A x K logits a cell
                                                     └─ reg, 1x1: A x K x 4 deltas a cell

Each logit is a binary logistic regression, "is this anchor an object of class k". An image has one
class; on its sampled anchors the logit of that class trains, and of positive ones its four deltas.
So only these weights are looked up in training, and only those of the classes that are asked for
in test: K may be 1,000.

Terms: N images, K classes, A anchors a cell, C channels, H x W cells.

Source: He et al. 2015, appendix C. It states 1000-d and 1000 x 4-d outputs, anchors, 8 of an image
1:1; whether the outputs are per anchor is open (docs/imagenet.md): here they are, as those of Ren
et al. 2015 are.

Not for: which anchors train (`anchor_sampling`), or images (`loc_images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from fvcore.nn import smooth_l1_loss
from torch import nn

from resdet.detect.architecture.backbone import NetBackbone, build_net, net_backbone
from resdet.detect.localization.anchor_sampling import drawn, labelled
from resdet.errors import ConfigError

Batch = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Candidates:
    """Of one class on one image: (n, 4) boxes in its pixels, and (n,) scores, best first."""

    boxes: torch.Tensor
    scores: torch.Tensor


class PerClassRPN(nn.Module):
    """A batch of images of one size to losses; an image and classes to candidates.

    Args:
        trunk: gives the map of `stage`.
        num_classes: K.
        hidden: channels of the 3x3 convolution.
        anchors: Detectron2's generator over that one map.
        matcher, transform: of anchors and their objects.
        pixel_mean, pixel_std: per channel, in the order of the images.
        boundary: as in `anchor_sampling.labelled`.
        per_image: anchors of an image that train.
        beta: of the smooth L1 loss.
        nms: overlap above which the worse of two boxes of a class goes.
    """

    def __init__(
        self,
        trunk: NetBackbone,
        stage: str,
        num_classes: int,
        *,
        hidden: int,
        anchors: nn.Module,
        matcher: Matcher,
        transform: Box2BoxTransform,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        boundary: float,
        per_image: int,
        beta: float,
        nms: float,
    ):
        super().__init__()
        self.backbone = trunk
        self.stage = stage
        self.num_classes = num_classes
        self.anchor_generator = anchors
        self.matcher = matcher
        self.transform = transform
        self.boundary = boundary
        self.per_image = per_image
        self.beta = beta
        self.nms = nms
        self.num_anchors: int = anchors.num_anchors[0]  # type: ignore[index,assignment]
        channels = trunk.output_shape()[stage].channels or 0
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.cls = nn.Conv2d(hidden, self.num_anchors * num_classes, 1)
        self.reg = nn.Conv2d(hidden, self.num_anchors * num_classes * 4, 1)
        for layer in (self.conv, self.cls, self.reg):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(_bias(layer))
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.cls.weight.device

    def hidden_map(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) pixels to (N, C, H', W')."""
        mean, std = self.pixel_mean, self.pixel_std
        assert isinstance(mean, torch.Tensor) and isinstance(std, torch.Tensor)
        maps = self.backbone((images.to(self.device).float() - mean) / std)
        return F.relu(self.conv(maps[self.stage]))

    def anchors_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """(H' W' A, 4), cell by cell, the anchors of a cell side by side."""
        (boxes,) = self.anchor_generator([hidden])
        anchors: torch.Tensor = boxes.tensor
        return anchors

    # -- training --------------------------------------------------------------------------

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The losses of a batch.

        Args:
            batch: "image" (3, S, S) of one size, "boxes" (G, 4) of its objects, "label" in [0, K).
        """
        images = torch.stack([item["image"] for item in batch])
        hidden = self.hidden_map(images)
        anchors = self.anchors_of(hidden)
        size = (images.shape[-2], images.shape[-1])
        rows = [self._targets(anchors, item, size) for item in batch]
        image = torch.cat([torch.full_like(r[0], n) for n, r in enumerate(rows)])
        place, positive, target = (torch.cat([r[i] for r in rows]) for i in range(3))
        label = torch.tensor([item["label"] for item in batch], device=self.device)[image]
        cell, anchor = place // self.num_anchors, place % self.num_anchors
        features = hidden.flatten(2)[image, :, cell]  # S x C
        output = anchor * self.num_classes + label
        logits = (features * self.cls.weight[output, :, 0, 0]).sum(1) + _bias(self.cls)[output]
        # In every batch of this many images, so that a step with few positives is no larger.
        count = self.per_image * len(batch)
        cls_loss = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="sum")
        four = output[positive, None] * 4 + torch.arange(4, device=self.device)
        weights = self.reg.weight[four, :, 0, 0]  # P x 4 x C
        deltas = (features[positive, None] * weights).sum(2) + _bias(self.reg)[four]
        reg_loss = smooth_l1_loss(deltas, target[positive], self.beta, reduction="sum")
        accuracy = ((logits > 0) == positive).float().mean() if len(logits) else logits.sum()
        return {
            "loss_loc_cls": cls_loss / count,
            "loss_loc_reg": reg_loss / count,
            "metric/anchor_accuracy": accuracy.detach(),
        }

    def _targets(
        self, anchors: torch.Tensor, item: dict[str, Any], size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Places of the anchors of an image that train, which are positive, and their deltas."""
        gt = item["boxes"].to(self.device)
        labels, matches = labelled(anchors, gt, self.matcher, size=size, boundary=self.boundary)
        positive, negative = drawn(labels, self.per_image)
        places = torch.cat([positive, negative])
        is_positive = torch.arange(len(places), device=self.device) < len(positive)
        targets = torch.zeros(len(places), 4, device=self.device)
        if len(positive):
            matched = gt[matches[positive]]
            targets[: len(positive)] = self.transform.get_deltas(anchors[positive], matched)
        return places, is_positive, targets

    # -- test ------------------------------------------------------------------------------

    @torch.no_grad()
    def candidates(
        self, image: torch.Tensor, classes: Sequence[int], number: int
    ) -> list[Candidates]:
        """The best boxes of each class on an image (3, H, W), after NMS, in its pixels.

        Args:
            number: at most so many of each class.
        """
        hidden = self.hidden_map(image[None])
        anchors = self.anchors_of(hidden)
        ks = torch.tensor(list(classes), device=self.device)
        steps = torch.arange(self.num_anchors, device=self.device) * self.num_classes
        outputs = (steps[:, None] + ks).flatten()  # anchor by anchor, its classes side by side
        four = (outputs[:, None] * 4 + torch.arange(4, device=self.device)).flatten()
        logits = F.conv2d(hidden, self.cls.weight[outputs], _bias(self.cls)[outputs])
        deltas = F.conv2d(hidden, self.reg.weight[four], _bias(self.reg)[four])
        # 1 x (A k) x H x W to (H W A) x k, as the anchors lie.
        scores = logits[0].view(self.num_anchors, len(ks), -1).permute(2, 0, 1).flatten(0, 1)
        moved = deltas[0].view(self.num_anchors, len(ks), 4, -1).permute(3, 0, 1, 2).flatten(0, 1)
        size = (image.shape[-2], image.shape[-1])
        return [
            self._kept(anchors, moved[:, n], scores[:, n].float().sigmoid(), size, number)
            for n in range(len(ks))
        ]

    def _kept(
        self,
        anchors: torch.Tensor,
        deltas: torch.Tensor,
        scores: torch.Tensor,
        size: tuple[int, int],
        number: int,
    ) -> Candidates:
        boxes = clipped(self.transform.apply_deltas(deltas.float(), anchors), size)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1) & torch.isfinite(scores)
        boxes, scores = boxes[large], scores[large]
        return best(Candidates(boxes, scores), number, self.nms)


def _bias(layer: nn.Conv2d) -> torch.Tensor:
    assert layer.bias is not None
    return layer.bias


def clipped(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Boxes within an image of (height, width)."""
    height, width = size
    limits = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limits)


def best(candidates: Candidates, number: int, nms: float) -> Candidates:
    """The best ones after NMS; equal scores keep their order."""
    boxes, scores = candidates.boxes, candidates.scores
    order = torch.sort(scores, descending=True, stable=True).indices
    boxes, scores = boxes[order], scores[order]
    keep = batched_nms(boxes, scores, torch.zeros_like(order), nms)[:number]
    return Candidates(boxes[keep], scores[keep])


def build_per_class_rpn(cfg: Any, num_classes: int) -> PerClassRPN:
    """From a resolved config; new layers start from SEED.

    Raises:
        ConfigError: the net has no such stage, or what `net_backbone` refuses.
    """
    torch.manual_seed(cfg.SEED)
    net = build_net(cfg)
    names = [stage.name for stage in net.stages()]
    stage = cfg.LOC.STAGE or names[-1]
    if stage not in names:
        raise ConfigError(
            f"LOC.STAGE is {stage}, and {cfg.MODEL.NET.NAME} has the stages {', '.join(names)}."
        )
    trunk = net_backbone(cfg, net, [stage])
    shape = trunk.output_shape()[stage]
    torch.manual_seed(cfg.SEED)
    model = PerClassRPN(
        trunk,
        stage,
        num_classes,
        hidden=cfg.LOC.HIDDEN,
        anchors=build_anchor_generator(cfg, [ShapeSpec(stride=shape.stride)]),
        matcher=Matcher(
            cfg.MODEL.RPN.IOU_THRESHOLDS, cfg.MODEL.RPN.IOU_LABELS, allow_low_quality_matches=True
        ),
        transform=Box2BoxTransform(weights=cfg.MODEL.RPN.BBOX_REG_WEIGHTS),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        boundary=cfg.MODEL.RPN.BOUNDARY_THRESH,
        per_image=cfg.LOC.ANCHORS_PER_IMAGE,
        beta=cfg.MODEL.RPN.SMOOTH_L1_BETA,
        nms=cfg.MODEL.RPN.NMS_THRESH,
    )
    return model.to(cfg.MODEL.DEVICE)
