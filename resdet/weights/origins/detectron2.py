"""Detectron2's files, and those that it took over from MSRA and Detectron (Caffe2).

    detectron2   stem.conv1, stem.conv1.norm, res2.0.conv1, res2.0.shortcut, linear: as ours, so
                 that our own files without a card are told here, too
                 stem.fc: what its converter makes of torchvision's files
    msra         conv1_w, res_conv1_bn_gamma, res2_0_branch2a_w, fc1000_w (its R-50.pkl)
    caffe2       the same with res2_0_branch2a_bn_s, _bn_b: norms folded to scale and shift, that
                 is mean 0 and variance 1 - eps, frozen only (Detectron's R-50.pkl)

A bias of the first convolution, of which our nets have none, goes into the norm behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from resdet.errors import WeightsError
from resdet.weights.cards import Input
from resdet.weights.formats.contents import Contents, Tensors
from resdet.weights.origins.origin import (
    BGR_MEAN,
    BOTTLENECKS,
    CIFAR_PLAINS,
    CIFARS,
    EPS,
    IMAGENET_RGB,
    PLAINS,
    RESNETS,
    VGGS,
    Habits,
    Layer,
    Names,
    Naming,
    Notes,
    Origin,
)

STEM_MEAN = "stem.conv1.norm.running_mean"
STEM_BIASES = ("conv1_b", "stem.conv1.bias")
# Its default preprocessing, which its MSRA files want.
MSRA_BGR = Input("BGR", BGR_MEAN, (1.0, 1.0, 1.0))


# -- names -------------------------------------------------------------------------------------


def _detectron2(layer: Layer) -> tuple[str, str]:
    return layer.name, f"{layer.name}.norm"


def _detectron2_converted(layer: Layer) -> tuple[str, str]:
    # Its converter of torchvision's files puts everything outside the stages under the stem.
    return ("stem.fc", "") if layer.name == "linear" else _detectron2(layer)


def _caffe2(layer: Layer) -> tuple[str, str]:
    """Underscores; the leaves have other names, too (`_CAFFE2_LEAVES`)."""
    if layer.name == "stem.conv1":
        return "conv1", "res_conv1_bn"
    if layer.name == "linear":
        return "fc1000", ""
    stage, block, leaf = layer.place
    branch = "branch1" if leaf == "shortcut" else f"branch2{'abc'[int(leaf[4:]) - 1]}"
    there = f"res{stage}_{block}_{branch}"
    return there, f"{there}_bn"


def _caffe2_pred(layer: Layer) -> tuple[str, str]:
    return ("pred", "") if layer.name == "linear" else _caffe2(layer)


_MSRA_LEAVES = {
    "weight": "_gamma",
    "bias": "_beta",
    "running_mean": "_running_mean",
    "running_var": "_running_var",
}
_CAFFE2_LEAVES = {"weight": "_s", "bias": "_b"}
_CAFFE2 = (("weight", "_w"), ("bias", "_b"))


def _caffe2_names(norm_leaves: Mapping[str, str]) -> tuple[Names, ...]:
    namings: tuple[Naming, ...] = (_caffe2, _caffe2_pred)
    leaves = tuple(norm_leaves.items())
    return tuple(Names(BOTTLENECKS, naming, None, _CAFFE2, leaves) for naming in namings)


# -- values ------------------------------------------------------------------------------------


def unfold(ours: Tensors) -> Tensors:
    """Scale and shift as a norm with mean 0 and variance 1 - eps, as Detectron2 does."""
    unfolded = dict(ours)
    for name in [n for n in ours if n.endswith("norm.weight")]:
        norm = name.removesuffix(".weight")
        # In float32: half precision has no 1 - eps.
        unfolded[f"{norm}.running_mean"] = torch.zeros_like(ours[name], dtype=torch.float32)
        # With this variance scale / sqrt(variance + eps) is the scale itself.
        unfolded[f"{norm}.running_var"] = torch.ones_like(ours[name], dtype=torch.float32) - EPS
    return unfolded


def fold(ours: Tensors) -> Tensors:
    """Norms as scale and shift. Their statistics are lost, but for those that `unfold` made."""
    folded = dict(ours)
    for name in [n for n in ours if n.endswith("norm.weight")]:
        norm = name.removesuffix(".weight")
        mean, variance = (folded.pop(f"{norm}.running_{s}") for s in ("mean", "var"))
        if (mean == 0).all() and torch.equal(variance, torch.ones_like(variance) - EPS):
            continue  # the identity: a round trip stays exact
        scale = ours[name].double() * (variance.double() + EPS).rsqrt()
        shift = ours[f"{norm}.bias"].double() - mean.double() * scale
        folded[name] = scale.to(ours[name].dtype)
        folded[f"{norm}.bias"] = shift.to(ours[name].dtype)
    return folded


def bias_into_norm(ours: Tensors, bias: torch.Tensor) -> Tensors:
    """(x + bias - mean) * scale + shift: the bias is a smaller mean."""
    return {**ours, STEM_MEAN: ours[STEM_MEAN].float() - bias.float()}


def _stem_bias_moved(
    ours: Tensors, raw: Mapping[str, torch.Tensor], where: str
) -> tuple[Tensors, Notes]:
    notes: list[str] = []
    for name in STEM_BIASES:
        bias = raw.get(name)
        if bias is None or STEM_MEAN not in ours:
            continue
        if bias.shape != ours[STEM_MEAN].shape:
            raise WeightsError(
                f"{where}, {name}: shape {tuple(bias.shape)}, but its norm has "
                f"{tuple(ours[STEM_MEAN].shape)}. The file is spoiled."
            )
        if bias.any():
            # Detectron2 leaves it out (detectron2#5412), which is another net.
            ours = bias_into_norm(ours, bias)
            largest = float(bias.abs().max())
            notes.append(f"{name}, up to {largest:.3g}, moved into the norm; Detectron2 drops it")
        else:
            notes.append(f"{name}: a bias of zeros, left out")
    return ours, tuple(notes)


def _unfolded(ours: Tensors, raw: Mapping[str, torch.Tensor], where: str) -> tuple[Tensors, Notes]:
    ours, notes = _stem_bias_moved(unfold(ours), raw, where)
    note = "norms are scale and shift alone: mean 0, variance 1 - eps; frozen only"
    return ours, (note, *notes)


def _folded(net: str, ours: Tensors) -> tuple[Tensors, Notes]:
    return fold(ours), ("norms folded to scale and shift; their statistics are lost",)


# -- habits ------------------------------------------------------------------------------------


def _habits(path: Path, contents: Contents, habits: Habits) -> Habits:
    """Detectron2's converter signs its files, and leaves `fc` under the stem."""
    if contents.beside.get("__author__") != "torchvision" and (
        "stem.fc.weight" not in contents.tensors
    ):
        return habits
    return replace(
        habits,
        origin="torchvision, converted for detectron2",
        input=IMAGENET_RGB,
        options={**habits.options, "stride_in_1x1": False},
    )


