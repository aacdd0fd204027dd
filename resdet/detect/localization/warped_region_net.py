"""R-CNN of ImageNet's localisation: a classifier over warped regions, scores and boxes per class.

The whole net runs on each region, cropped and warped to a square. In the place of its last layer
are two siblings: cls, a binary logistic regression for each class, and reg, four deltas for each.
As in the per-class RPN, of a region of class k the outputs of k alone train.

Source: He et al. 2015, appendix C; Girshick et al. 2014 for R-CNN. Positive from an overlap of 0.5
with an object of the class; deltas are scaled as Fast R-CNN's (10, 10, 5, 5).

Not for: cropping and warping (`loc_images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import smooth_l1_loss
from torch import nn

from resdet.detect.architecture.backbone import build_net
from resdet.detect.architecture.norms import freeze_norms
from resdet.detect.localization.per_class_rpn import Candidates, clipped
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
POSITIVE_OVERLAP = 0.5
# Of 128 regions of a batch 32 are positive (Girshick et al. 2014, section 2.3).
POSITIVE_SHARE = 0.25


class WarpedRegionNet(nn.Module):
    """A batch of warped regions to losses; regions of an image to new scores and boxes.

    Args:
        net: a classifier of ours whose last layer is `linear`; it is taken out.
        num_classes: K.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        beta: float = 1.0,
        precision: Precision = Precision(),  # noqa: B008 frozen
    ):
        super().__init__()
        last = getattr(net, "linear", None)
        if not isinstance(last, nn.Linear):
            raise ConfigError(
                f"LOC.RCNN needs a net of resdet's own, whose last layer is known, not a "
                f"{type(net).__name__}. Set LOC.RCNN off."
            )
        net.linear = nn.Identity()
        self.net = net
        self.num_classes = num_classes
        self.beta = beta
        self.precision = precision
        self.transform = Box2BoxTransform(weights=BOX_WEIGHTS)
        self.cls = nn.Linear(last.in_features, num_classes)
        self.reg = nn.Linear(last.in_features, 4 * num_classes)
        for layer, std in ((self.cls, 0.01), (self.reg, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.cls.weight.device

    def outputs(
        self, regions: torch.Tensor, label: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(R,) logits and (R, 4) deltas of warped regions (R, 3, S, S), each for its class."""
        mean, std = self.pixel_mean, self.pixel_std
        assert isinstance(mean, torch.Tensor) and isinstance(std, torch.Tensor)
        with self.precision.autocast():
            features = self.net(self.precision.input((regions.float() - mean) / std))
        features = features.float()
        logits = (features * self.cls.weight[label]).sum(1) + self.cls.bias[label]
        four = label[:, None] * 4 + torch.arange(4, device=label.device)
        deltas = (features[:, None] * self.reg.weight[four]).sum(2) + self.reg.bias[four]
        return logits, deltas

    def forward(self, batch: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The losses of a batch.

        Args:
            batch: "image" (3, S, S), the warped region; "label" in [0, K); "box" (4,), the region;
                "gt_box" (4,), the object of that class that it overlaps most; "positive".
        """
        regions = torch.stack([item["image"] for item in batch]).to(self.device)
        label = torch.tensor([item["label"] for item in batch], device=self.device)
        positive = torch.tensor([item["positive"] for item in batch], device=self.device)
        box, gt = (torch.stack([i[n] for i in batch]).to(self.device) for n in ("box", "gt_box"))
        logits, deltas = self.outputs(regions, label)
        cls_loss = F.binary_cross_entropy_with_logits(logits, positive.float())
        target = self.transform.get_deltas(box[positive], gt[positive])
        reg_loss = smooth_l1_loss(deltas[positive], target, self.beta, reduction="sum")
        return {
            "loss_rcnn_cls": cls_loss,
            "loss_rcnn_reg": reg_loss / len(batch),
            "metric/region_accuracy": ((logits > 0) == positive).float().mean().detach(),
            "metric/positive_regions": positive.float().mean(),
        }

    @torch.no_grad()
    def rescored(
        self,
        regions: torch.Tensor,
        boxes: torch.Tensor,
        label: int,
        size: tuple[int, int],
        batch: int,
    ) -> Candidates:
        """New scores and boxes of the regions of one class, best first.

        Args:
            regions: (R, 3, S, S), warped. boxes: (R, 4), in the pixels of the image.
            size: (height, width) of the image. batch: regions that run at once.
        """
        parts = []
        for start in range(0, len(regions), batch):
            part = regions[start : start + batch].to(self.device)
            parts.append(self.outputs(part, torch.full((len(part),), label, device=self.device)))
        if not parts:
            return Candidates(boxes, boxes.new_zeros(0))
        logits, deltas = (torch.cat(values) for values in zip(*parts, strict=True))
        moved = clipped(self.transform.apply_deltas(deltas, boxes.to(self.device).float()), size)
        order = torch.sort(logits, descending=True, stable=True).indices
        return Candidates(moved[order], logits.sigmoid()[order])


def build_warped_region_net(cfg: Any, num_classes: int) -> WarpedRegionNet:
    """From a resolved config; new layers start from SEED. Raises ConfigError as the class."""
    torch.manual_seed(cfg.SEED)
    net = build_net(cfg)
    if cfg.MODEL.NET.NORM == "FrozenBN" or (cfg.MODEL.NET.NORM == "auto" and cfg.MODEL.WEIGHTS):
        freeze_norms(net)
    torch.manual_seed(cfg.SEED)
    model = WarpedRegionNet(
        net,
        num_classes,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        precision=Precision.of_config(cfg),
    )
    return model.to(cfg.MODEL.DEVICE)
