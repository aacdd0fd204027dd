"""Detectors as the parts measure them: sizes, and the settings that each is measured in.

Not for: timing (`detection_training`, `detection_inference`) or comparing (`parity`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.detection.detectors import our_detector, pair, peer_of
from benchmarks.detection.training import batch_of_one
from benchmarks.gpu.device import arithmetic
from resdet.detect.fast.fast_detector import fast
from resdet.detect.fast.fast_training import speed_up
from resdet.engine.speed.precision import Precision


@dataclass(frozen=True)
class DetectorScale:
    """How large the detectors and their images are.

    Attributes:
        size: (height, width) of an image. width: factor on all channels.
        regions: that train, by net; others take 128.
        proposals: that are kept in detecting. images: of a training step.
        batches: numbers of images that are detected on at once.
    """

    size: tuple[int, int] = (800, 1200)
    width: float = 1.0
    regions: tuple[tuple[str, int], ...] = (("R-50-FPN", 512), ("VGG-16-FPN", 512))
    proposals: int = 1000
    images: int = 2
    batches: tuple[int, ...] = (1, 2, 4, 8)

    def regions_of(self, net: str) -> int:
        return dict(self.regions).get(net, 128)

    def batch(self, images: int) -> list[dict[str, Any]]:
        """So many images with ten objects each, on the CPU as a loader gives them."""
        return [batch_of_one(seed, self.size)[0] for seed in range(images)]


FULL_SCALE = DetectorScale()
# That everything runs, in a minute.
SMALL_SCALE = DetectorScale((96, 128), 0.125, (), 60, 1, (1, 2))


@dataclass(frozen=True)
class DetectorWay:
    """A setting of a detector.

    Attributes:
        ours: our detector; else the peer (`detectors.pair`).
        fast: ENGINE.FAST_TRAINING and ENGINE.FAST_INFERENCE. bf16: ENGINE.BF16 and
            ENGINE.CHANNELS_LAST, or for the peer an autocast to bfloat16 around it all.
        fused: ENGINE.FUSED_OPTIMIZER. tf32: ENGINE.TF32.
    """

    ours: bool = True
    fast: bool = False
    bf16: bool = False
    fused: bool = False
    tf32: str = "off"

    def model(self, net: str, keys: list[str], scale: DetectorScale, device: str) -> nn.Module:
        """The detector, not yet in its fast form; every way starts from the same weights."""
        settings = [*keys]
        if self.ours and self.bf16:
            settings += ["ENGINE.BF16", "on", "ENGINE.CHANNELS_LAST", "on"]
        if self.ours:
            return our_detector(net, settings, device=device, width=scale.width)[0]
        return pair(net, settings, device=device, width=scale.width)[0]

    def for_training(self, model: nn.Module, device: str) -> nn.Module:
        if self.fast:
            speed_up(model, self.precision(device))
        elif self.ours and self.bf16:
            model.to(memory_format=torch.channels_last)
        return model.train()

    def for_detecting(self, model: nn.Module) -> nn.Module:
        return fast(model, bf16=self.bf16) if self.fast else model.eval()

    def precision(self, device: str) -> Precision:
        return Precision(device.partition(":")[0], self.bf16, self.bf16)

    def around(self, device: str) -> Callable[[], AbstractContextManager[Any]]:
        """What its forward pass runs in."""
        kind = device.partition(":")[0]
        is_cast = self.bf16 and not self.ours
        return functools.partial(torch.autocast, kind, torch.bfloat16, enabled=is_cast)

    def arithmetic(self) -> AbstractContextManager[None]:
        return arithmetic(self.tf32)


def ways_of(net: str, *, training: bool) -> dict[str, DetectorWay]:
    """The settings of a net by name, the peer first; Detectron2's keys off where it is ours."""
    key = "FAST_TRAINING" if training else "FAST_INFERENCE"
    is_stock = peer_of(net) == "stock"
    ways = {
        peer_of(net): DetectorWay(ours=not is_stock),
        "stock, autocast bf16": DetectorWay(ours=False, bf16=True),
        "all keys off": DetectorWay(),
        "TF32": DetectorWay(tf32="on"),
        "BF16": DetectorWay(bf16=True),
        key: DetectorWay(fast=True),
        f"{key}, TF32": DetectorWay(fast=True, tf32="on"),
        f"{key}, BF16": DetectorWay(fast=True, bf16=True),
    }
    if training:
        ways["FUSED_OPTIMIZER"] = DetectorWay(fused=True)
        ways["all"] = DetectorWay(fast=True, bf16=True, fused=True, tf32="on")
    if not is_stock:
        del ways["stock, autocast bf16"]
    return ways
