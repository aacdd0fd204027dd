"""akamaster's CIFAR nets: conv1, bn1, layer1.0.conv1, linear.

Option A's zeros lie around the copied channels there, behind them here: `uncentred` and `centred`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from resdet.errors import WeightsError
from resdet.weights.cards import Input
from resdet.weights.formats.contents import Tensors
from resdet.weights.origins.origin import CIFARS, IMAGENET_RGB, Layer, Names, Notes, Origin
from resdet.weights.origins.torchvision import resnet_naming


def _akamaster(layer: Layer) -> tuple[str, str]:
    return ("linear", "") if layer.name == "linear" else resnet_naming(layer)


def _to_ours(ours: Tensors, raw: Mapping[str, torch.Tensor], where: str) -> tuple[Tensors, Notes]:
    _refuse_half_an_option_a(ours, where)
    notes = ("option A has its zeros around the channels there, behind them here",)
    return uncentred(ours), notes


def _from_ours(net: str, ours: Tensors) -> tuple[Tensors, Notes]:
    return centred(ours), ("option A's zeros put around the channels",)


def _refuse_half_an_option_a(ours: Mapping[str, torch.Tensor], where: str) -> None:
    """Channels can be put in another order only all along the residual stream."""
    streams = [n for n in ours if n.endswith(("conv1.weight", "conv2.weight"))]
    widths = {n: tuple(ours[n].shape[:2]) for n in streams}
    for name in ("stem.conv1.weight", "res3.0.conv2.weight", "res4.0.conv2.weight"):
        if name not in ours:
            raise WeightsError(f"{where}: {name} (by our names) is missing. Give the whole file.")
    base = ours["stem.conv1.weight"].shape[0]
    for name, (out_channels, _) in widths.items():
        stage = 2 if name.startswith("stem") else int(name[3])
        if out_channels != base * 2 ** (stage - 2):
            raise WeightsError(
                f"{where}: {name} (by our names) has {out_channels} channels, expected "
                f"{base * 2 ** (stage - 2)}. It is another net: docs/own_net.md."
            )


def uncentred(theirs: Tensors) -> Tensors:
    """A CIFAR net whose option A pads zeros on both sides, as the same function with zeros behind.

    Channels of the residual stream get another order, stage by stage; every convolution, norm and
    the last layer follow. The function stays the same (sums in another order: 1e-6 in float32),
    the values are moved only.
    """
    return _reordered(theirs, inverse=False)


def centred(ours: Tensors) -> Tensors:
    """Back, bit for bit."""
    return _reordered(ours, inverse=True)


def _reordered(tensors: Tensors, *, inverse: bool) -> Tensors:
    orders = _orders(tensors)
    if inverse:
        orders = {stage: torch.argsort(order) for stage, order in orders.items()}
    reordered = dict(tensors)
    for name, tensor in tensors.items():
        for dim, stage in _streams(name, tensor):
            reordered[name] = reordered[name].index_select(dim, orders[stage]).contiguous()
    return reordered


def _orders(tensors: Mapping[str, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Stage to the order of its stream: entry k is the channel there that is channel k here."""
    order = torch.arange(tensors["stem.conv1.weight"].shape[0])
    orders = {2: order}
    for stage in (3, 4):
        channels = tensors[f"res{stage}.0.conv2.weight"].shape[0]
        before = (channels - len(order)) // 2
        copied = order + before
        zeros = [c for c in range(channels) if not before <= c < before + len(order)]
        order = torch.cat([copied, torch.tensor(zeros, dtype=torch.long)])
        orders[stage] = order
    return orders


def _streams(name: str, tensor: torch.Tensor) -> Iterator[tuple[int, int]]:
    """The dimensions of a tensor that run along the residual stream, and of which stage."""
    if name.endswith("num_batches_tracked"):
        return
    if name == "linear.weight":
        yield 1, 4
    if not name.startswith("res"):
        return
    stage, block, layer = int(name[3]), int(name.split(".")[1]), name.split(".")[2]
    if layer == "conv1" and tensor.ndim == 4:
        yield 1, stage if block else max(2, stage - 1)
    if layer == "conv2":
        yield 0, stage


AKAMASTER = Origin(
    "akamaster",
    Input("RGB", IMAGENET_RGB.mean, IMAGENET_RGB.std, size=32),
    stride_in_1x1=False,
    names=(Names(CIFARS, _akamaster),),
    to_ours=_to_ours,
    from_ours=_from_ours,
)
