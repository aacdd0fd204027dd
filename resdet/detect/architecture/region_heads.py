"""Region heads from the net's own last layers: res5 and average pooling, or fc6 and fc7.

The paper's "networks on convolutional feature maps" (appendix A): each region is pooled from the
shared map and runs through what the classifier has behind that map, with the same weights. The
layers become children under their own names (`roi_heads.res5.0.conv1.weight`), as in
Detectron2's `Res5ROIHeads`, whose numbers these heads give to the bit.

With MODEL.MASK_ON Detectron2's mask head stands on the tail's last map (res5 before it is
pooled), as in `Res5ROIHeads`: a region runs once for box and mask in training, and detections run
again, at their boxes, for their masks.

Not for: keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    FastRCNNOutputLayers,
    ROIHeads,
    build_mask_head,
    select_foreground_proposals,
)
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from resdet import nets, profile
from resdet.detect.architecture.backbone import apply_norms, build_net
from resdet.engine.speed.precision import Precision
from resdet.nets.chain import Chain, place


def layers_to_map(tail: Chain, net: nets.Net) -> tuple[str, ...]:
    """The tail's layers up to the net's last stage; () where no stage is in it (VGG: fc6, fc7)."""
    last = net.stages()[-1].name
    return tuple(tail.names[: tail.names.index(last) + 1]) if last in tail.names else ()


def whole_image(like: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(1, 4), the box around an image of (height, width); device and type are those of `like`."""
    height, width = size
    return like.new_tensor([[0, 0, width, height]])


def with_context(features: torch.Tensor) -> torch.Tensor:
    """(R, 2 D) of (R + 1, D) whose last row is the whole image's: that behind each other one."""
    regions, whole = features[:-1], features[-1:]
    return torch.cat([regions, whole.expand_as(regions)], dim=1)


