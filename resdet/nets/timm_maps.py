"""A net of timm that does not run layer by layer, as a trunk: by timm's own feature interface.

Transformers keep tokens beside their maps, HRNet has branches, Swin's maps have channels last:
`forward_intermediates` gives maps (N, C, H, W) of all of them, `prune_intermediate_layers` takes
what stands behind the last one off. Nothing here knows a model.

    trunk = TimmMaps(net.model, stages)
    maps = trunk(images)    # stage name to map, of this net without a change

A net of one size (BEiT, MaxViT, Hiera) is built for a square by timm's `img_size`: images are
padded to it with zeros at the right and lower edge, as ViTDet's, and its maps cut to theirs. Its
positions, biases and windows are those that timm makes for that square; tensors of a file for
another one are resampled (`resampled`).

Maps are as timm gives them: class tokens and registers left out, the last norm not applied, as in
Li et al. 2022 (arXiv:2203.16527).

A plain transformer has one stride, its patch. Where that is no power of two (DINOv2's 14), images
are resized by 14 / 16 first, so that a cell stands for 16 pixels: the net runs as it was trained,
and neither its patches nor a level of a pyramid are resampled. So are those of other nets whose
patches are of 7 or 14 pixels.

Not for: nets that run layer by layer (`timm`), or a pyramid on one map (`detect.architecture`).
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from resdet.nets.net import Stage

# Sides of the image on which a net is tried; no multiple of each other, and not square.
TRIED = (128, 192)

# How the reason begins of a net that may be one of one size.
NO_IMAGE = "takes no image of"

# Name of timm's positions: a row of (1, cells, C), or a map of (1, height, width, C).
POSITIONS = "pos_embed"
# And of its biases by relative position within a window, (entries, heads).
BIASES = ".relative_position_bias_table"


class TimmMaps(nn.Module):
    """timm's model up to the last of `stages`, under timm's names.

    Input (N, 3, H, W), H and W multiples of the largest stride; gives the map of each stage, by
    name, (N, C, H / stride, W / stride).

    Attributes:
        given_stages: those whose maps it gives; `stages` may be a layer of the net.
        scale: images are resized by it first; 1.0 for nets whose strides are powers of two.
        image_size: side of the square that images are padded to; 0: images of any size.

    Args:
        model: of timm; what stands behind the last stage is taken off.
        declared: all stages that it declares.
        names: of those whose maps are expected.
        image_size: for which the model was built, or 0.
    """

    _model: Any

    def __init__(
        self, model: Any, declared: Sequence[Stage], names: Sequence[str], image_size: int = 0
    ):
        super().__init__()
        self.image_size = image_size
        places = {stage.name: place for place, stage in enumerate(declared)}
        self._indices = [places[name] for name in names]
        self.scale = input_scale(declared)
        self.given_stages = tuple(at_scale(declared[i], self.scale) for i in self._indices)
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
        """Raises ValueError for an image that is larger than the net's square."""
        height, width = x.shape[-2:]
        if self.image_size:
            x = self._padded(x)
        if self.scale != 1.0:
            size = [round(side * self.scale) for side in x.shape[-2:]]
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        maps = self._model.forward_intermediates(
            x, indices=self._indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        if self.image_size:
            maps = [
                found[..., : height // stage.stride, : width // stage.stride]
                for stage, found in zip(self.given_stages, maps, strict=True)
            ]
        return {s.name: found for s, found in zip(self.given_stages, maps, strict=True)}

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        side = self.image_size
        if max(height, width) > side:
            raise ValueError(
                f"an image of {width} x {height} for a net that was built for {side} x {side}"
            )
        return F.pad(x, (0, side - width, 0, side - height))

    def resampled(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Those of a file's tensors that another size of image gives another shape, for this one.

        By timm's own rule for files of the net; what it leaves out of positions and of tables of
        relative ones by timm's `resample_abs_pos_embed` and `resize_rel_pos_bias_table`. What none
        of them fits is not among them. {} for nets of any size.
        """
        if not self.image_size:
            return {}
        own = self.state_dict()
        other = [n for n, t in tensors.items() if n in own and own[n].shape != t.shape]
        if not other:
            return {}
        rule = getattr(sys.modules[type(self._model).__module__], "checkpoint_filter_fn", None)
        given = dict(tensors)
        if rule is not None:
            given |= rule(dict(tensors), self._model)
        tokens = int(getattr(self._model, "num_prefix_tokens", 0))
        for name in other:
            if given[name].shape == own[name].shape:
                continue
            if name.endswith(POSITIONS):
                given[name] = _positions(given[name], own[name].shape, tokens)
            if name.endswith(BIASES):
                table = self._model.get_submodule(name.removesuffix(BIASES))
                given[name] = _biases(given[name], own[name].shape, table)
        return {name: given[name] for name in other if given[name].shape == own[name].shape}

    def embeddings(self) -> list[nn.Parameter]:
        """Position embeddings and tokens."""
        return embeddings(self._model)

    def groups(self) -> Iterator[tuple[str, list[str]]]:
        """Parts of the net from the images on, as timm groups them: a name, and its parameters'.

        The stem with its tokens and positions comes first, then stage by stage; of a plain
        transformer block by block.
        """
        yield from grouped(self._model)


def grouped(model: Any) -> Iterator[tuple[str, list[str]]]:
    """timm's groups of a model's parameters, as `TimmMaps.groups` has them.

    Raises:
        ValueError: timm has no groups for this model.
    """
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        raise ValueError(f"timm does not group the parameters of its {type(model).__name__}")
    found: dict[Any, list[str]] = group_parameters(model, model.group_matcher(coarse=True))
    for place, names in enumerate(found.values()):
        yield ("stem" if not place else f"group {place}"), list(names)


def embeddings(model: nn.Module) -> list[nn.Parameter]:
    """Position embeddings and tokens of timm's model: what it lists as without weight decay.

    Args:
        model: timm's, or any other; [] where it lists none.
    """
    listed: Any = getattr(model, "no_weight_decay", None)
    names = set(listed()) if callable(listed) else set()
    return [parameter for name, parameter in model.named_parameters() if name in names]


# Where `nn.Module` keeps what it holds.
_TABLES = ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules")


def _view(module: nn.Module, of: nn.Module) -> None:
    """`module` holds what `of` holds; not a module around it, so that names stay."""
    for table in _TABLES:
        object.__setattr__(module, table, getattr(of, table))


def _positions(given: torch.Tensor, shape: torch.Size, tokens: int) -> torch.Tensor:
    """Positions for another number of cells; as they are where they are of another kind."""
    from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc

    if given.ndim == len(shape) == 4 and given.shape[-1] == shape[-1]:
        resized: torch.Tensor = resample_abs_pos_embed_nhwc(given, list(shape[1:3]))
        return resized
    for before in {0, tokens}:
        cells, expected = given.shape[1] - before, shape[1] - before
        if given.ndim == 3 and _is_square(cells) and _is_square(expected):
            side = math.isqrt(expected)
            row: torch.Tensor = resample_abs_pos_embed(
                given, [side, side], num_prefix_tokens=before
            )
            return row
    return given


def _biases(given: torch.Tensor, shape: torch.Size, table: Any) -> torch.Tensor:
    """A table for another window; as it is where the layer states none."""
    from timm.layers import resize_rel_pos_bias_table

    window = getattr(table, "window_size", None)
    if window is None or given.ndim != 2 or given.shape[1] != shape[1]:
        return given
    resized: torch.Tensor = resize_rel_pos_bias_table(given, tuple(window), tuple(shape))
    return resized


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


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


def unsupported_reason(
    model: Any, declared: Sequence[Stage], names: Sequence[str], image_size: int = 0
) -> str:
    """ "" for a net that can be a `TimmMaps` of the stages `names`; else what is missing, in words.

    Tried on an image that is not square; on the meta device by shapes alone. A net that was built
    for a square of `image_size` is tried on that, by shapes alone.
    """
    if not declared:
        return "declares no stages"
    for method in ("forward_intermediates", "prune_intermediate_layers", "group_matcher"):
        if not hasattr(model, method):
            return f"has no {method} in this timm"
    scale = input_scale(declared)
    if image_size and scale != 1.0:
        return f"takes images of any size, which are resized by {scale}"
    height, width = (image_size, image_size) if image_size else TRIED
    if image_size:
        # A square of a detector's size would take seconds, and gigabytes.
        model = copy.deepcopy(model).to("meta")
    x = torch.zeros(1, 3, round(height * scale), round(width * scale))
    was_training = model.training
    try:
        with torch.no_grad():
            maps = model.eval().forward_intermediates(
                x.to(next(model.parameters())), output_fmt="NCHW", intermediates_only=True
            )
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, IndexError) as e:
        return f"{NO_IMAGE} {width} x {height}: {first_line(e)}"
    finally:
        model.train(was_training)
    if len(maps) != len(declared):
        return f"gives {len(maps)} maps, and declares {len(declared)}"
    for stage, found in zip((at_scale(stage, scale) for stage in declared), maps, strict=True):
        stated = (stage.channels, height // stage.stride, width // stage.stride)
        if stage.name in names and not _is_padded(tuple(found.shape[1:]), stated):
            return f"gives a map {tuple(found.shape[1:])} at {stage.name}, and declares {stated}"
    return ""


def _is_padded(found: tuple[int, ...], stated: tuple[int, ...]) -> bool:
    """Whether a map (C, h, w) is the stated one, but for a cell at the edges of a net that pads too
    little (Xception); a backbone repeats that."""
    return (
        len(found) == 3
        and found[0] == stated[0]
        and all(side - 1 <= n <= side for n, side in zip(found[1:], stated[1:], strict=True))
    )


def first_line(error: BaseException) -> str:
    """What an error tells, in one line; its kind where it tells nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
