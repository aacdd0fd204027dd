"""How data sets and images are read, where there is a choice. All off: the strictest reading."""

from __future__ import annotations

from dataclasses import dataclass

EXIF = ("apply", "ignore")
SIXTEEN_BIT = ("refuse", "high_byte", "stretch")


@dataclass(frozen=True)
class DataOptions:
    """Choices of the reader; the numbers are exact counts of faults that may be passed over.

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
        check_images: every image's header is read once before anything starts.
        cache: what headers and contents said is kept in the user's cache folder. Without it
            everything is read again, with the same result.

    Raises:
        ValueError: a value out of its range.
    """

    allow_missing: int = 0
    drop_orphans: int = 0
    drop_degenerate: int = 0
    clip_boxes: float = 0.0
    voc_origin: int = 1
    exif: str = "apply"
    sixteen_bit: str = "refuse"
    alpha_over: tuple[int, int, int] | None = None
    max_pixels: int = 90_000_000
    check_images: bool = True
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
        for name in ("allow_missing", "drop_orphans", "drop_degenerate", "clip_boxes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected 0 or more")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels!r}, expected 1 or more")
        over = self.alpha_over
        if over is not None and (len(over) != 3 or not all(0 <= v <= 255 for v in over)):
            raise ValueError(f"alpha_over is {over!r}, expected three values from 0 to 255")
