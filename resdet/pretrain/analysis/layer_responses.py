"""How strongly each 3x3 layer of a classifier responds: figure 7 of He et al. 2015.

"The responses are the outputs of each 3x3 layer, after BN and before nonlinearity": before ReLU, or
before the shortcut is added. The paper does not state over which images and values the standard
deviation is taken. Here it is over all values of a layer: images, channels and cells together.
Where no norm follows a convolution, as in VGG, the response is the output of the convolution with
its bias.

Sums are float64: per image and channel by two passes, merged in the order of the images by the
formulas of Chan, Golub, LeVeque 1983, so that the size of a batch changes the rounding of the net's
own float32 alone. Memory: one batch, and a few values a channel.

Not for: pictures (`resdet.report.classifiers`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet.engine.evaluation import evaluating
from resdet.errors import TrainingStopped
from resdet.nets.layer_counts import named_module
from resdet.nets.net import Conv

KERNEL = (3, 3)
NORM, CONVOLUTION = "norm", "convolution"
_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
# Values that are turned to float64 at once: 32 MB.
_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class LayerResponse:
    """The response of one 3x3 layer.

    Attributes:
        name: of the convolution in the net.
        after: "norm" or "convolution": what gives the response.
        values: over how many it is.
        mean, std: of all values.
        std_within_channels: root of the mean over the channels of each one's own variance.
    """

    name: str
    after: str
    channels: int
    values: int
    mean: float
    std: float
    std_within_channels: float

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "after": self.after,
            "channels": self.channels,
            "values": self.values,
            "mean": self.mean,
            "std": self.std,
            "std_within_channels": self.std_within_channels,
        }


class ChannelMoments:
    """Count, mean and sum of squared deviations of each channel, merged image by image."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.squares = torch.zeros(0, dtype=torch.float64)

    def add(self, response: torch.Tensor) -> None:
        """Takes (N, C, H, W) of any float type; on the device of the response."""
        images = response.detach().flatten(2)
        if not self.count:
            self.mean = torch.zeros(images.shape[1], dtype=torch.float64, device=images.device)
            self.squares = torch.zeros_like(self.mean)
        at_once = max(1, _VALUES_AT_ONCE // max(1, images[0].numel()))
        for part in images.split(at_once):
            variances, means = torch.var_mean(part.double(), dim=2, correction=0)
            cells = part.shape[2]
            for variance, mean in zip(variances, means, strict=True):
                self._merge(cells, mean, variance * cells)

    def _merge(self, count: int, mean: torch.Tensor, squares: torch.Tensor) -> None:
        total = self.count + count
        gap = mean - self.mean
        self.mean += gap * (count / total)
        self.squares += squares + gap.square() * (self.count * count / total)
        self.count = total

    def response(self, name: str, after: str) -> LayerResponse:
        """Raises ValueError where nothing was added."""
        if not self.count:
            raise ValueError(f"{name} gave no response")
        within = self.squares / self.count
        variance = within.mean() + self.mean.var(correction=0)
        return LayerResponse(
            name,
            after,
            len(self.mean),
            self.count * len(self.mean),
            float(self.mean.mean()),
            math.sqrt(float(variance)),
            math.sqrt(float(within.mean())),
        )


@dataclass(frozen=True)
class Tap:
    """Where a layer's response is read.

    Attributes:
        name: of the convolution.
        after: as in `LayerResponse`.
        module: whose output it is, or whose input where `is_input`.
        is_deferred: `module` is a `Conv` of ours without norm: its ReLU is done behind the reading.
    """

    name: str
    after: str
    module: nn.Module
    is_input: bool = False
    is_deferred: bool = False


def find_taps(net: nn.Module, image: torch.Tensor) -> list[Tap]:
    """One for each 3x3 convolution that runs, in the order in which they do.

    A norm belongs to a convolution whose output, unchanged, is its input.

    Args:
        net: in evaluation mode. image: (1, 3, H, W), prepared.
    """
    names = {module: name for name, module in named_module(net).named_modules()}
    taps: dict[nn.Module, Tap] = {}
    waiting: dict[int, tuple[nn.Module, torch.Tensor, int]] = {}

    def convolved(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        if module not in taps:
            taps[module] = _tap_of(module, names[module])
        # The tensor is kept, so that its id stays its own.
        waiting[id(output)] = (module, output, output._version)

    def norm_begins(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found = waiting.pop(id(inputs[0]), None) if inputs else None
        if found is None or found[1]._version != found[2]:
            return
        tap = taps[found[0]]
        if tap.after == CONVOLUTION and not tap.is_deferred:
            # timm's norms have their ReLU inside.
            act = getattr(module, "act", None)
            has_act = isinstance(act, nn.Module) and not isinstance(act, nn.Identity)
            taps[found[0]] = Tap(tap.name, NORM, act if has_act else module, is_input=has_act)  # type: ignore[arg-type]

    handles = []
    for module in names:
        if isinstance(module, nn.Conv2d) and module.kernel_size == KERNEL:
            handles.append(module.register_forward_hook(convolved))
        elif isinstance(module, _NORMS):
            handles.append(module.register_forward_pre_hook(norm_begins))
    try:
        with torch.no_grad():
            net(image)
    finally:
        for handle in handles:
            handle.remove()
    return list(taps.values())


def _tap_of(module: nn.Module, name: str) -> Tap:
    if isinstance(module, Conv) and module.norm is not None:
        return Tap(name, NORM, module.norm)
    return Tap(name, CONVOLUTION, module, is_deferred=isinstance(module, Conv) and module.relu)


@contextlib.contextmanager
def reading(taps: Sequence[Tap], take: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """Within it every forward pass gives the response of each tap to `take`, with its place.

    The net computes what it always does, and is as it was afterwards.
    """
    handles = []
    for place, tap in enumerate(taps):
        if tap.is_input:
            handles.append(
                tap.module.register_forward_pre_hook(
                    lambda _m, inputs, place=place: take(place, inputs[0])
                )
            )
        else:
            handles.append(
                tap.module.register_forward_hook(
                    lambda _m, _x, output, tap=tap, place=place: _taken(tap, place, output, take)
                )
            )
        if tap.is_deferred:
            tap.module.relu = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for tap in taps:
            if tap.is_deferred:
                tap.module.relu = True  # type: ignore[assignment]


def _taken(
    tap: Tap, place: int, output: torch.Tensor, take: Callable[[int, torch.Tensor], None]
) -> torch.Tensor | None:
    take(place, output)
    return torch.relu(output) if tap.is_deferred else None


def measure_responses(
    net: nn.Module, batches: Iterable[torch.Tensor], *, where: str
) -> list[LayerResponse]:
    """The response of each 3x3 layer over all images, in the order of the layers.

    Args:
        net: on the device of the images.
        batches: (N, 3, H, W), prepared, at least one.
        where: of the weights, for messages.

    Raises:
        ValueError: the net has no 3x3 convolution, or there is no image.
        TrainingStopped: a response is not finite.
    """
    taps: list[Tap] = []
    moments: list[ChannelMoments] = []

    def take(place: int, response: torch.Tensor) -> None:
        moments[place].add(response)

    with evaluating(net), torch.no_grad():
        for images in batches:
            if not taps:
                taps = find_taps(net.eval(), images[:1])
                moments = [ChannelMoments() for _ in taps]
                if not taps:
                    raise ValueError("it has no 3x3 convolution")
            net.eval()
            with reading(taps, take):
                net(images)
    if not taps:
        raise ValueError("there is no image")
    responses = [m.response(t.name, t.after) for m, t in zip(moments, taps, strict=True)]
    for response in responses:
        if not math.isfinite(response.std):
            raise TrainingStopped(
                f"{where}: the response of {response.name} is not finite. Look at the weights: "
                "resdet convert_weights inspect."
            )
    return responses
