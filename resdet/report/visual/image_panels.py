"""One image as panels side by side: its objects, proposals, and the boxes of one run or two.

Not for: which images (`chosen_images`), or the page (`visual_page`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from resdet.report.render.box_drawing import EDGE, DrawnBox, draw_boxes, label_font, short_score
from resdet.report.render.pictures import (
    IOU_THRESHOLD,
    corners_of,
    iou,
    is_ignored,
    judged_boxes,
    photo_of,
)
from resdet.report.scores import SetScores

SIDE = 560  # the longer side of a panel, in pixels
QUALITY = 82
# Between the panels of a strip, and above them for their titles, in pixels.
GAP, HEAD = 8, 26
# Box corners of proposals in pixels of the image, best first.
Proposals = Sequence[Sequence[float]]


@dataclass(frozen=True)
class VisualPanel:
    """One drawn copy of an image.

    Attributes:
        title: whose boxes. words: what is drawn, counted.
    """

    title: str
    words: str
    picture: Image.Image

    @property
    def data_uri(self) -> str:
        with io.BytesIO() as file:
            self.picture.save(file, "JPEG", quality=QUALITY)
            return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


@dataclass(frozen=True)
class VisualImage:
    """An image of the set with its panels; `measure` is its number by the rule, in words."""

    image_id: Any
    panels: tuple[VisualPanel, ...]
    measure: str = ""

    def strip(self) -> Image.Image:
        """All panels in one picture, each below its title."""
        width = sum(p.picture.width for p in self.panels) + GAP * (len(self.panels) - 1)
        height = max(p.picture.height for p in self.panels) + HEAD
        strip = Image.new("RGB", (width, height), "#ffffff")
        draw = ImageDraw.Draw(strip)
        x = 0
        for panel in self.panels:
            text = " ".join(f"{panel.title}: {panel.words}".split())
            draw.text((x + 2, HEAD / 2), text, fill=EDGE, font=label_font(14), anchor="lm")
            # A long title ends at its own panel.
            end = (x + panel.picture.width, 0, width, HEAD)
            if end[0] < width:
                draw.rectangle(end, fill="#ffffff")
            strip.paste(panel.picture, (x, HEAD))
            x += panel.picture.width + GAP
        return strip


def panels_of(
    runs: Sequence[tuple[str, SetScores]],
    image_id: Any,
    *,
    threshold: float,
    proposals: Sequence[Proposals | None] = (),
    measure: str = "",
    side: int = SIDE,
) -> VisualImage | None:
    """The image's panels; None where no file of it is at hand.

    Args:
        runs: name and results of each run, on one set.
        proposals: of each run, where they are known.
    """
    all_scores = [scores for _, scores in runs]
    photo = photo_of(all_scores, image_id)
    if photo is None:
        return None
    canvas = Canvas(photo, all_scores[0].size_of(image_id) or photo.size, side)
    truth, names = all_scores[0].truth_of(image_id), all_scores[0].category_names
    panels = [_truth_panel(canvas, truth, names)]
    for place, (title, scores) in enumerate(runs):
        given = proposals[place] if place < len(proposals) else None
        if given is not None:
            panels.append(proposal_panel(canvas, f"{title}, proposals", truth, given))
        found = scores.detections_of(image_id, threshold=threshold)
        boxes = judged_boxes(truth, found, names, threshold=threshold)
        kinds = [box.kind for box in boxes]
        words = ", ".join(f"{kinds.count(k)} {k}" for k in ("right", "wrong", "missed"))
        panels.append(canvas.panel(title, words, boxes))
    return VisualImage(image_id, tuple(panels), measure)


class Canvas:
    """A photo at the size of a panel, of which each panel gets a copy.

    Args:
        measured: (width, height) that boxes are in pixels of.
        side: the longer side of a panel.
    """

    def __init__(self, photo: Image.Image, measured: tuple[int, int], side: int = SIDE):
        scale = side / max(photo.size)
        size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
        self.photo = photo.resize(size, Image.Resampling.BICUBIC)
        self.scale = (size[0] / measured[0], size[1] / measured[1])

    def panel(self, title: str, words: str, boxes: Sequence[DrawnBox]) -> VisualPanel:
        picture = self.photo.copy()
        draw_boxes(picture, boxes, self.scale)
        return VisualPanel(title, words, picture)


def _truth_panel(
    canvas: Canvas, truth: Sequence[Mapping[str, Any]], names: Mapping[int, str]
) -> VisualPanel:
    boxes = []
    for item in truth:
        name = names.get(item["category_id"], "?")
        more = " crowd" if item.get("iscrowd") else " difficult" if item.get("difficult") else ""
        kind = "ignored" if is_ignored(item) else "plain"
        text = f"{name}{more}"
        mask = None if is_ignored(item) else item.get("segmentation")
        corners = corners_of(item["bbox"])
        boxes.append(DrawnBox(corners, text, kind, item["category_id"], mask))
    counted = sum(not is_ignored(item) for item in truth)
    ignored = len(truth) - counted
    words = f"{counted} objects" + (f", {ignored} that do not count" if ignored else "")
    return canvas.panel("ground truth", words, boxes)


def proposal_panel(
    canvas: Canvas, title: str, truth: Sequence[Mapping[str, Any]], proposals: Proposals
) -> VisualPanel:
    """Proposals, dotted; objects that one of them covers solid, others dashed."""
    boxes = [DrawnBox(_corners(p), "", "proposal") for p in proposals]
    sized = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in proposals]
    objects = [item for item in truth if not is_ignored(item)]
    covered = 0
    for item in objects:
        best = max((iou(item["bbox"], box) for box in sized), default=0.0)
        covered += best >= IOU_THRESHOLD
        kind = "right" if best >= IOU_THRESHOLD else "missed"
        boxes.append(DrawnBox(corners_of(item["bbox"]), short_score(best), kind))
    words = f"the best {len(proposals)}" + (
        f" cover {covered} of {len(objects)} objects (labels: best IoU)" if objects else ""
    )
    return canvas.panel(title, words, boxes)


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return x0, y0, x1, y1
