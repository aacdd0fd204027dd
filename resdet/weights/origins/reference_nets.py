"""An origin's own net, where its library is installed, to compare logits with.

A conversion is only right if the net that the file came from gives the same logits as ours on the
same input. Without that library the comparison is left out and reported as such
(`docs/faults.md` F20).

Not for: anything but comparison; no command needs these libraries.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from resdet import nets
from resdet.weights.formats.contents import Tensors
from resdet.weights.origins.registry import ORIGINS, nets_of

# Two fixed inputs, as normal noise: as large as standardised pictures.
NUM_IMAGES = 2


@dataclass(frozen=True)
class Parity:
    """Two nets on the same two inputs, in float64.

    Attributes:
        what: which two.
        difference: largest absolute difference of a logit; None where one could not be built.
        largest: largest absolute logit.
        why: why there is no difference.
    """

    what: str
    difference: float | None = None
    largest: float = 0.0
    why: str = ""

    def sentence(self) -> str:
        if self.difference is None:
            return f"{self.what}: not compared, {self.why}"
        return f"{self.what}: {self.difference:.2g} at most (largest logit {self.largest:.3g})"

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "difference": self.difference,
            "largest_logit": self.largest,
            "why": self.why or None,
        }


def reference_net(
    origin: str, net: str, num_classes: int, options: Mapping[str, Any]
) -> tuple[nn.Module | None, str]:
    """The origin's net, or None and the reason.

    Few origins have nets to build by name; the others are training scripts, not libraries.
    """
    record = ORIGINS.get(origin)
    if record is None or record.build is None:
        return None, f"{origin} has no library that builds it by name"
    if net.startswith(f"{origin}:"):
        library = importlib.import_module(record.library)
        return record.build(library, net.removeprefix(f"{origin}:"), num_classes), ""
    odd = sorted(
        set(options) - {"stride_in_1x1"} - ({"width"} if options.get("width") == 1 else set())
    )
    if net not in nets_of(origin) or odd:
        return None, f"{origin} has no {net}{' of this ' + ', '.join(odd) if odd else ''}"
    if options.get("stride_in_1x1") and int(net.removeprefix("resnet") or 0) >= 50:
        return None, f"{origin}'s {net} has its stride in the 3x3"
    try:
        library = importlib.import_module(record.library)
    except ModuleNotFoundError:
        return None, f"{record.library} is not installed"
    return record.build(library, net, num_classes), ""


def our_net(net: str, num_classes: int, options: Mapping[str, Any], tensors: Tensors) -> nn.Module:
    built: nn.Module = nets.build(net, num_classes, **options)
    built.load_state_dict(tensors, strict=False)
    return built


def logits(net: nn.Module, size: int, *, flip: bool = False) -> torch.Tensor:
    """(2, K) in float64 on the two fixed inputs of size x size; `flip` reverses their channels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(NUM_IMAGES, 3, size, size, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return net.double().eval()(images.flip(1) if flip else images)


def parity(what: str, first: torch.Tensor, second: torch.Tensor) -> Parity:
    """How far two results of `logits` lie apart."""
    return Parity(what, float((first - second).abs().max()), float(second.abs().max()))
