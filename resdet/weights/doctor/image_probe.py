"""The real test: which colour order, range and stride rule a net was trained for, by its errors.

A net scores best under the conventions that it was trained with. Every combination that is in
use is tried on labelled images; the best is named with the number of images that it gets right,
and with how surely it beats the next (an exact sign test on the images where the two differ).

Not for: reading images (the command hands them over), or what statistics suggest (`first_layer`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from resdet.errors import WeightsError
from resdet.weights.cards import Input
from resdet.weights.formats.contents import Tensors
from resdet.weights.origins.origin import IMAGENET_RGB
from resdet.weights.origins.reference_nets import our_net

# Name of a range to (mean, std) per channel in RGB, of pixels in [0, 255].
RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "ImageNet mean and std": (IMAGENET_RGB.mean, IMAGENET_RGB.std),  # type: ignore[dict-item]
    "0 to 255, mean subtracted": (IMAGENET_RGB.mean, (1.0, 1.0, 1.0)),  # type: ignore[dict-item]
    "0 to 1": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "-1 to 1": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "0 to 255": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
ORDERS = ("RGB", "BGR")
# Below this chance of being luck the best is named.
SURE = 0.05
BATCH = 50


@dataclass(frozen=True)
class Trial:
    """One combination and which images it got right, (N,) bool."""

    color_order: str
    range: str
    stride_in_1x1: bool | None
    right: np.ndarray

    @property
    def num_right(self) -> int:
        return int(self.right.sum())

    def input(self, size: int) -> Input:
        mean, std = RANGES[self.range]
        if self.color_order == "BGR":
            mean, std = mean[::-1], std[::-1]
        return Input(self.color_order, mean, std, size)

    @property
    def stride_rule(self) -> str | None:
        return None if self.stride_in_1x1 is None else "1x1" if self.stride_in_1x1 else "3x3"

    def name(self) -> str:
        rule = f", stride in the {self.stride_rule}" if self.stride_rule else ""
        return f"{self.color_order}, {self.range}{rule}"


@dataclass(frozen=True)
class Verdict:
    """All trials, best first, and the conclusion.

    Attributes:
        chance: that the best beats the next by luck alone, in [0, 1].
    """

    trials: tuple[Trial, ...]
    images: int
    chance: float

    @property
    def best(self) -> Trial | None:
        """The combination the weights were made for; None where two cannot be told apart."""
        return self.trials[0] if self.chance <= SURE else None

    def sentence(self) -> str:
        first, second = self.trials[:2]
        counts = (
            f"{first.name()} is right on {first.num_right} of {self.images}, "
            f"{second.name()} on {second.num_right}"
        )
        if self.best is None:
            return f"cannot be told apart on these images: {counts} (luck: {self.chance:.2g})"
        return f"{counts} (luck: {self.chance:.1g}); {self._of_order(first)}"

    def _of_order(self, best: Trial) -> str:
        """What the wrong colour order costs, all else being equal."""
        other = next(
            t
            for t in self.trials
            if t.color_order != best.color_order
            and (t.range, t.stride_in_1x1) == (best.range, best.stride_in_1x1)
        )
        cost = 100 * (best.num_right - other.num_right) / self.images
        return f"read as {other.color_order}, top-1 falls by {cost:.1f} points"

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "best": None if self.best is None else self.best.name(),
            "luck": self.chance,
            "trials": [
                {
                    "color_order": t.color_order,
                    "range": t.range,
                    "stride_rule": t.stride_rule,
                    "top1": t.num_right / self.images,
                }
                for t in self.trials
            ],
        }


def probe(
    build: Callable[[bool | None], nn.Module],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    stride_rules: Sequence[bool | None] = (None,),
) -> Verdict:
    """Scores every combination on labelled images.

    Args:
        build: the net with its weights for a stride rule.
        images: (N, S, S, 3) uint8 RGB, cropped for the net.
        labels: (N,) places in the net's outputs.

    Raises:
        WeightsError: there is no image.
    """
    if not len(images):
        raise WeightsError("no labelled image is there: a probe needs some, better hundreds.")
    trials = []
    for rule in stride_rules:
        net = build(rule).eval()
        for order in ORDERS:
            for name, (mean, std) in RANGES.items():
                right = _right(net, images, labels, order, mean, std)
                trials.append(Trial(order, name, rule, right))
    trials.sort(key=lambda t: -t.num_right)
    return Verdict(tuple(trials), len(images), chance(trials[0].right, trials[1].right))


def probe_tensors(
    net: str,
    options: Mapping[str, Any],
    tensors: Tensors,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    stride_is_open: bool,
) -> Verdict:
    """As `image_probe`, for tensors under our names; both stride rules where that is open."""
    num_classes = len(tensors["linear.bias"])

    def build(rule: bool | None) -> nn.Module:
        rules = {} if rule is None else {"stride_in_1x1": rule}
        return our_net(net, num_classes, {**options, **rules}, tensors)

    rules = (False, True) if stride_is_open else (None,)
    return probe(build, images, labels, stride_rules=rules)


def chance(first: np.ndarray, second: np.ndarray) -> float:
    """That two equally good ones differ as much: the exact sign test on (N,) bool each, one-sided.

    Example:
        >>> chance(np.array([1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1], bool))
        0.109375
    """
    wins = int((first & ~second).sum())
    differ = wins + int((second & ~first).sum())
    if not differ:
        return 1.0
    return sum(math.comb(differ, k) for k in range(wins, differ + 1)) / 2**differ


def _right(
    net: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    order: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> np.ndarray:
    right = []
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(images[start : start + BATCH]).permute(0, 3, 1, 2).float()
            batch = (batch - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
            logits = net(batch if order == "RGB" else batch.flip(1))
            right.append(logits.argmax(1).numpy() == labels[start : start + BATCH])
    return np.concatenate(right)
