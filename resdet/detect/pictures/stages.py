"""The path of one picture through a detector: proposals, predictions, refined boxes, votes, final.

The stages are those of `paper.tester`, with the improvements of table 9 that are on, and the last
is held against what the detector itself gives: `DetectionStages.is_whole`. Where its arithmetic
rounds otherwise in one call, the final boxes are still the detector's.

Not for: drawing them (`resdet.report.visual`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import nn

from resdet.detect.from_run import BuiltDetector
from resdet.detect.paper.detector_parts import DetectorParts
from resdet.detect.paper.refinement import candidates
from resdet.detect.paper.tester import (
    DetectionPath,
    ImageResults,
    ImprovedDetector,
    Improvements,
)
from resdet.detect.paper.voting import OVERLAP
from resdet.detect.pictures.loaded_detector import BoxesOfPicture, PictureDetector, record_of


@dataclass(frozen=True)
class DetectionStages:
    """One picture, stage by stage; all boxes (x0, y0, x1, y1) in its own pixels.

    Attributes:
        size: (width, height) of the picture. seen: of what the detector is given. levels: the
            sizes that regions are pooled from.
        proposals: (R, 4), best first; those of the members of an ensemble one after the other.
        proposed: by each member, what an earlier one has proposed left out; they sum to R.
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
    levels: tuple[tuple[int, int], ...]
    proposals: np.ndarray
    proposed: tuple[int, ...]
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
        for member, number in enumerate(self.proposed, 1):
            if region < number:
                of = f" of member {member}" if len(self.proposed) > 1 else ""
                return f"proposal {region + 1}{of}"
            region -= number
        return f"refined box {region + 1}"

    def best_proposals(self, number: int) -> np.ndarray:
        """The best so many of each member, (M, 4)."""
        each = np.split(self.proposals, np.cumsum(self.proposed)[:-1])
        return np.concatenate([boxes[:number] for boxes in each])

    def moved(self, place: int) -> float:
        """The furthest that a side of one final box was moved by votes, in pixels."""
        return float(np.abs(self.kept[place] - self.final.boxes[place]).max())


NEEDED = (
    "The steps of a picture through a detector (visualize --explain, --proposals) need {kinds}; "
    "its final boxes need nothing: resdet detect, or visualize without the two."
)


def proposals_of(built: BuiltDetector, image: np.ndarray, number: int) -> np.ndarray:
    """The best proposals (number, 4) or fewer, in pixels of the picture (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: the detector has no such step (`DetectorParts`).
    """
    parts = DetectorParts(_inner(built.for_detecting), NEEDED)
    given = _given(built, image)
    with torch.no_grad():
        maps = parts.maps(given["image"])
        boxes = parts.proposals(maps)[:number]
    return _in_picture(boxes, maps.size, given)


def stages_of(built: BuiltDetector, image: np.ndarray) -> DetectionStages:
    """The path of a picture (H, W, 3) uint8 RGB; raises ConfigError as `proposals_of`."""
    form, given = built.for_detecting, _given(built, image)
    DetectorParts(_inner(form), NEEDED)
    if not isinstance(form, ImprovedDetector):
        form = ImprovedDetector([form], Improvements())
    with torch.no_grad():
        path = form.path(given, ImageResults())
    threshold = form.members[0].parts.heads.box_predictor.test_score_thresh
    regions = torch.cat(path.blocks)
    of_first = slice(len(regions))
    first = candidates(path.scores[of_first], path.boxes[of_first], path.size, threshold)
    final = PictureDetector(built).of_input(given)
    found = path.detections
    is_whole = (
        np.array_equal(_in_picture(found.pred_boxes.tensor, path.size, given), final.boxes)
        and np.array_equal(found.scores.cpu().numpy(), final.scores)
        and np.array_equal(found.pred_classes.cpu().numpy(), final.labels)
    )
    height, width = path.size
    return DetectionStages(
        size=(given["width"], given["height"]),
        seen=(width, height),
        levels=tuple((across, down) for down, across in path.levels),
        proposals=_in_picture(regions, path.size, given),
        proposed=tuple(len(block) for block in path.blocks),
        predicted=_in_picture(first[0], path.size, given),
        predicted_labels=first[2].cpu().numpy(),
        predicted_scores=first[1].cpu().numpy(),
        refined=None if path.refined is None else _in_picture(path.refined, path.size, given),
        kept=_in_picture(path.kept, path.size, given),
        regions=path.rows.cpu().numpy(),
        votes=None if path.refined is None else _votes(path, threshold),
        final=final,
        is_whole=is_whole,
    )


def _votes(path: DetectionPath, threshold: float) -> np.ndarray:
    """(D,) how many candidates voted for each box that NMS kept."""
    boxes, _, labels = candidates(path.scores, path.boxes, path.size, threshold)
    overlaps = pairwise_iou(Boxes(path.kept), Boxes(boxes)) >= OVERLAP
    same_class = path.detections.pred_classes[:, None] == labels[None]
    votes: np.ndarray = (overlaps & same_class).sum(dim=1).cpu().numpy()
    return votes


def _inner(form: nn.Module) -> Any:
    """The detector itself, without the improvements and the further members around it."""
    return form.models[0] if isinstance(form, ImprovedDetector) else form


def _given(built: BuiltDetector, image: np.ndarray) -> dict[str, Any]:
    return built.mapper.of_image(record_of(image, "the picture"), image)


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