_HINT = (
    "\nDetectron2's own models are BGR, mean 103.53 116.28 123.675, std 1 1 1, stride 1x1; those "
    "from torchvision's weights RGB, mean 123.675 116.28 103.53, std 58.395 57.12 57.375, 3x3."
)
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
DETECTRON2 = Origin(
    "detectron2",
    None,
    stride_in_1x1=None,
    names=(
        Names((*RESNETS, *PLAINS, *VGGS, *CIFARS, *CIFAR_PLAINS), _detectron2),
        Names(RESNETS, _detectron2_converted),
    ),
    keeps_counters=False,
    extras=("pixel_mean", "pixel_std", "stem.conv1.bias"),
    used=STEM_BIASES,
    hint=_HINT,
    habits=_habits,
    to_ours=_stem_bias_moved,
)
MSRA = Origin(
    "msra",
    MSRA_BGR,
    stride_in_1x1=True,
    names=_caffe2_names(_MSRA_LEAVES),
    keeps_counters=False,
    extras=("conv1_b",),
    used=STEM_BIASES,
    to_ours=_stem_bias_moved,
)
CAFFE2 = Origin(
    "caffe2",
    Input("BGR", (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0)),
    stride_in_1x1=True,
    names=_caffe2_names(_CAFFE2_LEAVES),
    folded=True,
    keeps_counters=False,
    extras=_CAFFE2_EXTRAS,
    used=STEM_BIASES,
    to_ours=_unfolded,
    from_ours=_folded,
)
