"""Small classifiers in files of ours, and what they give, worked out beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resdet import nets, weights
from tests.support.foreign_nets import randomised

NET, OPTIONS, SIZE = "cifar_resnet8", {"width": 0.5}, 16
MEAN, STD = (90.0, 100.0, 110.0), (50.0, 60.0, 70.0)
CLASSES = ("blue", "green", "red")


def save_classifier(path: Path, seed: int = 0, classes: Sequence[str] = CLASSES) -> torch.nn.Module:
    """A net with its card at `path`; the net itself, in evaluation mode."""
    net = randomised(nets.build(NET, len(classes), **OPTIONS), seed)
    card = weights.Card(
        net=NET,
        net_options=OPTIONS,
        input=weights.Input("BGR", MEAN, STD, SIZE),
        classes=tuple(classes),
        norm={"kind": "BN", "eps": 1e-5, "statistics": "made up", "folded": False},
    )
    weights.save(path, net.state_dict(), card)
    return net


def log_probabilities(net: torch.nn.Module, paths: Sequence[Path]) -> np.ndarray:
    """(N, K) of the centre crop of each picture: Pillow, then the net, one by one."""
    rows = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        scale = SIZE / min(image.size)
        size = tuple(round(v * scale) for v in image.size)
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (round((v - SIZE) / 2) for v in size)
        pixels = np.array(image.crop((left, top, left + SIZE, top + SIZE)))[:, :, ::-1].copy()
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
        with torch.no_grad():
            rows.append(torch.log_softmax(net((x - mean) / std), 1)[0].numpy())
    return np.stack(rows)


def images_in(folder: Path) -> list[Path]:
    """The pictures of class folders in the order of a set."""
    return [p for f in sorted(folder.iterdir()) if f.is_dir() for p in sorted(f.iterdir())]
