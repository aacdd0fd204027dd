"""Boxes and masks drawn on pictures with Pillow: of the report, `visualize` and `resdet detect`.

Kinds differ in form, not in colour alone: right is solid green, wrong is red with a cross in its
corner, missed is dashed yellow, ignored is dashed grey; a proposal is thin and dotted; a plain box
is solid in a colour of its class. A mask is a tint in the colour of its box.

Not for: which boxes are right (`pictures`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from resdet.evaluation.inputs.masks import mask_pixels
from resdet.formats.coco_masks import segmentation_fault

FONT_SIZE = 18
# The longer side, in pixels, up to which lines and letters have the sizes below; they grow with it.
SMALL_SIDE = 800
EDGE = "#101214"
COLOURS = {
    "right": "#1fd67f", "wrong": "#ff4b33", "missed": "#ffe14d", "ignored": "#c9ced6",
    "proposal": "#7fd4ff",
}  # fmt: skip
# Of plain boxes, by class; bright, so that they stand out from photographs.
CLASS_COLOURS = (
    "#ff9f1c", "#2ec4b6", "#f15bb5", "#9bf00b", "#00bbf9", "#fee440", "#c77dff", "#ff6b6b",
    "#06d6a0", "#f4a261",
)  # fmt: skip
# Of masks, of 255.
MASK_OPACITY = 110
# What lies above what, from below.
ORDER = ("proposal", "ignored", "missed", "wrong", "plain", "right")

Corners = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class DrawnBox:
    """One box to draw.

    Attributes:
        corners: (x0, y0, x1, y1) in pixels of the image that it was measured in.
        text: on its label; "" for none.
        kind: one of `ORDER`.
        label: of a plain box, its class, which has its colour.
        mask: of what is in the box, in any of COCO's forms, in the same pixels; None for none.
    """

    corners: tuple[float, float, float, float]
    text: str
    kind: str
    label: int = 0
    mask: Any = None

    @property
    def colour(self) -> str:
        return COLOURS.get(self.kind) or CLASS_COLOURS[self.label % len(CLASS_COLOURS)]


def draw_boxes(
    photo: Image.Image, boxes: Sequence[DrawnBox], scale: tuple[float, float] = (1.0, 1.0)
) -> None:
    """Draws on the picture; masks below boxes, what is wrong below what is right, labels on top.

    Args:
        scale: pixels of the picture per pixel that boxes are measured in, across and down.
    """
    draw = ImageDraw.Draw(photo)
    weight = max(1.0, max(photo.size) / SMALL_SIDE)
    font = label_font(round(FONT_SIZE * weight))
    placed = []
    boxes = sorted(boxes, key=lambda b: ORDER.index(b.kind))
    for box in boxes:
        if box.mask is not None:
            _tint(photo, box, scale)
    for box in boxes:
        x0, y0, x1, y1 = (round(v * scale[i % 2]) for i, v in enumerate(box.corners))
        corners = (x0, y0, max(x1, x0 + 2), max(y1, y0 + 2))
        _OUTLINES[box.kind](draw, corners, box.colour, weight)
        placed.append((box, corners))
    for box, corners in placed:
        if box.text:
            _label(draw, font, box, corners, photo.size, weight)


def _tint(photo: Image.Image, box: DrawnBox, scale: tuple[float, float]) -> None:
    """A damaged mask, or one of another size, is left out: decoding it would read elsewhere."""
    width, height = (round(side / s) for side, s in zip(photo.size, scale, strict=True))
    if segmentation_fault(box.mask, np.array([width, height], dtype=np.float64)):
        return
    pixels = mask_pixels(box.mask, height, width)
    opacity = Image.fromarray(pixels.astype(np.uint8) * MASK_OPACITY)
    photo.paste(
        box.colour, (0, 0, *photo.size), opacity.resize(photo.size, Image.Resampling.NEAREST)
    )


def _solid(draw: ImageDraw.ImageDraw, c: Corners, colour: str, weight: float) -> None:
    draw.rectangle((c[0] - 1, c[1] - 1, c[2] + 1, c[3] + 1), outline=EDGE, width=round(5 * weight))
    draw.rectangle(c, outline=colour, width=round(3 * weight))


def _crossed(draw: ImageDraw.ImageDraw, c: Corners, colour: str, weight: float) -> None:
    _solid(draw, c, colour, weight)
    arm = max(4, min(round(10 * weight), (c[2] - c[0]) // 3, (c[3] - c[1]) // 3))
    for width, shade in ((round(5 * weight), EDGE), (round(3 * weight), colour)):
        draw.line((c[2] - arm, c[1], c[2], c[1] + arm), fill=shade, width=width)
        draw.line((c[2] - arm, c[1] + arm, c[2], c[1]), fill=shade, width=width)


def _dashed(draw: ImageDraw.ImageDraw, c: Corners, colour: str, weight: float) -> None:
    for width, shade in ((round(4 * weight), EDGE), (round(3 * weight), colour)):
        for line in _sides(c):
            _dashes(draw, line, shade, width, round(6 * weight), round(11 * weight))


def _dotted(draw: ImageDraw.ImageDraw, c: Corners, colour: str, weight: float) -> None:
    for line in _sides(c):
        _dashes(draw, line, colour, round(weight), round(2 * weight), round(4 * weight))


_OUTLINES: dict[str, Callable[[ImageDraw.ImageDraw, Corners, str, float], None]] = {
    "right": _solid, "wrong": _crossed, "missed": _dashed, "ignored": _dashed, "plain": _solid,
    "proposal": _dotted,
}  # fmt: skip


def _sides(c: Corners) -> tuple[Corners, ...]:
    return (
        (c[0], c[1], c[2], c[1]),
        (c[2], c[1], c[2], c[3]),
        (c[0], c[3], c[2], c[3]),
        (c[0], c[1], c[0], c[3]),
    )


def _dashes(
    draw: ImageDraw.ImageDraw, line: Corners, colour: str, width: int, length: int, period: int
) -> None:
    x0, y0, x1, y1 = line
    whole = max(x1 - x0, y1 - y0)
    for start in range(0, max(whole, 1), period):
        end = min(start + length, whole)
        if x1 > x0:
            draw.line((x0 + start, y0, x0 + end, y0), fill=colour, width=width)
        else:
            draw.line((x0, y0 + start, x0, y0 + end), fill=colour, width=width)


def _label(
    draw: ImageDraw.ImageDraw,
    font: Font,
    box: DrawnBox,
    corners: Corners,
    size: tuple[int, int],
    weight: float,
) -> None:
    """Above the box, or inside it where there is no room."""
    words = " ".join(box.text.split())  # a class name may hold a line break
    width = round(draw.textlength(words, font=font) + 8 * weight)
    height = round((FONT_SIZE + 5) * weight)
    x = max(0, min(corners[0] - 1, size[0] - width))
    y = corners[1] - height if corners[1] >= height else corners[1] + 2
    draw.rectangle((x, y, x + width, y + height), fill=EDGE)
    place = (x + 4 * weight, y + height / 2 + 1)
    draw.text(place, words, fill=box.colour, font=font, anchor="lm")


def short_score(score: float) -> str:
    """.97, so that labels stay small."""
    return f"{score:.2f}".removeprefix("0")


def why_none_is_drawn(what: str, scores: Sequence[float], least: float, option: str) -> str:
    """The sentence for pictures that show no box as all have lower scores; else "".

    Example:
        >>> why_none_is_drawn("A", [0.104, 0.02], 0.5, "--score")
        'No box of A has a score of 0.5 or more, so none is drawn; highest: 0.1. Add --score 0.05.'
    """
    highest = max(scores, default=0.0)
    if highest <= 0 or highest >= least:
        return ""
    return (
        f"No box of {what} has a score of {least:g} or more, so none is drawn; highest: "
        f"{highest:.2g}. Add {option} {highest / 2:.1g}."
    )


def label_font(size: int) -> Font:
    """A font with many scripts where matplotlib is installed, else Pillow's own."""
    try:
        import matplotlib

        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        return ImageFont.truetype(str(path), size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)
