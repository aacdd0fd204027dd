"""What a detector found on a picture, as boxes to draw.

Not for: results of a data set, whose boxes are right or wrong (`resdet.report.render.pictures`).
"""

from __future__ import annotations

from collections.abc import Sequence

from resdet.detect.pictures.loaded_detector import BoxesOfPicture
from resdet.report.render.box_drawing import DrawnBox, short_score


def drawn_detections(found: BoxesOfPicture) -> list[DrawnBox]:
    """Each with its class, its score and, of a detector with masks, its mask."""
    return [
        DrawnBox(corners_of(box), f"{name} {short_score(score)}", "plain", label, mask)
        for box, name, score, label, mask in zip(
            found.boxes.tolist(),
            found.names,
            found.scores.tolist(),
            found.labels.tolist(),
            found.segmentations or [None] * len(found),
            strict=True,
        )
    ]


def corners_of(box: Sequence[float]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 as `DrawnBox` takes them."""
    x0, y0, x1, y1 = box
    return x0, y0, x1, y1