@ROI_HEADS_REGISTRY.register()
class RegionHeads(ROIHeads):
    """Pools each proposal, runs the tail on it, predicts class and box.

    Args:
        in_features: the one map that regions are pooled from.
        pooler: (N, C, H, W) and boxes to (R, C, P, P).
        tail: chain of named layers from (R, C, P, P) to (R, D).
        box_predictor: (R, D) to scores and deltas.
        precision: how the tail computes; its result is float32.
        map_names: the tail's layers up to its last map (R, C, H, W); read with a mask head alone.
        mask_head: Detectron2's, on that map in float32; None: boxes alone.
        context: the whole image is one more region of each image, and its feature stands behind
            that of each region: the predictor takes (R, 2 D) (He et al. 2015, appendix B). Tail
            and weights are those of the regions.
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
        map_names: Sequence[str] = (),
        mask_head: nn.Module | None = None,
        context: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.context = context
        self.in_features = in_features
        self.pooler = pooler
        chain = Chain.of(tail)
        self.tail_names = list(chain.names)
        for name, layer in chain.items():
            place(self, name, layer)
        self.box_predictor = box_predictor
        self.precision = precision
        self.mask_on = mask_head is not None
        if mask_head is not None:
            self.map_names = list(map_names)
            self.mask_head = mask_head

    @classmethod
    def from_config(cls, cfg: Any, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        kwargs = super().from_config(cfg)
        (feature,) = in_features = list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
        net = build_net(cfg)
        box_head = cfg.MODEL.ROI_BOX_HEAD
        tail = apply_norms(net.tail(feature), cfg)
        context = cfg.MODEL.REGION_HEADS.CONTEXT
        channels = net.tail_channels * (2 if context else 1)
        predictor = FastRCNNOutputLayers(cfg, ShapeSpec(channels=channels))
        masks: dict[str, Any] = {}
        if cfg.MODEL.MASK_ON:
            # As Detectron2: the size is that of the region before the tail; only channels count.
            side = box_head.POOLER_RESOLUTION
            shape = ShapeSpec(channels=net.stages()[-1].channels, width=side, height=side)
            masks = {
                "map_names": layers_to_map(tail, net),
                "mask_head": build_mask_head(cfg, shape),
            }
        return {
            **kwargs,
            "in_features": in_features,
            "pooler": ROIPooler(
                output_size=box_head.POOLER_RESOLUTION,
                scales=(1.0 / input_shape[feature].stride,),
                sampling_ratio=box_head.POOLER_SAMPLING_RATIO,
                pooler_type=box_head.POOLER_TYPE,
            ),
            "tail": tail,
            "box_predictor": predictor,
            "context": context,
            "precision": Precision.of_config(cfg),
            **masks,
        }

    def region_features(self, features: dict[str, torch.Tensor], boxes: list[Any]) -> torch.Tensor:
        """(R, D) with R the number of boxes of all images, images in order."""
        return self._through(self.tail_names, self._pooled(features, boxes))

    def region_maps(self, features: dict[str, torch.Tensor], boxes: list[Any]) -> torch.Tensor:
        """(R, C, H, W), what the mask head takes; only with a mask head."""
        return self._through(self.map_names, self._pooled(features, boxes))

    def _pooled(self, features: dict[str, torch.Tensor], boxes: list[Any]) -> torch.Tensor:
        return self.pooler([features[name] for name in self.in_features], boxes)

    def _through(self, names: Sequence[str], x: torch.Tensor) -> torch.Tensor:
        """So many layers of the tail; the output has the type of the input."""
        dtype = x.dtype
        with self.precision.autocast(), profile.span("RoI tail"):
            x = self.precision.input(x)
            for name in names:
                x = self.get_submodule(name)(x)
        return x.to(dtype)

    def predictor_input(
        self,
        features: dict[str, torch.Tensor],
        boxes: list[Boxes],
        image_sizes: Sequence[tuple[int, int]],
    ) -> torch.Tensor:
        """(R, D), or (R, 2 D) with context.

        Args:
            image_sizes: (height, width) of each image without padding, in pixels.
        """
        regions = self._with_images(boxes, image_sizes)
        return self._joined(self.region_features(features, regions), regions)

    def _with_images(
        self, boxes: list[Boxes], image_sizes: Sequence[tuple[int, int]]
    ) -> list[Boxes]:
        """With context the whole image behind the regions of each: in one call, so that live norms
        see both."""
        if not self.context:
            return boxes
        return [
            Boxes.cat([of_image, Boxes(whole_image(of_image.tensor, size))])
            for of_image, size in zip(boxes, image_sizes, strict=True)
        ]

    def _joined(self, x: torch.Tensor, regions: list[Boxes]) -> torch.Tensor:
        """What the predictor takes, of features of `_with_images`."""
        if not self.context:
            return x
        return torch.cat([with_context(part) for part in x.split([len(r) for r in regions])])

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
            return [], self._losses(features, self.label_and_sample_proposals(proposals, targets))
        boxes = [p.proposal_boxes for p in proposals]
        sizes = [p.image_size for p in proposals]
        predictions = self.box_predictor(self.predictor_input(features, boxes, sizes))
        detections, _ = self.box_predictor.inference(predictions, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def _losses(
        self, features: dict[str, torch.Tensor], proposals: list[Instances]
    ) -> dict[str, torch.Tensor]:
        boxes, sizes = [p.proposal_boxes for p in proposals], [p.image_size for p in proposals]
        if not self.mask_on:
            predictions = self.box_predictor(self.predictor_input(features, boxes, sizes))
            return self.box_predictor.losses(predictions, proposals)
        # One pass for both: a map of each region, and from it the vector.
        regions = self._with_images(boxes, sizes)
        maps = self.region_maps(features, regions)
        x = self._joined(self._through(self.tail_names[len(self.map_names) :], maps), regions)
        losses = self.box_predictor.losses(self.box_predictor(x), proposals)
        if self.context:
            maps = torch.cat([part[:-1] for part in maps.split([len(r) for r in regions])])
        objects, chosen = select_foreground_proposals(proposals, self.num_classes)
        with profile.span("mask head"):
            losses.update(self.mask_head(maps[torch.cat(chosen, dim=0)], objects))
        return losses

    def forward_with_given_boxes(
        self, features: dict[str, torch.Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """The detections with `pred_masks` (n, 1, H, W), probabilities, where masks are on.

        Args:
            features: as of `forward`. instances: with pred_boxes and pred_classes.
        """
        if not self.mask_on:
            return instances
        maps = self.region_maps(features, [i.pred_boxes for i in instances])
        with profile.span("mask head"):
            masked: list[Instances] = self.mask_head(maps, instances)
        return masked
