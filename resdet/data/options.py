"""How data sets and images are read, where there is a choice. All off: the strictest reading."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

# Faults that may be passed over, exactly so many: in every set, or in the sets of these names.
Counts = int | Mapping[str, int]

EXIF = ("apply", "ignore")
SIXTEEN_BIT = ("refuse", "high_byte", "stretch")


@dataclass(frozen=True)
class DataOptions:
    """Choices of the reader; `Counts` are of faults that may be passed over.

    Attributes:
        allow_missing: listed images without a file (training only).
        drop_orphans: annotations of images that are not there.
        drop_degenerate: boxes without area.
        clip_boxes: pixels by which a box may leave its image; it is then clipped.
        voc_origin: where VOC's XML starts to count: 1 (pixels from 1, both ends inside, as VOC
            does) or 0 (the four numbers are edges, x from 0 to the width, as most tools write).
        exif: "apply" or "ignore" the EXIF orientation, for whole sets.
        sixteen_bit: "refuse", "high_byte" (divide by 256), "stretch" (per file, min to max).
        alpha_over: RGB under a transparent picture; None drops alpha, as stock readers do.
        max_pixels: larger images are refused.
        ilsvrc_per_class: at most so many training images of each class in ilsvrc_det_train; 0: all.
        check_images: every image's header is read once before anything starts.
        masks: COCO's masks are kept of all objects; without it of crowds alone, which takes a third
            of the memory. Boxes and hash are the same.
        needs_masks: every object must have a whole mask of its image's size, to train and score
            masks; run lengths are then kept compressed. False: masks are not looked at.
        drop_maskless: objects without one (with `needs_masks` alone).
        cache: facts from headers and contents are kept in the user's cache folder. Without it
            everything is read again, with the same result.

    Raises:
        ValueError: a value out of its range.
    """

    allow_missing: Counts = 0
    drop_orphans: Counts = 0
    drop_degenerate: Counts = 0
    clip_boxes: float = 0.0
    voc_origin: int = 1
    exif: str = "apply"
    sixteen_bit: str = "refuse"
    alpha_over: tuple[int, int, int] | None = None
    max_pixels: int = 90_000_000
    ilsvrc_per_class: int = 0
    check_images: bool = True
    masks: bool = True
    needs_masks: bool = False
    drop_maskless: Counts = 0
    cache: bool = True

    def __post_init__(self) -> None:
        for name, choices in (
            ("exif", EXIF),
            ("sixteen_bit", SIXTEEN_BIT),
            ("voc_origin", (0, 1)),
        ):
            value = getattr(self, name)
            if value not in choices:
                listed = ", ".join(map(str, choices))
                raise ValueError(f"{name} is {value!r}, expected one of {listed}")
        for name in ("allow_missing", "drop_orphans", "drop_degenerate", "clip_boxes",
                     "drop_maskless", "ilsvrc_per_class"):  # fmt: skip
            value = getattr(self, name)
            numbers = value.values() if isinstance(value, Mapping) else (value,)
            if not all(number >= 0 for number in numbers):
                raise ValueError(f"{name} is {value!r}, expected 0 or more")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels!r}, expected 1 or more")
        over = self.alpha_over
        if over is not None and (len(over) != 3 or not all(0 <= v <= 255 for v in over)):
            raise ValueError(f"alpha_over is {over!r}, expected three values from 0 to 255")


def count_for(counts: Counts, name: str) -> int:
    """How many faults the set of this name may have; none where others are named, and it is not."""
    return counts.get(name, 0) if isinstance(counts, Mapping) else counts


def to_type(key: str, counts: Counts, name: str, number: int) -> str:
    """What to type so that the set `name` may have `number` faults, and others what was stated.

    Example:
        >>> print(to_type("DATASETS.DROP_ORPHANS", 0, "mine", 3))
        DATASETS.DROP_ORPHANS mine=3
        >>> print(to_type("DATASETS.DROP_ORPHANS", {"mine": 3}, "yours", 1))
        DATASETS.DROP_ORPHANS "('mine=3', 'yours=1')"
    """
    named = {**(counts if isinstance(counts, Mapping) else {}), name: number}
    entries = tuple(f"{set_name}={count}" for set_name, count in named.items())
    if len(entries) == 1:
        return f"{key} {shlex.quote(entries[0])}"
    text = repr(entries)
    # Double quotes read better, where a shell leaves alone what stands between them.
    quoted = shlex.quote(text) if set(text) & set('"$`!\\') else f'"{text}"'
    return f"{key} {quoted}"
