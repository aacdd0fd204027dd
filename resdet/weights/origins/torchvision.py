"""torchvision: conv1, bn1, layer1.0.conv1, layer1.0.downsample.0, fc; features.0, classifier.0;
0, 1, 4.0.conv1 where a ResNet's children stand in an nn.Sequential.

Others have its names and are timm's by a record beside them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from resdet.errors import WeightsError
from resdet.weights.cards import timm_input, timm_record
from resdet.weights.formats.contents import Contents
from resdet.weights.origins.origin import (
    IMAGENET_RGB,
    RESNETS,
    VGGS,
    Habits,
    Layer,
    Names,
    Origin,
    vgg_naming,
)


def resnet_naming(layer: Layer) -> tuple[str, str]:
    if layer.name == "stem.conv1":
        return "conv1", "bn1"
    if layer.name == "linear":
        return "fc", ""
    stage, block, leaf = layer.place
    there = f"layer{stage - 1}.{block}"
    if leaf == "shortcut":
        return f"{there}.downsample.0", f"{there}.downsample.1"
    return f"{there}.{leaf}", f"{there}.bn{leaf[4:]}"


# Places of its modules in nn.Sequential(*net.children()), as trainers cut off the last layer.
_PLACES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def _numbered(layer: Layer) -> tuple[str, str]:
    if layer.name == "linear":
        return "9", ""
    there, norm = (name.split(".", 1) for name in resnet_naming(layer))
    return ".".join([_PLACES[there[0]], *there[1:]]), ".".join([_PLACES[norm[0]], *norm[1:]])


def habits_by_record(path: Path, contents: Contents, habits: Habits) -> Habits:
    """Conventions by timm's config.json beside the file; without one, the habits as they are.

    Raises:
        WeightsError: the record is of another net.
    """
    record = timm_record(path)
    if not record:
        return habits
    named = record["architecture"].removeprefix("tv_")
    if named != habits.net:
        raise WeightsError(
            f"{path.parent / 'config.json'} is of a {record['architecture']}, {path.name} "
            f"holds a {habits.net}. Keep a file and its config.json in a folder of their own."
        )
    return Habits("timm", habits.net, timm_input(path, record), habits.options, verified=True)


def _build(library: Any, net: str, num_classes: int) -> nn.Module:
    built: nn.Module = getattr(library.models, net)(weights=None, num_classes=num_classes)
    return built


_LAST = {"fc6": "classifier.0", "fc7": "classifier.3", "linear": "classifier.6"}
TORCHVISION = Origin(
    "torchvision",
    IMAGENET_RGB,
    stride_in_1x1=False,
    names=(
        Names(RESNETS, resnet_naming),
        Names(RESNETS, _numbered),
        Names(VGGS, every=vgg_naming(_LAST)),
    ),
    habits=habits_by_record,
    library="torchvision",
    build=_build,
)
