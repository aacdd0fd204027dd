"""Pictures of digits: one in a crop for classification, several in a scene for detection.

Each picture is made from its own stream of draws, so any one can be made alone, in any order
and by any process, and is always the same.

    box        (x0, y0, x1, y1) integers, half-open, tight around the digit's covered pixels
               within the image before anything hides them: an occluded digit keeps its box
    visible    pixels of it that nothing hides
    difficult  hidden by 35 % or more, of low contrast, under 14 px, or part of a crowd

Not for: files and formats (`writer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from resdet.data.digits.painting.canvas import finish
from resdet.data.digits.painting.draws import Draws
from resdet.data.digits.painting.glyphs import tight_box
from resdet.data.digits.painting.picture import Material, Picture

CROP_SIZE = 48
SCENE_SIZE = 144
CROP_SIDES = (0.45, 0.95)  # longer side of the digit, of the crop's
SIDES = (16.0, 56.0)  # longer side of a digit in a scene, log-uniform
TINY_SIDES = (9.0, 13.0)
CROP_NUM_DISTRACTORS = (0, 0, 0, 1, 1, 2)
CROP_DISTRACTORS, DISTRACTORS = (8.0, 28.0), (12.0, 56.0)
OCCLUSION = (0.15, 0.35)
HEAVY_OCCLUSION = (0.36, 0.55)
OVERLAP = 0.25  # of two boxes: along one axis at least it is no more
HIDDEN_DIFFICULT = 0.35
HIDDEN_LIMIT = 0.7  # a scene with a digit hidden by more is painted anew

# Shares of scenes and of digits with something special.
EMPTY_SCENES, CROWD_SCENES = 0.02, 0.03
OCCLUDED, HEAVILY_OCCLUDED, FAINT, TINY, CROSSING = 0.25, 0.015, 0.01, 0.015, 0.06

Box = tuple[int, int, int, int]


@dataclass
class Digit:
    """One digit of a scene, as in its annotation."""

    label: int
    box: Box
    is_truncated: bool
    is_difficult: bool
    in_crowd: bool
    covered: int  # pixels within the image before anything hides them
    visible: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))  # H x W

    @property
    def hidden(self) -> float:
        """Share of its pixels within the image that something else covers."""
        return 1 - int(self.visible.sum()) / self.covered


@dataclass(frozen=True)
class Scene:
    """An image and what is in it; `background` names the photo region."""

    image: np.ndarray
    digits: list[Digit]
    background: str


def paint_crop(draws: Draws, material: Material) -> tuple[np.ndarray, int]:
    """A 48 x 48 x 3 uint8 image of one digit, and its label."""
    picture = Picture(draws, material, CROP_SIZE)
    for _ in range(draws.choice(CROP_NUM_DISTRACTORS)):
        picture.put_distractor(draws.uniform(*CROP_DISTRACTORS))
    glyph = draws.choice(material.digits)
    mask = picture.shape(glyph, draws.uniform(*CROP_SIDES) * CROP_SIZE)
    y, x = (_off_centre(draws, side) for side in mask.shape)
    picture.put_digit(mask, x, y, owner=1)
    if draws.chance(OCCLUDED):
        picture.occlude(mask, x, y, draws.uniform(*OCCLUSION))
    return finish(draws, picture.canvas), glyph.label


def _off_centre(draws: Draws, side: int) -> int:
    """Off centre by up to an eighth of the crop, with at most a tenth of the digit outside.

    A quarter, as regions hardly ever are, kept small nets at chance for hundreds of steps.
    """
    start = (CROP_SIZE - side) // 2 + draws.between(-CROP_SIZE // 8, CROP_SIZE // 8)
    return min(max(start, -(side // 10)), CROP_SIZE - side + side // 10)


def paint_scene(draws: Draws, material: Material) -> Scene:
    """A 144 x 144 scene with one to six digits; 2 % have none, 3 % a crowd besides."""
    while True:
        picture, digits = _try_scene(draws, material)
        for number, digit in enumerate(digits, 1):
            digit.visible = picture.owner == number
        if all(digit.hidden <= HIDDEN_LIMIT for digit in digits):
            break
    for digit in digits:
        digit.is_difficult |= digit.hidden >= HIDDEN_DIFFICULT
    return Scene(finish(draws, picture.canvas), digits, picture.background)


def _try_scene(draws: Draws, material: Material) -> tuple[Picture, list[Digit]]:
    picture = Picture(draws, material, SCENE_SIZE)
    digits: list[Digit] = []
    for _ in range(draws.below(5)):
        picture.put_distractor(draws.uniform(*DISTRACTORS))
    if draws.chance(EMPTY_SCENES):
        return picture, digits
    if draws.chance(CROWD_SCENES):
        _put_crowd(picture, digits)
    for _ in range(draws.between(1, 6)):
        _put_scene_digit(picture, digits)
    return picture, digits


def _put_scene_digit(picture: Picture, digits: list[Digit]) -> None:
    """One digit more, at a free place; none when 30 tries find no place."""
    draws = picture.draws
    glyph = draws.choice(picture.material.digits)
    is_tiny, is_faint = draws.chance(TINY), draws.chance(FAINT)
    mask = picture.shape(glyph, draws.log_uniform(*(TINY_SIDES if is_tiny else SIDES)))
    place = _free_place(picture, mask, digits, crosses_border=draws.chance(CROSSING))
    if place is None:
        return
    x, y = place
    picture.put_digit(mask, x, y, owner=len(digits) + 1, is_faint=is_faint)
    _note(picture, digits, glyph.label, mask, x, y, is_difficult=is_tiny or is_faint)
    if draws.chance(OCCLUDED):
        picture.occlude(mask, x, y, draws.uniform(*OCCLUSION))
    elif draws.chance(HEAVILY_OCCLUDED):
        picture.occlude(mask, x, y, draws.uniform(*HEAVY_OCCLUSION))


def _put_crowd(picture: Picture, digits: list[Digit]) -> None:
    """Six to nine tiny digits of one class, close together; each is difficult."""
    draws = picture.draws
    label = draws.below(10)
    glyphs = [glyph for glyph in picture.material.digits if glyph.label == label]
    columns, rows = draws.choice(((3, 2), (4, 2), (2, 3), (2, 4), (3, 3)))
    step = 11
    left = draws.between(4, picture.size - 4 - columns * step)
    top = draws.between(4, picture.size - 4 - rows * step)
    for cell in range(columns * rows):
        mask = picture.shape(draws.choice(glyphs), draws.uniform(8, 12))
        x = left + cell % columns * step + draws.between(-1, 1)
        y = top + cell // columns * step + draws.between(-1, 1)
        picture.put_digit(mask, x, y, owner=len(digits) + 1)
        _note(picture, digits, label, mask, x, y, is_difficult=True, in_crowd=True)


def _note(
    picture: Picture,
    digits: list[Digit],
    label: int,
    mask: np.ndarray,
    x: int,
    y: int,
    *,
    is_difficult: bool,
    in_crowd: bool = False,
) -> None:
    """Adds the digit that was just painted at (x, y) to the list."""
    covered = picture.owner == len(digits) + 1
    box = tight_box(covered)
    is_truncated = box != (x, y, x + mask.shape[1], y + mask.shape[0])
    digits.append(Digit(label, box, is_truncated, is_difficult, in_crowd, int(covered.sum())))


def _free_place(
    picture: Picture, mask: np.ndarray, digits: Sequence[Digit], *, crosses_border: bool
) -> tuple[int, int] | None:
    draws, size = picture.draws, picture.size
    height, width = mask.shape
    for _ in range(30):
        x, y = draws.between(0, size - width), draws.between(0, size - height)
        if crosses_border:
            cut = draws.uniform(0.15, 0.45)
            cut_x, cut_y = int(cut * width), int(cut * height)
            beyond_x, beyond_y = size - width + cut_x, size - height + cut_y
            x, y = draws.choice(((-cut_x, y), (x, -cut_y), (beyond_x, y), (x, beyond_y)))
        box = (x, y, x + width, y + height)
        if all(_axis_overlap(box, other.box) <= OVERLAP for other in digits):
            return x, y
    return None


def _axis_overlap(a: Box, b: Box) -> float:
    """Overlap along the axis where it is smaller, relative to the shorter of the two sides."""
    return min(
        max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) / min(a[i + 2] - a[i], b[i + 2] - b[i])
        for i in (0, 1)
    )
