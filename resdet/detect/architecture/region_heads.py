"""Region heads from the net's own last layers: res5 and average pooling, or fc6 and fc7.

The paper's "networks on convolutional feature maps" (appendix A): each region is pooled from the
shared map and runs through what the classifier has behind that map, with the same weights. The
layers become children under their own names (`roi_heads.res5.0.conv1.weight`), as in
Detectron2's `Res5ROIHeads`, whose numbers these heads give to the bit.

Not for: masks and keypoints.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, FastRCNNOutputLayers, ROIHeads
from detectron2.structures import ImageList, Instances
from torch import nn

from resdet import profile
from resdet.detect.architecture.backbone import apply_norms, build_net
from resdet.engine.speed.precision import Precision
from resdet.nets.chain import Chain, place


@ROI_HEADS_REGISTRY.register()
class RegionHeads(ROIHeads):
    """Pools each proposal, runs the tail on it, predicts class and box.

    Args:
        in_features: the one map that regions are pooled from.
        pooler: (N, C, H, W) and boxes to (R, C, P, P).
        tail: chain of named layers from (R, C, P, P) to (R, D).
        box_predictor: (R, D) to scores and deltas.
        precision: how the tail computes; its result is float32.
        kwargs: of Detectron2's `ROIHeads`.
    """

    box_predictor: FastRCNNOutputLayers

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: ROIPooler,
        tail: nn.Module,
        box_predictor: nn.Module,
        precision: Precision = Precision(),  # noqa: B008 frozen
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.in_features = in_features
        self.pooler = pooler
        chain = Chain.of(tail)
        self.tail_names = list(chain.names)
        for name, layer in chain.items():
            place(self, name, layer)
        self.box_predictor = box_predictor
        self.precision = precision

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        kwargs = super().from_config(cfg)
        (feature,) = in_features = list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
        net = build_net(cfg)
        box_head = cfg.MODEL.ROI_BOX_HEAD
        return {
            **kwargs,
            "in_features": in_features,
            "pooler": ROIPooler(
                output_size=box_head.POOLER_RESOLUTION,
                scales=(1.0 / input_shape[feature].stride,),
                sampling_ratio=box_head.POOLER_SAMPLING_RATIO,
                pooler_type=box_head.POOLER_TYPE,
            ),
            "tail": apply_norms(net.tail(feature), cfg),
            "box_predictor": FastRCNNOutputLayers(cfg, ShapeSpec(channels=net.tail_channels)),
            "precision": Precision.of_config(cfg),
        }

    def region_features(self, features: dict[str, torch.Tensor], boxes: list[Any]) -> torch.Tensor:
        """(R, D) with R the number of boxes of all images, images in order."""
        x = self.pooler([features[name] for name in self.in_features], boxes)
        dtype = x.dtype
        with self.precision.autocast(), profile.span("RoI tail"):
            x = self.precision.input(x)
            for name in self.tail_names:
                x = self.get_submodule(name)(x)
        return x.to(dtype)

    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        del images
        if self.training:
            assert targets is not None
            proposals = self.label_and_sample_proposals(proposals, targets)
        boxes = [p.proposal_boxes for p in proposals]
        predictions = self.box_predictor(self.region_features(features, boxes))
        if self.training:
            return [], self.box_predictor.losses(predictions, proposals)
        detections, _ = self.box_predictor.inference(predictions, proposals)
        return detections, {}
