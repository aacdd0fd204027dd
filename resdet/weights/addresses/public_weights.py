"""Published ImageNet weights of a net by its name, and what they mean for the paper's rows.

Not for: fetching them (`fetch`), or whether to (`cli.training.auto_weights`).
"""

from __future__ import annotations

from dataclasses import dataclass

from resdet.nets.timm import PREFIX


@dataclass(frozen=True)
class PublicWeights:
    """An address, and in a sentence whose weights they are."""

    address: str
    meaning: str


_OF_THE_PAPER = (
    "He et al.'s own weights of the paper, converted by Detectron2: as to the start, a number from "
    "them may be set beside the paper's row"
)
_OF_TORCHVISION = (
    "torchvision's, trained by another recipe than the paper's: a number from them is not the "
    "paper's row"
)
_OF_TIMM = "timm's default weights of this net: the paper has no row of it"
_MSRA = {"resnet50": "R-50.pkl", "resnet101": "R-101.pkl"}
_TORCHVISION = ("resnet18", "resnet34", "resnet152", "vgg11", "vgg13", "vgg16", "vgg19")


def public_weights(net: str) -> PublicWeights | None:
    """Of a net of ours with its usual options, or of timm; None where nobody publishes them."""
    if net in _MSRA:
        address = f"detectron2://ImageNetPretrained/MSRA/{_MSRA[net]}"
        return PublicWeights(address, _OF_THE_PAPER)
    if net in _TORCHVISION:
        return PublicWeights(f"torchvision://{net}/IMAGENET1K_V1", _OF_TORCHVISION)
    if net.startswith(PREFIX):
        return PublicWeights(f"timm://{net.removeprefix(PREFIX)}", _OF_TIMM)
    return None
