"""Plain values out of a config, for classes that never see one.

Not for: what follows from a net or a card (`derived_keys`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resdet.errors import ConfigError
from resdet.nets.families import family_of


def net_options(cfg: Any) -> dict[str, Any]:
    """The options of MODEL.NET that are not left to the family, for `nets.build`.

    Width and stride rule of our own nets are always given, so that cards hold them; a foreign
    net gets only what was set, and it refuses what it does not take.
    """
    net = cfg.MODEL.NET
    family = family_of(net.NAME)
    options: dict[str, Any] = {"width": net.WIDTH}
    if family is None or family.has_stride_choice:
        options["stride_in_1x1"] = net.STRIDE_IN_1X1
    if family is None:
        unset = {"width": 1.0, "stride_in_1x1": True}
        options = {name: value for name, value in options.items() if value != unset[name]}
    choices = (
        ("shortcut", net.SHORTCUT, ""),
        ("stem", net.STEM, ""),
        ("pools", net.POOLS, 0),
        ("fc_channels", net.FC_CHANNELS, 0),
        ("dropout", net.DROPOUT, -1.0),
        ("pooled_size", net.POOLED_SIZE, 0),
        ("image_size", net.IMAGE_SIZE, 0),
        ("res5_dilation", net.RES5_DILATION, 1),
        ("norm_eps", net.NORM_EPS, 0.0),
    )
    return options | {option: value for option, value, off in choices if value != off}


def drop_path_option(cfg: Any) -> dict[str, float]:
    """MODEL.NET.DROP_PATH for `nets.build`: no option of the weights, so no card has it.

    Raises:
        ConfigError: the net is one of ours, which have none.
    """
    rate, name = cfg.MODEL.NET.DROP_PATH, cfg.MODEL.NET.NAME
    if rate >= 0 and family_of(name) is not None:
        raise ConfigError(
            f"MODEL.NET.DROP_PATH is {rate}, and {name} has no drop path: nets of timm have. "
            "Leave it out."
        )
    return {"drop_path": rate} if rate >= 0 else {}


def data_options(cfg: Any) -> dict[str, Any]:
    """How data sets and images are read, for `resdet.data.DataOptions`."""
    data, images = cfg.DATASETS, cfg.INPUT
    return {
        "allow_missing": _counts(data.ALLOW_MISSING),
        "drop_orphans": _counts(data.DROP_ORPHANS),
        "drop_degenerate": _counts(data.DROP_DEGENERATE),
        "drop_maskless": _counts(data.DROP_MASKLESS),
        "clip_boxes": data.CLIP_BOXES,
        "voc_origin": data.VOC_ORIGIN,
        "exif": images.EXIF,
        "sixteen_bit": images.SIXTEEN_BIT,
        "alpha_over": tuple(images.ALPHA_OVER) or None,
        "max_pixels": images.MAX_PIXELS,
        "ilsvrc_per_class": data.ILSVRC_PER_CLASS,
    }


def _counts(value: int | Sequence[str]) -> int | dict[str, int]:
    """The value of a key of `COUNTS`: for all sets, or by name (which may hold a "=" itself)."""
    if isinstance(value, int):
        return value
    parts = (entry.rpartition("=") for entry in value)
    return {name: int(count) for name, _, count in parts}
