"""The card of weights that timm describes: `pretrained_cfg` as our conventions.

Not for: the weights themselves. The tensors of a state dict of timm are called in a file of ours as
they are called in timm, and the card says of which net they are.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet.nets.timm import PREFIX, TimmNet
from resdet.weights.card import Card, Input


def card_of_timm(net: TimmNet) -> Card:
    """What timm's record says of a net's pretrained weights.

    timm scales pixels to [0, 1] before mean and std; ours are for [0, 255]. Images are RGB. Where
    the record names weights (a tag such as `a1_in1k`), the card is `verified`; a net without any
    has timm's defaults, which nobody recorded.

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
        norm=_norm_of(net.model),
        data={"name": record.get("tag") or "unknown", "timm": weights},
        origin="timm",
        verified=bool(record.get("tag") and (record.get("hf_hub_id") or record.get("url"))),
    )


def _norm_of(model: nn.Module) -> dict[str, Any]:
    """Kind of norm and its eps, as cards have it; the first norm speaks for all."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            return {"kind": "BN", "eps": module.eps, "folded": False}
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            kind = "LN" if isinstance(module, nn.LayerNorm) else "GN"
            return {"kind": kind, "eps": module.eps, "folded": False}
    return {"kind": "none", "folded": False}
