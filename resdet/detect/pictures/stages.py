"""The path of one picture through a detector: proposals, predictions, refined boxes, votes, final.

Each stage is computed by the detector's own steps (`paper.detector_parts`, `paper.refinement`), and
the last is held against what the detector itself gives. Where another test-time improvement is on
that the stages do not follow, `DetectionStages.is_whole` is False; the final boxes are always the
detector's.

Not for: drawing them (`resdet.report.visual`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, pairwise_iou
from torch import nn

from resdet.detect.from_run import BuiltDetector
from resdet.detect.paper.detector_parts import DetectorParts
from resdet.detect.paper.refinement import candidates, refined_regions, voted
from resdet.detect.paper.tester import ImprovedDetector
from resdet.detect.paper.voting import OVERLAP
from resdet.detect.pictures.loaded_detector import BoxesOfPicture, PictureDetector, record_of


@dataclass(frozen=True)
class DetectionStages:
    """One picture, stage by stage; all boxes (x0, y0, x1, y1) in its own pixels.

    Attributes:
        size: (width, height) of the picture. seen: of what the detector is given.
        proposals: (R, 4), best first.
        predicted: (M, 4), boxes of the first round that exceed the score threshold, before NMS.
        predicted_labels: (M,) their classes. predicted_scores: (M,).
        refined: (Q, 4), the regions of the second round; None where TEST.BOX_REFINEMENT is off.
        kept: (D, 4), the boxes that NMS keeps, in the order of `final`.
        regions: (D,) the place of the region that each comes from: in `proposals`, then in
            `refined`.
        votes: (D,) how many candidates moved it; None where nothing votes.
        final: what the detector gives.
        is_whole: these stages lead to the final boxes, to the bit.
    """

    size: tuple[int, int]
    seen: tuple[int, int]
    proposals: np.ndarray
    predicted: np.ndarray
    predicted_labels: np.ndarray
    predicted_scores: np.ndarray
    refined: np.ndarray | None
    kept: np.ndarray
    regions: np.ndarray
    votes: np.ndarray | None
    final: BoxesOfPicture
    is_whole: bool

    def origin(self, place: int) -> str:
        """The region of one final box in words."""
        region = int(self.regions[place])
        if region < len(self.proposals):
            return f"proposal {region + 1}"
        return f"refined box {region - len(self.proposals) + 1}"

    def moved(self, place: int) -> float:
        """The furthest that a side of one final box was moved by votes, in pixels."""
        return float(np.abs(self.kept[place] - self.final.boxes[place]).max())


def proposals_of(built: BuiltDetector, image: np.ndarray, number: int) -> np.ndarray:
    """The best proposals (number, 4) or fewer, in pixels of the picture (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: the detector has no such step (`DetectorParts`).
    """
    parts, given = DetectorParts(_inner(built.for_detecting)), _given(built, image)
    with torch.no_grad():
        maps = parts.maps(given["image"])
        boxes = parts.proposals(maps)[:number]
    return _in_picture(boxes, maps.size, given)


def stages_of(built: BuiltDetector, image: np.ndarray) -> DetectionStages:
    """The path of a picture (H, W, 3) uint8 RGB; raises ConfigError as `proposals_of`."""
    parts, given = DetectorParts(_inner(built.for_detecting)), _given(built, image)
    predictor, refines = parts.heads.box_predictor, built.cfg.TEST.BOX_REFINEMENT == "on"
    threshold = predictor.test_score_thresh
    with torch.no_grad():
        maps = parts.maps(given["image"])
        regions = parts.proposals(maps)
        scores, boxes = parts.predict(parts.region_features(maps, regions), regions, maps.size)
        first = candidates(scores, boxes, maps.size, threshold)
        refined = None
        if refines:
            refined = refined_regions(scores, boxes, maps.size)
            again = parts.predict(parts.region_features(maps, refined), refined, maps.size)
            scores, boxes = torch.cat([scores, again[0]]), torch.cat([boxes, again[1]])
        kept, places = fast_rcnn_inference_single_image(
            boxes, scores, maps.size, threshold, predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )  # fmt: skip
        before = kept.pred_boxes.tensor.clone()
        votes = None
        if refines:
            everyone, _, labels = candidates(scores, boxes, maps.size, threshold)
            overlaps = pairwise_iou(kept.pred_boxes, Boxes(everyone)) >= OVERLAP
            votes = (overlaps & (kept.pred_classes[:, None] == labels[None])).sum(dim=1)
            kept = voted(kept, scores, boxes, threshold)
    final = PictureDetector(built).of_input(given)
    ours = _in_picture(kept.pred_boxes.tensor, maps.size, given)
    is_whole = (
        np.array_equal(ours, final.boxes)
        and np.array_equal(kept.scores.cpu().numpy(), final.scores)
        and np.array_equal(kept.pred_classes.cpu().numpy(), final.labels)
    )
    return DetectionStages(
        size=(given["width"], given["height"]),
        seen=(maps.size[1], maps.size[0]),
        proposals=_in_picture(regions, maps.size, given),
        predicted=_in_picture(first[0], maps.size, given),
        predicted_labels=first[2].cpu().numpy(),
        predicted_scores=first[1].cpu().numpy(),
        refined=None if refined is None else _in_picture(refined, maps.size, given),
        kept=_in_picture(before, maps.size, given),
        regions=places.cpu().numpy(),
        votes=None if votes is None else votes.cpu().numpy(),
        final=final,
        is_whole=is_whole,
    )


def _inner(form: nn.Module) -> Any:
    """The detector itself, without the improvements and the further members around it."""
    return form.models[0] if isinstance(form, ImprovedDetector) else form


def _given(built: BuiltDetector, image: np.ndarray) -> dict[str, Any]:
    return built.mapper.of_image(record_of(image), image)


def _in_picture(boxes: torch.Tensor, size: tuple[int, int], given: dict[str, Any]) -> np.ndarray:
    """Boxes in pixels of the detector's input in those of the picture, clipped to it.

    Args:
        size: (height, width) of the input.
    """
    scaled = Boxes(boxes.clone())
    scaled.scale(given["width"] / size[1], given["height"] / size[0])
    scaled.clip((given["height"], given["width"]))
    result: np.ndarray = scaled.tensor.cpu().numpy()
    return result
