"""What the numbers of a first layer suggest of the images that it was trained on.

Names and shapes show neither colour order nor range; the filters show traces of both. What they
suggest is reported with its evidence and never overrules a card (`docs/faults.md` F19).

Not for: a proof; that takes labelled images (`image_probe`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from resdet.weights.cards import Input
from resdet.weights.tensor_checks import is_folded

# Energy of the first layer's channel 0 over channel 2. In four files trained on RGB (torchvision's
# ResNet-18, the ONNX zoo's SqueezeNet, two CIFAR-10 ResNets) it is 1.45 to 1.67: red has more
# than blue. Four files are few, so this is reported as likely, never as known.
RED_OVER_BLUE = 1.2
# Variance behind the first convolution over the energy of its filters, median: 1.0 and 1.8 for two
# nets trained on standardised pixels. Raw pixels vary 58 times as much, so 3,400 times that.
RAW_VARIANCE = 60.0
# Without live norms the filters themselves have the scale: their deviation is 0.034 (ResNet-18,
# norms folded) and 0.25 (SqueezeNet) on standardised pixels, a 58th of that on raw ones.
RAW_DEVIATION = 0.0044


@dataclass(frozen=True)
class Evidence:
    """What the numbers in a file suggest: a value or None, and the evidence."""

    value: str | None
    why: str


def clashes(habit: Input | None, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Where an origin's habit and the numbers disagree, in sentences.

    Args:
        habit: the input format that such files expect.
        tensors: under our names.
    """
    if habit is None:
        return []
    disagreements = []
    color, seen = color_order(first_convolution(tensors)), scale(tensors)
    if color.value not in (None, habit.color_order):
        disagreements.append(f"such files want {habit.color_order}, but this is {color.why}")
    usual = "raw" if min(habit.std) < 10 else "standardised"
    if seen.value not in (None, usual):
        disagreements.append(f"such files want {usual} pixels, but this is {seen.why}")
    return disagreements


def first_convolution(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """The one convolution that takes three channels, whatever its name."""
    fitting = [t for t in tensors.values() if t.ndim == 4 and t.shape[1] == 3 and t.shape[0] >= 8]
    return fitting[0] if len(fitting) == 1 else None


def color_order(weight: torch.Tensor | None) -> Evidence:
    """RGB or BGR by the energy of the first layer's channels, (C, 3, k, k).

    Filters trained on natural images have more energy in red than in blue; which of the outer
    channels has more energy shows the order.
    """
    if weight is None or not weight.is_floating_point():
        return Evidence(None, "no single convolution takes three channels")
    energy = weight.double().square().sum(dim=(0, 2, 3))
    ratio = float(energy[0] / energy[2]) if energy[2] > 0 else math.inf
    measured = f"the first layer's channel 0 has {ratio:.2f} times the energy of channel 2"
    known = "files trained on RGB have 1.45 to 1.67, four known"
    if ratio >= RED_OVER_BLUE:
        return Evidence("RGB", f"likely: {measured} ({known})")
    if ratio <= 1 / RED_OVER_BLUE:
        return Evidence("BGR", f"likely: {measured}, so the order is reversed ({known})")
    return Evidence(None, f"cannot be told: {measured} ({known})")


def scale(tensors: Mapping[str, torch.Tensor]) -> Evidence:
    """ "standardised" (deviation about 1) or "raw" (pixels of 0 to 255), by the first layer.

    Args:
        tensors: under our names.
    """
    weight = tensors.get("stem.conv1.weight", tensors.get("conv1.0.weight"))
    if weight is None:
        return Evidence(None, "the first layer is not there")
    norm = "stem.conv1.norm" if "stem.conv1.weight" in tensors else "conv1.0.norm"
    variance = tensors.get(f"{norm}.running_var")
    if variance is None or is_folded(tensors):
        deviation = float(weight.double().std())
        value = "raw" if deviation < RAW_DEVIATION else "standardised"
        return Evidence(
            value, f"likely {value}: the first layer's weights deviate by {deviation:.2g}"
        )
    energy = weight.double().square().sum(dim=(1, 2, 3)).clamp_min(1e-30)
    ratio = float((variance.double() / energy).median())
    if bool((variance == 1).all()):
        return Evidence(None, "the first norm was never trained")
    value = "raw" if ratio > RAW_VARIANCE else "standardised"
    return Evidence(
        value,
        f"likely {value}: behind the first layer the variance is {ratio:.2g} times its filters' "
        "energy",
    )
