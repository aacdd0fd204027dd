"""A Detectron2 detector as one function of tensors, so that torch.export can take it.

The layers, anchors and box arithmetic are the detector's own modules. Rewritten, to the same
numbers, is what stands between them in Detectron2 0.6: there torch.export meets lists of
`Instances`, boxes clipped in place and branches on values (docs/export.md names them).

Terms: H x W the image, R proposals, K classes, D detections of one image. Boxes are x0, y0, x1,
y1 in pixels of the image as it is given.

Not for: training, several images at once, masks and keypoints.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, Res5ROIHeads, StandardROIHeads
from detectron2.structures import Boxes
from torch import nn

from resdet.detect.architecture.region_heads import RegionHeads, with_context
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError


@torch.library.custom_op("resdet::nms_by_class", mutates_args=())
def nms_by_class(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, score_threshold: float
) -> torch.Tensor:
    """NMS of each class alone, over boxes of each class alone, as one operation.

    Args:
        boxes: (K, R, 4).
        scores: (K, R); those above `score_threshold` take part.
        iou_threshold: a box is removed where a better one of its class overlaps it by more.

    Returns:
        (M, 2) int64: class and region of what is left, class by class, best first.
    """
    kept = []
    for number in range(len(scores)):
        candidates = (scores[number] > score_threshold).nonzero()[:, 0]
        best = torchvision.ops.nms(
            boxes[number, candidates], scores[number, candidates], iou_threshold
        )
        regions = candidates[best]
        kept.append(torch.stack((torch.full_like(regions, number), regions), dim=1))
    return torch.cat(kept)


@nms_by_class.register_fake
def _(
    boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, score_threshold: float
) -> torch.Tensor:
    count = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty((count, 2), dtype=torch.int64)


def translations() -> dict[Any, Any]:
    """How two operations are written in ONNX, by operation.

    `nms_by_class` is one NonMaxSuppression with the classes as its batch. RoIPool is MaxRoiPool;
    onnxscript 0.7 has a translation of it that does not take what torch.export gives.
    """
    from onnxscript import opset18

    op: Any = opset18  # its types ask for tensors where Python's numbers are accepted, too

    def onnx_nms_by_class(
        boxes: Any, scores: Any, iou_threshold: float, score_threshold: float
    ) -> Any:
        kept = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, [1]),
            op.Constant(value_int=2**62),
            op.Constant(value_float=iou_threshold),
            op.Constant(value_float=score_threshold),
        )
        # Columns: batch, class within it (always 0), box.
        return op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)

    def onnx_roi_pool(
        x: Any, rois: Any, spatial_scale: float, pooled_height: int, pooled_width: int
    ) -> Any:
        shape = (pooled_height, pooled_width)
        pooled = op.MaxRoiPool(x, rois, pooled_shape=shape, spatial_scale=spatial_scale)
        # The second result, where each maximum lay, is for training; nothing here reads it.
        return pooled, pooled

    return {
        torch.ops.resdet.nms_by_class.default: onnx_nms_by_class,
        torch.ops.torchvision.roi_pool.default: onnx_roi_pool,
    }


class DetectorGraph(nn.Module):
    """(1, 3, H, W) float32 pixels to boxes (D, 4), scores (D), classes (D), best first.

    Gives the detector's output for one image at its own size.

    Args:
        model: in evaluation mode; its layers are shared and stay as they are. Code that exports in
            float32 sets them to it (`set_to_float32`).
        normalises: the input is pixels in [0, 255]; else they are (pixel - mean) / std already.

    Raises:
        ConfigError: a part is of a kind that is not known here; names it.
    """

    def __init__(self, model: nn.Module, *, normalises: bool = True):
        super().__init__()
        refuse_unknown_parts(model)
        self.model: Any = model
        self.normalises = normalises

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        model = self.model
        height, width = image.shape[-2:]
        if self.normalises:
            image = (image - model.pixel_mean) / model.pixel_std
        features = model.backbone(self._padded(image))
        proposals = self._proposals(features, height, width)
        return self._detections(features, proposals, height, width)

    def _padded(self, image: torch.Tensor) -> torch.Tensor:
        """Zeros behind the last row and column, up to a multiple of `size_divisibility`."""
        step = self.model.backbone.size_divisibility
        if step <= 1:
            return image
        height, width = image.shape[-2:]
        up, across = (height + step - 1) // step * step, (width + step - 1) // step * step
        return F.pad(image, (0, across - width, 0, up - height))

    def _proposals(self, features: dict[str, torch.Tensor], height: Any, width: Any) -> Any:
        """(R, 4): what Detectron2's RPN proposes, R at most POST_NMS_TOPK_TEST, best first."""
        rpn = self.model.proposal_generator
        maps = [features[name] for name in rpn.in_features]
        anchors = rpn.anchor_generator(maps)
        boxes, scores = [], []
        for logits, deltas, level in zip(*rpn.rpn_head(maps), anchors, strict=True):
            flat = logits.permute(0, 2, 3, 1).flatten()
            # Channels are anchors of four each; a cell's anchors lie together, as the logits do.
            by_anchor = deltas.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).reshape(-1, 4)
            best = torch.sym_min(flat.shape[0], rpn.pre_nms_topk[False])
            top, index = flat.topk(best)
            decoded = rpn.box2box_transform.apply_deltas(by_anchor[index], level.tensor[index])
            clipped = _clipped(decoded, height, width)
            keep = torch.isfinite(decoded).all(dim=1) & torch.isfinite(top)
            keep = keep & _nonempty(clipped, rpn.min_box_size)
            clipped, top = clipped[keep], top[keep]
            kept = torchvision.ops.nms(clipped, top, rpn.nms_thresh)
            boxes.append(clipped[kept])
            scores.append(top[kept])
        if len(boxes) == 1:
            return boxes[0][: rpn.post_nms_topk[False]]
        order = torch.cat(scores).argsort(descending=True)
        return torch.cat(boxes)[order[: rpn.post_nms_topk[False]]]

    def _detections(
        self, features: dict[str, torch.Tensor], proposals: torch.Tensor, height: Any, width: Any
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heads = self.model.roi_heads
        predictor = heads.box_predictor
        x = self._predictor_input(features, proposals, height, width)
        logits, deltas = predictor(x)
        boxes = predictor.box2box_transform.apply_deltas(deltas, proposals)
        scores = logits.softmax(dim=-1)
        keep = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores).all(dim=1)
        boxes, scores = boxes[keep], scores[keep][:, :-1]
        # (R, K * 4), or (R, 4) where all classes share a box.
        boxes = _clipped(boxes.unflatten(1, (-1, 4)), height, width)
        boxes = boxes.expand(-1, scores.shape[1], -1).transpose(0, 1)
        scores = scores.transpose(0, 1)
        kept = nms_by_class(boxes, scores, predictor.test_nms_thresh, predictor.test_score_thresh)
        classes, regions = kept[:, 0], kept[:, 1]
        boxes, scores = boxes[classes, regions], scores[classes, regions]
        order = scores.argsort(descending=True)
        if predictor.test_topk_per_image >= 0:
            order = order[: predictor.test_topk_per_image]
        boxes, scores, classes = boxes[order], scores[order], classes[order]
        keep = _nonempty(boxes, 0.0)
        return boxes[keep], scores[keep], classes[keep]

    def _predictor_input(
        self, features: dict[str, torch.Tensor], proposals: torch.Tensor, height: Any, width: Any
    ) -> torch.Tensor:
        """(R, C), or (R, 2 C) where the whole image's feature stands behind each."""
        if not getattr(self.model.roi_heads, "context", False):
            return self._region_features(features, proposals)
        zero = proposals.new_zeros((1, 1))
        whole = torch.cat([zero, zero, zero + width, zero + height], dim=1)
        return with_context(self._region_features(features, torch.cat([proposals, whole])))

    def _region_features(
        self, features: dict[str, torch.Tensor], proposals: torch.Tensor
    ) -> torch.Tensor:
        """The features of each proposal from the region heads: (R, C)."""
        heads = self.model.roi_heads
        if isinstance(heads, RegionHeads):
            x = _pooled(heads.pooler, [features[name] for name in heads.in_features], proposals)
            for name in heads.tail_names:
                x = heads.get_submodule(name)(x)
            return x
        if isinstance(heads, Res5ROIHeads):
            maps = [features[name] for name in heads.in_features]
            return heads.res5(_pooled(heads.pooler, maps, proposals)).mean(dim=(2, 3))
        maps = [features[name] for name in heads.box_in_features]
        return heads.box_head(_pooled(heads.box_pooler, maps, proposals))


