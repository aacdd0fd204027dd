"""The test protocol of a classifier: centre, 10-crop or dense; docs/classification.md has sources.

    centre   the centre crop of the image with shorter side `side`
    10-crop  four corners, the centre, and their mirror images
    dense    whole images of several sizes, the net run over each, and over its mirror image

Not for: cutting views (`views`), or running a net on them (`scoring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resdet.errors import ConfigError

KINDS = ("centre", "10-crop", "dense")
AVERAGES = ("probabilities", "logits")
RESIZES = ("bilinear", "bicubic")
# He et al. 2015, section 3.4, for nets of 224 x 224.
PAPER_SIZES = (224, 256, 384, 480, 640)
PAPER_CROP = 224
# 4 of 32 pixels, as CIFAR's training images are padded (He et al. 2015, section 4.2).
PADDED_SHARE = 8


@dataclass(frozen=True)
class ViewProtocol:
    """Which views, and what is averaged over them.

    Attributes:
        kind: one of `KINDS`.
        crop: side of a crop; of dense: of the image that one position of the net sees.
        side: shorter side of the image that crops are cut from; 0 for dense.
        pad: black pixels around that image; 10-crop alone.
        sizes: shorter sides of the image; dense alone.
        flip: mirror images are seen, too; of 10-crop always.
        average: what is averaged over crops (10-crop) or positions (dense): probabilities, or
            logits before the softmax. Image and mirror image of dense, and sizes, are averaged as
            probabilities always.
        resize: the filter, antialiased.
    """

    kind: str
    crop: int
    side: int = 0
    pad: int = 0
    sizes: tuple[int, ...] = ()
    flip: bool = False
    average: str = "probabilities"
    resize: str = "bilinear"

    @property
    def tag(self) -> str:
        """A short name for files, another one for each protocol."""
        average = "" if self.average == self._usual_average else f"-{self.average}"
        average += "" if self.resize == "bilinear" else f"-{self.resize}"
        if self.kind == "dense":
            sizes = "-".join(map(str, self.sizes))
            return f"dense-{sizes}{'' if self.flip else '-noflip'}{average}-of{self.crop}"
        pad = f"-pad{self.pad}" if self.pad else ""
        return f"{self.kind}-{self.crop}of{self.side}{pad}{average}"

    @property
    def _usual_average(self) -> str:
        return "logits" if self.kind == "dense" else "probabilities"

    def words(self) -> str:
        """For tables and pages."""
        return self._words() + ("" if self.resize == "bilinear" else f", {self.resize}")

    def _words(self) -> str:
        if self.kind == "centre":
            return f"centre {self.crop} of side {self.side}"
        mean = "softmax averaged" if self.average == "probabilities" else "logits averaged"
        if self.kind == "10-crop":
            pad = f" padded by {self.pad}" if self.pad else ""
            return f"10-crop {self.crop} of side {self.side}{pad}, {mean}"
        mirror = "image and mirror image" if self.flip else "image alone"
        return f"dense at {', '.join(map(str, self.sizes))}, {mirror}, positions: {mean}"

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "kind": self.kind, "crop": self.crop, "average": self.average, "resize": self.resize
        }  # fmt: skip
        if self.kind == "dense":
            return {**values, "sizes": list(self.sizes), "flip": self.flip}
        return {**values, "side": self.side, "pad": self.pad}


def make_protocol(
    kind: str,
    *,
    crop: int,
    side: int,
    sizes: Sequence[int] | None = None,
    stated_side: int | None = None,
    pad: int | None = None,
    flip: bool | None = None,
    average: str | None = None,
    resize: str = "bilinear",
) -> ViewProtocol:
    """The protocol of these options; None takes the default.

    Args:
        crop, side: of the net's card; resize: as well, or as stated.
        stated_side: replaces `side`.
        pad: by default 0 where crops have room, and an eighth of the crop where `side` is the
            crop, as for CIFAR's whole images.
        sizes: by default the paper's, in proportion for a net of another crop than 224.

    Raises:
        ConfigError: an option that the protocol has no use for, or a value out of its range.
    """
    _refuse_unused(kind, {"--sizes": sizes, "--side": stated_side, "--pad": pad,
                          "--no-flip": flip, "--average": average})  # fmt: skip
    if kind == "dense":
        chosen = tuple(sizes or (round(size * crop / PAPER_CROP) for size in PAPER_SIZES))
        if len(set(chosen)) < len(chosen) or min(chosen) < 1:
            raise ConfigError(f"--sizes are {' '.join(map(str, chosen))}: give each once, above 0.")
        return ViewProtocol(
            kind, crop, sizes=chosen, flip=flip is not False, average=average or "logits",
            resize=resize,
        )  # fmt: skip
    side = side if stated_side is None else stated_side
    if kind == "centre":
        pad = 0
    elif pad is None:
        pad = round(crop / PADDED_SHARE) if side == crop else 0
    if side < 1 or pad < 0 or side + 2 * pad < crop:
        raise ConfigError(
            f"a crop of {crop} pixels does not fit into a shorter side of {side}"
            f"{f' padded by {pad}' if pad else ''}: raise --side."
        )
    return ViewProtocol(
        kind, crop, side=side, pad=pad, flip=kind == "10-crop",
        average=average or "probabilities", resize=resize,
    )  # fmt: skip


_USED = {
    "centre": ("--side",),
    "10-crop": ("--side", "--pad", "--average"),
    "dense": ("--sizes", "--no-flip", "--average"),
}


def _refuse_unused(kind: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None and name not in _USED[kind]:
            kinds = " or ".join(k for k in KINDS if name in _USED[k])
            raise ConfigError(
                f"{name} is for --protocol {kinds}, and the protocol is {kind}. Leave it out, or "
                "change --protocol."
            )
