"""The card: what a weight file was trained on and how its input must look.

It lies inside our safetensors files (metadata key `resdet.card`, a JSON text), so it travels with
them. Detection takes its preprocessing from here and refuses a config that says otherwise.

Not for: what a foreign file is (`resdet.weights.origins.identify` knows those that can be told).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resdet.errors import WeightsError

CARD_KEY = "resdet.card"
CARD_VERSION = 1
COLOR_ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class Input:
    """How an image becomes input: (pixel - mean) / std, per channel, in `color_order`.

    Attributes:
        color_order: "RGB" or "BGR"; also the order of `mean` and `std`.
        mean, std: three numbers each, for pixel values in [0, 255].
        size: side of the square crop that the classifier was trained on, in pixels.
    """

    color_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 224
    exif: str = "apply"

    @classmethod
    def of_unit_range(cls, mean: Iterable[Any], std: Iterable[Any], size: int) -> Input:
        """For RGB, mean and std stated for pixels in [0, 1], as torchvision and timm do."""
        # Rounded: 0.485 * 255 is 123.675, and a config that says so must not contradict it.
        low, wide = (tuple(round(255 * float(v), 9) for v in values) for values in (mean, std))
        return cls("RGB", low, wide, size)

    def __post_init__(self) -> None:
        if self.color_order not in COLOR_ORDERS:
            raise ValueError(f"color_order is {self.color_order!r}, expected RGB or BGR")
        numbers = (*self.mean, *self.std)
        if (
            len(self.mean) != 3
            or len(self.std) != 3
            or not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
            or min(self.std) <= 0
        ):
            raise ValueError(
                f"mean {self.mean} and std {self.std}: three numbers each, std above 0"
            )
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size is {self.size!r}, expected pixels, 1 or more")


@dataclass(frozen=True)
class Card:
    """Provenance and conventions of one weight file. Only `net` and `input` are required.

    Attributes:
        net: name for `resdet.nets.build`; `net_options` are its options.
        classes: names of the classifier's outputs, in their order.
        norm: {"kind": "BN" | "none", "eps": float, "statistics": str, "folded": bool}.
        data: {"name", "images", "hash"} of the training set.
        metrics: measured values, e.g. {"top1_error": 18.2, "top5_error": 1.0}, in percent.
        training: {"samples", "iterations", "seconds", "seed"}.
        config: the resolved config of the training, as YAML.
        parent: SHA-256 of the tensors that this training started from, or None.
        origin: "resdet", or where foreign tensors come from.
        part: of a foreign file with several nets, the key of the one that this card is of.
        verified: False where conventions are taken from the origin's habits, not from a record.
    """

    net: str
    input: Input
    net_options: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    norm: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    parent: str | None = None
    origin: str = "resdet"
    verified: bool = True
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    part: str = ""
    tensors_sha256: str = ""
    version: int = CARD_VERSION

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    @classmethod
    def read(cls, path: Path) -> Card:
        """The card in a file; raises WeightsError as `from_json`, and where it cannot be read."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"{path} cannot be read as a card: {error}.") from None
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, where: str) -> Card:
        """The card in this text.

        Raises:
            WeightsError: it is not a card of ours, or of a later version; names `where`.
        """
        try:
            values = json.loads(text)
            version = values["version"]
            if version > CARD_VERSION:
                raise WeightsError(
                    f"{where}: its card has version {version}, this resdet reads {CARD_VERSION}. "
                    "Update resdet."
                )
            given: dict[str, Any] = values["input"]
            values["input"] = Input(
                **{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])}
            )
            values["classes"] = tuple(values["classes"])
            if not isinstance(values["net"], str):
                raise TypeError(f"net is {values['net']!r}, expected a name")
            if not isinstance(values.get("net_options", {}), dict):
                raise TypeError("net_options is no dict")
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{where}: its card cannot be read: {error!r}.") from None