def _pooled(pooler: ROIPooler, maps: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
    """(R, C, P, P) from the maps of one image, each box from the level of its size."""
    rois = torch.cat((torch.zeros_like(boxes[:, :1]), boxes), dim=1)
    if len(maps) == 1:
        return pooler.level_poolers[0](maps[0], rois)
    levels = assign_boxes_to_levels(
        [Boxes(boxes)],
        pooler.min_level,
        pooler.max_level,
        pooler.canonical_box_size,
        pooler.canonical_level,
    )
    pooled = maps[0].new_zeros((rois.shape[0], maps[0].shape[1], *pooler.output_size))
    for number, (level, x) in enumerate(zip(pooler.level_poolers, maps, strict=True)):
        (here,) = (levels == number).nonzero(as_tuple=True)
        pooled = pooled.index_put((here,), level(x, rois[here]))
    return pooled


def _clipped(boxes: torch.Tensor, height: Any, width: Any) -> torch.Tensor:
    """Boxes (..., 4) within the image."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack(
        (x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)), dim=-1
    )


def _nonempty(boxes: torch.Tensor, side: float) -> torch.Tensor:
    """Which boxes (M, 4) are wider and higher than `side`."""
    return (boxes[:, 2] - boxes[:, 0] > side) & (boxes[:, 3] - boxes[:, 1] > side)


def set_to_float32(model: nn.Module) -> None:
    """Changes the model in place: parts that have a precision compute in float32 from now on."""
    for module in model.modules():
        if isinstance(getattr(module, "precision", None), Precision):
            module.precision = Precision()  # type: ignore[assignment]


def refuse_unknown_parts(model: Any) -> None:
    """Raises ConfigError where a part computes by rules that `DetectorGraph` does not know."""
    known: list[tuple[str, Any, tuple[type, ...]]] = [
        ("MODEL.META_ARCHITECTURE", model, (GeneralizedRCNN,)),
        ("MODEL.PROPOSAL_GENERATOR.NAME", getattr(model, "proposal_generator", None), (RPN,)),
        (
            "MODEL.ROI_HEADS.NAME",
            getattr(model, "roi_heads", None),
            (RegionHeads, Res5ROIHeads, StandardROIHeads),
        ),
    ]
    heads = getattr(model, "roi_heads", None)
    predictor = getattr(heads, "box_predictor", None)
    known.append(("the box predictor", predictor, (FastRCNNOutputLayers,)))
    odd = [
        f"{key} is {type(part).__name__}, expected {' or '.join(k.__name__ for k in kinds)}"
        for key, part, kinds in known
        # A subclass may compute otherwise.
        if type(part) not in kinds
    ]
    odd += [
        f"{key} is on"
        for key, name in (("MODEL.MASK_ON", "mask_on"), ("MODEL.KEYPOINT_ON", "keypoint_on"))
        if getattr(heads, name, False)
    ]
    if odd:
        raise ConfigError(
            f"this detector cannot be exported: {'; '.join(odd)}. Export its net alone, from the "
            "weight file."
        )
