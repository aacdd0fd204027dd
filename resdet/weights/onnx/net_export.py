"""Classifiers and backbones as ONNX files, through torch.export, each compared with its net.

The graph takes pixels in [0, 255], float32, (N, 3, H, W), in the card's colour order, and
normalises inside, so that no mean has to be typed. The card lies inside the file (metadata
key `resdet.card`). After writing, onnxruntime runs the file on random images; where it differs
from torch by more than 1e-4 no file is left.

Not for: detectors (`detect.onnx.detector_export`), or resizing, cropping and colour order, which
are done before.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resdet import nets
from resdet.errors import CheckFailed, WeightsError
from resdet.weights.cards import Card, Input
from resdet.weights.formats.contents import Tensors
from resdet.weights.onnx.onnx_file import (
    OPSET,
    about,
    checked,
    convert,
    input_facts,
    largest_difference,
    require_packages,
)
from resdet.weights.transfer import transfer

# Of max(1, the largest magnitude of the output).
TOLERANCE = 1e-4
BATCHES = (1, 2, 5)
# Height and width of the check's images for a dynamic backbone: odd ones, wide and tall.
SIZES = ((64, 64), (97, 61), (50, 131))


@dataclass(frozen=True)
class Exported:
    """One ONNX file and how it was checked.

    Attributes:
        kind: "classifier" or "backbone".
        outputs: name to shape; a string stands for a dimension that the input decides.
        images: shapes (N, 3, H, W) of the random inputs that both were run on.
        difference: the largest |onnxruntime - torch| / max(1, max |torch|) of them all.
        bytes: of the file.
        seconds: for export and check.
    """

    path: str
    kind: str
    net: str
    opset: int
    normalised_input: bool
    outputs: dict[str, tuple[int | str, ...]]
    images: tuple[tuple[int, ...], ...]
    difference: float
    bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        pixels = "normalised pixels" if self.normalised_input else "pixels in [0, 255]"
        outputs = ", ".join(
            f"{name} ({', '.join(map(str, shape))})" for name, shape in self.outputs.items()
        )
        return (
            f"{self.path}: {self.kind} {self.net}, {self.bytes / 1e6:.1f} MB, opset {self.opset}\n"
            f"  image: {pixels}, float32, (N, 3, H, W)\n"
            f"  gives: {outputs}\n"
            f"  onnxruntime against torch on {len(self.images)} batches of random images: "
            f"{self.difference:.1e} at most (limit {TOLERANCE:g})"
        )


class Normalise(nn.Module):
    """(pixel - mean) / std per channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, given: Input):
        super().__init__()
        self.register_buffer("mean", torch.tensor(given.mean).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(given.std).reshape(3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image - self.mean) / self.std


class Stages(nn.Module):
    """A trunk that gives the map of every stage: (N, 3, H, W) to one map a stage.

    Args:
        trunk: layers by name, among them the stages.
        names: of the stages.
    """

    def __init__(self, trunk: nets.Chain, names: Sequence[str]):
        super().__init__()
        self.trunk = trunk
        self.names = tuple(names)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps, x = [], image
        for name, layer in self.trunk.items():
            x = layer(x)
            if name in self.names:
                maps.append(x)
        return tuple(maps)


def build_filled(card: Card, tensors: Tensors, where: str) -> nets.Net:
    """The classifier that a weight file holds, every tensor of it arrived.

    Raises:
        WeightsError: one is missing, of another shape or left over.
    """
    net = _build(card, tensors, where)
    transfer(net, tensors, where=where, optional=())
    return net


def build_filled_backbone(
    card: Card, tensors: Tensors, where: str, to: str | None = None
) -> nets.Net:
    """The same net of a file that may lack what comes behind stage `to` (a detection backbone).

    Raises:
        WeightsError: a tensor of the stages up to `to` is missing or of another shape.
    """
    net = _build(card, tensors, where)
    trunk = _trunk(net, to)
    within = set(trunk.state_dict())
    behind = [name for name in net.state_dict() if name not in within]
    transfer(trunk, tensors, where=where, optional=tuple(behind))
    return net


def _build(card: Card, tensors: Tensors, where: str) -> nets.Net:
    try:
        number = nets.classes_in(tensors, card.net, **card.net_options) or len(card.classes)
        return nets.build(card.net, number or 1000, **card.net_options)
    except ValueError as error:
        raise WeightsError(f"{where}: its card does not describe a net: {error}.") from None


def export_classifier(
    net: nn.Module,
    card: Card,
    path: Path | str,
    *,
    size: int | tuple[int, int] | None = None,
    dynamic: bool = True,
    normalised_input: bool = False,
) -> Exported:
    """Writes a classifier as ONNX: `image` (N, 3, H, W) to `logits` (N, K).

    Args:
        net: any module from (N, 3, H, W) to (N, K); it is copied, in evaluation mode.
        size: H and W of the graph, in pixels; the card's `input.size` by default.
        dynamic: any N; else N is 1.
        normalised_input: `image` is (pixel - mean) / std already, and the graph leaves it out.

    Raises:
        UserError: a package is missing. WeightsError: torch.export or onnxruntime refuses.
        CheckFailed: onnxruntime differs by more than `TOLERANCE`; no file is left.
    """
    height, width = (size, size) if isinstance(size, int) else size or (card.input.size,) * 2
    return _export(
        _still(net),
        card,
        path,
        kind="classifier",
        outputs=("logits",),
        example=(2 if dynamic else 1, 3, height, width),
        dynamic={0: "batch"} if dynamic else {},
        images=[(n, 3, height, width) for n in (BATCHES if dynamic else (1,))],
        normalised_input=normalised_input,
    )


def export_backbone(
    net: nets.Net,
    card: Card,
    path: Path | str,
    *,
    to: str | None = None,
    size: tuple[int, int] | None = None,
    normalised_input: bool = False,
) -> Exported:
    """Writes the stages up to `to` as ONNX: `image` (N, 3, H, W) to one map a stage, by its name.

    Args:
        net: offers `stages` and `trunk` (`resdet.nets.net`); copied, in evaluation mode.
        to: last stage; the net's shared one by default.
        size: (H, W) for a graph of that size and N = 1 alone; by default N, H and W are free.

    Raises:
        WeightsError: there is no stage `to`; and what `export_classifier` raises.
    """
    trunk = _trunk(net, to)
    stages = [stage.name for stage in net.stages() if stage.name in trunk.names]
    return _export(
        Stages(_still(trunk), stages),
        card,
        path,
        kind="backbone",
        outputs=stages,
        example=(1, 3, *size) if size else (2, 3, 96, 80),
        dynamic={} if size else {0: "batch", 2: "height", 3: "width"},
        images=[(1, 3, *size)]
        if size
        else [(n, 3, *s) for n, s in zip(BATCHES, SIZES, strict=True)],
        normalised_input=normalised_input,
    )


def _trunk(net: nets.Net, to: str | None) -> nets.Chain:
    try:
        return nets.Chain.of(net.trunk(to))
    except ValueError as error:
        raise WeightsError(f"--backbone: {error}.") from None


def _still(net: nn.Module) -> Any:
    """A copy that computes as it will in the file: on the CPU, float32, norms and dropout fixed."""
    return copy.deepcopy(net).cpu().float().eval()


def _export(
    net: nn.Module,
    card: Card,
    path: Path | str,
    *,
    kind: str,
    outputs: Sequence[str],
    example: tuple[int, ...],
    dynamic: dict[int, str],
    images: Sequence[tuple[int, ...]],
    normalised_input: bool,
) -> Exported:
    require_packages()
    if card.input.mean_image and not normalised_input:
        raise WeightsError(
            f"the card of {card.net} has a mean for each pixel, and a file subtracts one per "
            "channel: subtract the mean image yourself, and give --normalised-input."
        )
    began = time.monotonic()
    normalise = Normalise(card.input)
    graph = net if normalised_input else nn.Sequential(normalise, net)
    what = f"the {kind} {card.net}"
    model = convert(graph.eval(), torch.zeros(example), outputs=outputs, dynamic=dynamic, what=what)
    facts = {**input_facts(card.input, normalised=normalised_input), "size": card.input.size}
    entries = about(card, kind=kind, input=facts, classes=list(card.classes))
    with checked(path, model, entries) as session:
        difference = _compare(session, net, normalise, images, given_normalised=normalised_input)
        if not difference <= TOLERANCE:
            raise CheckFailed(
                f"{path} was not kept: onnxruntime and torch differ by {difference:.2g} of the "
                f"largest value of {what} (limit {TOLERANCE:g}, {len(images)} batches of random "
                "images). Report the net and the versions that `resdet doctor` prints."
            )
        shapes = {o.name: tuple(o.shape) for o in session.get_outputs()}
    return Exported(
        path=str(path),
        kind=kind,
        net=card.net,
        opset=OPSET,
        normalised_input=normalised_input,
        outputs=shapes,
        images=tuple(images),
        difference=difference,
        bytes=Path(path).stat().st_size,
        seconds=time.monotonic() - began,
    )


@torch.no_grad()
def _compare(
    session: Any,
    net: nn.Module,
    normalise: nn.Module,
    images: Sequence[tuple[int, ...]],
    *,
    given_normalised: bool,
) -> float:
    """The largest difference between the file and the net, normalised outside of the graph."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for shape in images:
        pixels = torch.randint(0, 256, shape, generator=generator).float()
        normal = normalise(pixels)
        expected = net(normal.clone())
        given = normal if given_normalised else pixels
        outputs = session.run(None, {"image": given.numpy()})
        for one, other in zip(
            outputs, expected if isinstance(expected, tuple) else (expected,), strict=True
        ):
            worst = max(worst, largest_difference(one, other))
    return worst
