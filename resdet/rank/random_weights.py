"""A net that was never trained, as a file that ranks like any other: the floor of a ranking.

Its batch norms have the statistics of the data, each layer's on what the layers before give: with
the usual 0 and 1 a frozen net would send maps of any size up.

Not for: training from random weights (TRANSFER.FROM_SCRATCH).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet import nets, weights
from resdet.data.images.reader import ImageReader
from resdet.data.records import DetectionSet
from resdet.detect.loading import Mapper
from resdet.errors import ConfigError
from resdet.nets.timm import TimmNet
from resdet.rank.candidates import RankedBackbone, file_of_source
from resdet.weights import Card, Input
from resdet.weights.addresses.fetch import is_address
from resdet.weights.cards import card_of_timm
from resdet.weights.resolve import WeightFile

# ImageNet's, as torchvision states them for pixels of 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES = 32
SEED = 1


def make(candidate: RankedBackbone, path: Path, data: DetectionSet, size: int) -> None:
    """Writes the file of a random net; one that is there stays.

    Args:
        data, size: images that its norms are measured on.

    Raises:
        ConfigError: no such net, or none for images of this size. WeightsError: as reading the
            weights whose twin it is.
    """
    if path.exists():
        return
    net, card = _net_and_card(candidate.source)
    images = _images(data, card, size)
    try:
        _measure_norms(net, images)
    except (RuntimeError, AssertionError):
        if not isinstance(net, TimmNet):
            raise
        net, card = _of_one_size(card, net.num_classes, size)
        _measure_norms(net, images)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.save(path, net.state_dict(), card)


def _of_one_size(card: Card, classes: int, size: int) -> tuple[nets.Net, Card]:
    """A net that takes images of one size alone, built for the ranking's."""
    options = {**card.net_options, "image_size": size}
    torch.manual_seed(SEED)
    try:
        net = nets.build(card.net, classes, **options)
    except ValueError as error:
        raise ConfigError(
            f"{card.net} cannot be built for images of {size} pixels alone: "
            f"{str(error).removesuffix('; leave them out')}. Leave this backbone out, or give "
            "another --size."
        ) from None
    return net, dataclasses.replace(card, net_options=options)


def _net_and_card(source: str) -> tuple[nets.Net, Card]:
    torch.manual_seed(SEED)
    if is_address(source) or Path(source).exists():
        like = WeightFile(file_of_source(source)).load()[1]
        classes = len(like.classes) or 1000
        net = nets.build(like.net, classes, **like.net_options)
        return net, Card(like.net, like.input, dict(like.net_options), data={"name": "random"})
    try:
        net = nets.build(source)
    except ValueError as error:
        raise ConfigError(
            f"random:{source}: {error} It is no file, run folder or address either."
        ) from None
    if isinstance(net, TimmNet):
        like = card_of_timm(net)
        return net, Card(like.net, like.input, data={"name": "random"})
    return net, Card(source, Input.of_unit_range(MEAN, STD, 224), data={"name": "random"})


def _images(data: DetectionSet, card: Card, size: int) -> torch.Tensor:
    """(N, 3, size, size), normalised, padded with zeros."""
    from detectron2.data import transforms as T

    mapper = Mapper(
        [T.ResizeShortestEdge([size] * 2, size, "choice")],
        image_format=card.input.color_order,
        reader=ImageReader(),
        is_train=False,
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (card.input.mean, card.input.std))
    images = torch.zeros(min(IMAGES, len(data)), 3, size, size)
    for place in range(len(images)):
        image = mapper(data.records[place])["image"]
        images[place, :, : image.shape[1], : image.shape[2]] = (image - mean) / std
    return images


@torch.no_grad()
def _measure_norms(net: nn.Module, images: torch.Tensor) -> None:
    """One pass in which each batch norm takes the statistics of these images."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0
        norm.train()
    net(images)
    net.eval()
