"""Cards: what a weight file was trained on and its input format.

    inside            our safetensors files: metadata key `resdet.card`, a JSON text
    x.pth.card.json   beside a foreign file, written by `convert_weights card`
    config.json       beside timm's files: its `pretrained_cfg`; of a net built: `card_of_timm`

A card stays with its file. Detection takes its preprocessing from here and refuses a config that
differs.

Not for: the card of a foreign file that has none of these (`origins.habits`).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet import bounded_files
from resdet.errors import WeightsError
from resdet.nets.timm import PREFIX, TimmNet
from resdet.printable import json_text

CARD_KEY = "resdet.card"
CARD_VERSION = 1
COLOR_ORDERS = ("RGB", "BGR")
SUFFIX = ".card.json"
# The names of 21,841 classes are a megabyte.
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Input:
    """How an image becomes input: (pixel - mean) / std, per channel, in `color_order`.

    A net may have been trained with a mean for each pixel. It is part of the input then, for images
    of its size; elsewhere (a detector, whose images have any size) `mean` is used: the mean image's
    own mean, as detectors on He et al.'s weights do.

    Attributes:
        color_order: "RGB" or "BGR"; also the order of `mean` and `std`.
        mean, std: three numbers each, for pixel values in [0, 255].
        size: side of the square crop that the classifier was trained on, in pixels.
        mean_image: size x size x 3 float32 values, little-endian, as base64; "" = none.
    """

    color_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 224
    exif: str = "apply"
    mean_image: str = ""

    @classmethod
    def of_mean_image(
        cls,
        color_order: str,
        image: npt.NDArray[np.float32],
        std: tuple[float, ...],
        exif: str = "apply",
    ) -> Input:
        """With a mean for each pixel: (side, side, 3) in `color_order`."""
        mean = tuple(float(v) for v in image.mean((0, 1), dtype=np.float64))
        text = base64.b64encode(image.astype("<f4").tobytes()).decode("ascii")
        return cls(color_order, mean, std, len(image), exif, text)

    def mean_image_array(self) -> npt.NDArray[np.float32] | None:
        """(size, size, 3) in `color_order`; None without one."""
        if not self.mean_image:
            return None
        values = np.frombuffer(base64.b64decode(self.mean_image, validate=True), "<f4")
        return values.reshape(self.size, self.size, 3).astype(np.float32)

    def turned(self) -> Input:
        """The same in the other colour order."""
        order = "BGR" if self.color_order == "RGB" else "RGB"
        std = tuple(reversed(self.std))
        image = self.mean_image_array()
        if image is not None:
            return Input.of_mean_image(order, image[:, :, ::-1], std, self.exif)
        return dataclasses.replace(
            self, color_order=order, mean=tuple(reversed(self.mean)), std=std
        )

    @classmethod
    def of_unit_range(cls, mean: Iterable[Any], std: Iterable[Any], size: int) -> Input:
        """For RGB, mean and std stated for pixels in [0, 1], as torchvision and timm do."""
        # Rounded: 0.485 * 255 is 123.675, and a config with that value must not contradict it.
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
        try:
            image = self.mean_image_array()
        except (binascii.Error, ValueError, TypeError) as error:
            raise ValueError(
                f"mean_image is not base64 of {self.size} x {self.size} x 3 float32 values: {error}"
            ) from None
        if image is not None and not np.isfinite(image).all():
            raise ValueError("mean_image holds values that are not finite")


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
        source: of a file that came by an address: "address", "url", "sha256" and others
            (`addresses.fetched_file`).
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
    source: dict[str, str] = field(default_factory=dict)
    tensors_sha256: str = ""
    version: int = CARD_VERSION

    def to_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        if not self.input.mean_image:
            # A card without one reads as before this field was there.
            del values["input"]["mean_image"]
        if not self.source:
            del values["source"]
        return values

    def to_json(self) -> str:
        return json_text(self.to_dict())

    @classmethod
    def read(cls, path: Path) -> Card:
        """The card in a file; raises WeightsError as `from_json`, and where it cannot be read."""
        try:
            text = bounded_files.read_text(path, most=MOST_BYTES)
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
            json.dumps(values, allow_nan=False)  # NaN, and numbers beyond every float
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
            if not isinstance(values.get("norm", {}), dict):
                raise TypeError("norm is no dict")
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{where}: its card cannot be read: {error!r}.") from None


# -- beside a foreign file ----------------------------------------------------------------------


def path_beside(path: Path | str) -> Path:
    """Where the card of a foreign file lies."""
    return Path(f"{path}{SUFFIX}")


def part_of(path: Path | str) -> str | None:
    """The part of the file that the card beside it is of; None without a card or a part."""
    card = card_beside(path)
    return card.part or None if card else None


def card_beside(path: Path | str) -> Card | None:
    """The card that lies beside a file; None without one."""
    beside = path_beside(path)
    return Card.read(beside) if beside.exists() else None


# -- of timm -------------------------------------------------------------------------------------


def timm_record(path: Path) -> dict[str, Any] | None:
    """The config.json of timm beside a file; None without one, or where it is another library's.

    Raises:
        WeightsError: it is timm's (it has a `pretrained_cfg`) and cannot be read.
    """
    config = path.parent / "config.json"
    if not config.is_file():
        return None
    try:
        record = json.loads(bounded_files.read_text(config, most=MOST_BYTES))
        if not isinstance(record, dict) or "pretrained_cfg" not in record:
            return None
        if not isinstance(record["architecture"], str) or not record["pretrained_cfg"]["mean"]:
            raise ValueError("no architecture")
        return record
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise WeightsError(
            f"{config} lies beside {path.name} but is no timm config ({error!r}). Fix it, or move "
            "the weights into a folder of their own."
        ) from None


def timm_input(path: Path, record: dict[str, Any]) -> Input:
    """The input format of the record; timm's numbers are for pixels in [0, 1]."""
    stated = record["pretrained_cfg"]
    try:
        size = int(stated["input_size"][-1])
        return Input.of_unit_range(stated["mean"], stated["std"], size)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsError(
            f"{path.parent / 'config.json'}: its pretrained_cfg cannot be read ({error!r}). Fix "
            "it, or move the weights into a folder of their own."
        ) from None


