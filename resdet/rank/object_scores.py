"""LogME of a backbone on the objects of the training images, from the maps that are kept.

An object's features are its region of the map of stride 16 (of the deepest before, where there is
none), pooled to one cell, as Fouquet et al. 2023 take them; its targets are its class and its box.

Not for: the evidence itself (`resdet.evaluation.transferability`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision.ops import roi_align

from resdet.detect.frozen.trunk_maps import MAPS, MapsMapper
from resdet.evaluation.transferability.evidence import LogMe, logme

STRIDE = 16
CELLS = 7
# Objects that are scored at most, drawn evenly: the evidence takes the cube of the features.
MOST_OBJECTS = 5000


def score(records: Sequence[dict[str, Any]], mapper: MapsMapper, strides: dict[str, int]) -> LogMe:
    """The scores on the objects of these records.

    Args:
        mapper: gives maps and objects of a record.
        strides: of each map.
    """
    name = deepest(strides)
    features, labels, boxes = [], [], []
    for record in records:
        given = mapper(record)
        objects = given["instances"]
        if not len(objects):
            continue
        corners = objects.gt_boxes.tensor
        found = roi_align(
            given[MAPS][name][None], [corners], CELLS, 1 / strides[name], 2, aligned=True
        )
        height, width = objects.image_size
        features.append(found.mean((2, 3)).double().numpy())
        labels.append(objects.gt_classes.numpy())
        boxes.append((corners / torch.tensor([width, height, width, height])).double().numpy())
    stacked = [np.concatenate(parts) for parts in (features, labels, boxes)]
    if len(stacked[0]) > MOST_OBJECTS:
        chosen = np.linspace(0, len(stacked[0]) - 1, MOST_OBJECTS).round().astype(int)
        stacked = [part[chosen] for part in stacked]
    return logme(*stacked)


def deepest(strides: dict[str, int]) -> str:
    """The map of stride 16, or the deepest before it; without one, the first."""
    fitting = [name for name, stride in strides.items() if stride <= STRIDE]
    return fitting[-1] if fitting else next(iter(strides))
