"""Origins: what their files want of images, and what their values mean.

Conventions that differ are converted, not only renamed:

    caffe2        norms folded to scale and shift: mean 0, variance 1 - eps, frozen only
    msra, caffe2  a bias of the first convolution goes into the norm behind it
    timm VGG      fc6 and fc7 are convolutions: (4096, 512, 7, 7) to (4096, 25088)
    akamaster     option A's zeros lie around the copied channels, not behind them

Not for: whose a file is (`identify`), or how tensors are called (`names`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from resdet.errors import WeightsError
from resdet.weights.cards import Input
from resdet.weights.formats.containers import Tensors
from resdet.weights.origins import tensor_names, value_layouts
from resdet.weights.origins.tensor_names import COUNTER

IMAGENET_RGB = Input("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_BGR_MEAN = (103.53, 116.28, 123.675)
# Detectron2's default preprocessing, which its MSRA files want.
MSRA_BGR = Input("BGR", _BGR_MEAN, (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Origin:
    """The habits of one origin.

    Attributes:
        input: how images must look for its files; None where files do not tell.
        stride_in_1x1: of bottlenecks; None where files do not tell.
        folded: norms are scale and shift only.
        keeps_counters: writes `num_batches_tracked`.
        extras: patterns of tensors that its files hold beside the net.
    """

    name: str
    input: Input | None
    stride_in_1x1: bool | None
    folded: bool = False
    keeps_counters: bool = True
    extras: tuple[str, ...] = ()


_CAFFE2_EXTRAS = (
    "*_momentum",
    "lr",
    "conv1_b",
    "*rpn*",
    "fpn_*",
    "cls_score_*",
    "bbox_pred_*",
    "fc[67]_[wb]",
    "conv5_mask_*",
    "mask_fcn*",
)
ORIGINS = {
    o.name: o
    for o in (
        Origin("torchvision", IMAGENET_RGB, False),
        Origin("timm", IMAGENET_RGB, False),
        Origin(
            "detectron2",
            None,
            None,
            keeps_counters=False,
            extras=("pixel_mean", "pixel_std", "stem.conv1.bias"),
        ),
        Origin("msra", MSRA_BGR, True, keeps_counters=False, extras=("conv1_b",)),
        Origin(
            "caffe2",
            Input("BGR", (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0)),
            True,
            folded=True,
            keeps_counters=False,
            extras=_CAFFE2_EXTRAS,
        ),
        Origin("pycls", Input("BGR", _BGR_MEAN, (57.375, 57.12, 58.395)), False),
        Origin("huggingface", IMAGENET_RGB, False),
        Origin(
            "akamaster",
            Input("RGB", IMAGENET_RGB.mean, IMAGENET_RGB.std, size=32),
            False,
        ),
    )
}
# A bias of the first convolution, of which our nets have none: moved into its norm.
STEM_BIASES = ("conv1_b", "stem.conv1.bias")


def to_our_values(
    origin: Origin, ours: Tensors, raw: Mapping[str, torch.Tensor], where: str
) -> tuple[Tensors, tuple[str, ...]]:
    """Tensors under our names with our meaning, and what was converted, in sentences."""
    notes: list[str] = []
    if origin.folded:
        ours = value_layouts.unfold(ours)
        notes.append("norms are scale and shift alone: mean 0, variance 1 - eps; frozen only")
    if any(t.ndim == 4 and n.startswith("fc") for n, t in ours.items()):
        ours = value_layouts.to_linear(ours)
        notes.append("fc6 and fc7 are convolutions there, linear layers here")
    if origin.name == "akamaster":
        _refuse_half_an_option_a(ours, where)
        ours = value_layouts.uncentred(ours)
        notes.append("option A has its zeros around the channels there, behind them here")
    for name in STEM_BIASES:
        bias = raw.get(name)
        if bias is None or value_layouts.STEM_MEAN not in ours:
            continue
        if bias.shape != ours[value_layouts.STEM_MEAN].shape:
            raise WeightsError(
                f"{where}, {name}: shape {tuple(bias.shape)}, but its norm has "
                f"{tuple(ours[value_layouts.STEM_MEAN].shape)}. The file is spoiled."
            )
        if bias.any():
            # Detectron2 leaves it out (detectron2#5412), which is another net.
            ours = value_layouts.bias_into_norm(ours, bias)
            largest = float(bias.abs().max())
            notes.append(f"{name}, up to {largest:.3g}, moved into the norm; Detectron2 drops it")
        else:
            notes.append(f"{name}: a bias of zeros, left out")
    return ours, tuple(notes)


def _refuse_half_an_option_a(ours: Mapping[str, torch.Tensor], where: str) -> None:
    """Channels can be put in another order only all along the residual stream."""
    streams = [n for n in ours if n.endswith(("conv1.weight", "conv2.weight"))]
    widths = {n: tuple(ours[n].shape[:2]) for n in streams}
    for name in ("stem.conv1.weight", "res3.0.conv2.weight", "res4.0.conv2.weight"):
        if name not in ours:
            raise WeightsError(f"{where}: {name} (by our names) is missing. Give the whole file.")
    base = ours["stem.conv1.weight"].shape[0]
    for name, (out_channels, _) in widths.items():
        stage = 2 if name.startswith("stem") else int(name[3])
        if out_channels != base * 2 ** (stage - 2):
            raise WeightsError(
                f"{where}: {name} (by our names) has {out_channels} channels, expected "
                f"{base * 2 ** (stage - 2)}. It is another net: docs/own_net.md."
            )


def _from_our_values(origin: str, net: str, ours: Tensors) -> tuple[Tensors, tuple[str, ...]]:
    notes: list[str] = []
    if ORIGINS[origin].folded:
        ours = value_layouts.fold(ours)
        notes.append("norms folded to scale and shift; their statistics are lost")
    if origin == "timm" and net.startswith("vgg"):
        ours = value_layouts.to_convolution(ours)
        notes.append("fc6 and fc7 written as convolutions")
    if origin == "akamaster":
        ours = value_layouts.centred(ours)
        notes.append("option A's zeros put around the channels")
    if not ORIGINS[origin].keeps_counters:
        ours = {n: t for n, t in ours.items() if not n.endswith(COUNTER)}
    return ours, tuple(notes)


def to_names_of(origin: str, net: str, tensors: Tensors) -> tuple[Tensors, tuple[str, ...]]:
    """Our tensors under an origin's names, with its meaning; and what was converted, in sentences.

    Raises:
        WeightsError: the origin has no such net.
    """
    if origin == "timm" and net.startswith("timm:"):
        return tensors, ()
    try:
        table = tensor_names.table(origin, net)
    except ValueError as error:
        raise WeightsError(f"{error}.") from None
    converted, notes = _from_our_values(origin, net, tensors)
    return {table[name]: t for name, t in converted.items() if name in table}, notes