def card_of_timm(net: TimmNet) -> Card:
    """The card of a net's pretrained weights, from timm's record.

    timm scales pixels to [0, 1] before mean and std; ours are for [0, 255]. Images are RGB. Where
    the record names weights (a tag such as `a1_in1k`), the card is `verified`; a net without any
    has timm's defaults, which no record states.

    Args:
        net: of `resdet.nets.build("timm:NAME")`; `NAME.TAG` chooses among the records.

    Raises:
        TypeError: it is no net of timm. ValueError: its input is not three channels wide.
    """
    if not isinstance(net, TimmNet):
        raise TypeError(f"got a {type(net).__name__}, expected a net of build('{PREFIX}NAME')")
    record: dict[str, Any] = dict(getattr(net.model, "pretrained_cfg", None) or {})
    _, height, _ = record.get("input_size", (3, 224, 224))
    channels = getattr(net.model, "in_chans", 3)
    if channels != 3:
        raise ValueError(f"{PREFIX}{net.name} takes {channels} channels, expected 3")
    weights = {
        key: record[key]
        for key in (
            "tag",
            "hf_hub_id",
            "url",
            "license",
            "num_classes",
            "interpolation",
            "crop_pct",
        )
        if record.get(key)
    }
    names = record.get("label_names")
    return Card(
        net=PREFIX + net.name.partition(".")[0],
        input=Input.of_unit_range(record["mean"], record["std"], int(height)),
        classes=tuple(names) if names else (),
        norm=norm_of_net(net.model),
        data={"name": record.get("tag") or "unknown", "timm": weights},
        origin="timm",
        verified=bool(record.get("tag") and (record.get("hf_hub_id") or record.get("url"))),
    )


def norm_of_net(model: nn.Module) -> dict[str, Any]:
    """Kind of norm and its eps, as cards have it; the first norm stands for all."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            return {"kind": "BN", "eps": module.eps, "folded": False}
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            kind = "LN" if isinstance(module, nn.LayerNorm) else "GN"
            return {"kind": kind, "eps": module.eps, "folded": False}
    return {"kind": "none", "folded": False}
