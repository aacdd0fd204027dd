"""A net of timm that does not run layer by layer, as a trunk: by timm's own feature interface.

Transformers keep tokens beside their maps, HRNet has branches, Swin's maps have channels last:
`forward_intermediates` gives maps (N, C, H, W) of all of them, `prune_intermediate_layers` takes
what stands behind the last one off. Nothing here knows a model.

    trunk = TimmMaps(net.model, stages)
    maps = trunk(images)    # stage name to map, of this net without a change

Maps are as timm gives them: class tokens and registers left out, the last norm not applied, as in
Li et al. 2022 (arXiv:2203.16527).

A plain transformer has one stride, its patch. Where that is no power of two (DINOv2's 14), images
are resized by 14 / 16 first, so that a cell stands for 16 pixels: the net runs as it was trained,
and neither its patches nor a level of a pyramid are resampled. So are those of other nets whose
patches are of 7 or 14 pixels.

Not for: nets that run layer by layer (`timm`), or a pyramid on one map (`detect.architecture`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from resdet.nets.net import Stage

# Sides of the image on which a net is tried; no multiple of each other, and not square.
TRIED = (128, 192)


class TimmMaps(nn.Module):
    """timm's model up to the last of `stages`, under timm's names.

    Input (N, 3, H, W), H and W multiples of the largest stride; gives the map of each stage, by
    name, (N, C, H / stride, W / stride).

    Attributes:
        stages: those whose maps it gives.
        scale: images are resized by it first; 1.0 for nets whose strides are powers of two.

    Args:
        model: of timm; what stands behind the last stage is taken off.
        declared: all stages that it declares.
        names: of those whose maps are expected.
    """

    _model: Any

    def __init__(self, model: Any, declared: Sequence[Stage], names: Sequence[str]):
        super().__init__()
        places = {stage.name: place for place, stage in enumerate(declared)}
        self._indices = [places[name] for name in names]
        self.scale = input_scale(declared)
        self.stages = tuple(at_scale(declared[i], self.scale) for i in self._indices)
        model.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)
        object.__setattr__(self, "_model", model)
        _view(self, model)

    def share_with(self, module: nn.Module) -> None:
        """Makes the net's tensors those of `module`, which has none, under the same names.

        `module.maps` is this net then, and no child: what is moved, replaced, copied or loaded in
        one of the two is so in the other.
        """
        _view(module, self)
        object.__setattr__(module, "maps", self)

    def train(self, mode: bool = True) -> TimmMaps:
        """As `nn.Module.train`; the model itself drops by its own flag."""
        super().train(mode)
        self._model.training = mode
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.scale != 1.0:
            size = [round(side * self.scale) for side in x.shape[-2:]]
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        maps = self._model.forward_intermediates(
            x, indices=self._indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        return {s.name: found for s, found in zip(self.stages, maps, strict=True)}

    def groups(self) -> Iterator[tuple[str, list[str]]]:
        """Parts of the net from the images on, as timm groups them: a name, and its parameters'.

        The stem with its tokens and positions comes first, then stage by stage; of a plain
        transformer block by block.
        """
        from timm.models import group_parameters

        grouped: dict[Any, list[str]] = group_parameters(
            self._model, self._model.group_matcher(coarse=True)
        )
        for place, names in enumerate(grouped.values()):
            yield ("stem" if not place else f"group {place}"), list(names)


# Where `nn.Module` keeps what it holds.
_TABLES = ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules")


def _view(module: nn.Module, of: nn.Module) -> None:
    """`module` holds what `of` holds; not a module around it, so that names stay."""
    for table in _TABLES:
        object.__setattr__(module, table, getattr(of, table))


def input_scale(declared: Sequence[Stage]) -> float:
    """1.0, or what makes all strides powers of two: the nearest one to the finest of them."""
    strides = {stage.stride for stage in declared}
    if not strides:
        return 1.0
    finest = min(strides)
    scale = float(finest / 2 ** round(math.log2(finest)))
    at_it = [stride / scale for stride in strides]
    return scale if all(math.log2(stride).is_integer() for stride in at_it) else 1.0


def at_scale(stage: Stage, scale: float) -> Stage:
    return Stage(stage.name, stage.channels, round(stage.stride / scale))


def unsupported_reason(model: Any, declared: Sequence[Stage], names: Sequence[str]) -> str:
    """ "" for a net that can be a `TimmMaps` of the stages `names`; else what is missing, in words.

    Tried on an image that is not square; on the meta device by shapes alone.
    """
    if not declared:
        return "declares no stages"
    for method in ("forward_intermediates", "prune_intermediate_layers"):
        if not hasattr(model, method):
            return f"has no {method}: this timm is too old for it"
    scale = input_scale(declared)
    height, width = TRIED
    x = torch.zeros(1, 3, round(height * scale), round(width * scale))
    was_training = model.training
    try:
        with torch.no_grad():
            maps = model.eval().forward_intermediates(
                x.to(next(model.parameters())), output_fmt="NCHW", intermediates_only=True
            )
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, IndexError) as e:
        return f"takes no image of {width} x {height}: {first_line(e)}"
    finally:
        model.train(was_training)
    if len(maps) != len(declared):
        return f"gives {len(maps)} maps, and declares {len(declared)}"
    for stage, found in zip((at_scale(stage, scale) for stage in declared), maps, strict=True):
        stated = (stage.channels, height // stage.stride, width // stage.stride)
        if stage.name in names and tuple(found.shape[1:]) != stated:
            return f"gives a map {tuple(found.shape[1:])} at {stage.name}, and declares {stated}"
    return ""


def first_line(error: BaseException) -> str:
    """What an error tells, in one line; its kind where it tells nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
