"""Nets of timm, under timm's own names: `build("timm:convnext_tiny")`. Needs timm, only here.

The net inside is timm's module, untouched; its state dict is timm's, name for name. Three families
can be split at stride 16 into trunk and tail (`FAMILIES`). Of the others that run layer by layer
the trunk is taken, for an FPN: the order of timm's declared children, checked once against timm's
own forward.

Rounding: ResNet and RegNet pad, so that a map has ceil(H / stride) cells, as our nets. ConvNeXt
cuts patches: floor(H / stride) cells, and up to stride - 1 pixels at the right and lower edge are
in no cell of that stage. Cell i stands for the pixels from i * stride on in both, so the scale of
RoI pooling, 1 / stride, is right; a box that reaches beyond the map is pooled from its edge. An FPN
pads images to a multiple of its largest stride, where both roundings agree.

Not for: weights and cards (`resdet.weights.cards`). Nothing is ever downloaded.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from resdet.nets.chain import Chain
from resdet.nets.net import Net, Stage
from resdet.nets.timm_maps import (
    TRIED,
    TimmMaps,
    at_scale,
    first_line,
    grouped,
    input_scale,
    unsupported_reason,
)

PREFIX = "timm:"
INSTALL = "pip install 'resdet[timm]' (or: pip install timm)"

# class of timm: its layers up to the last stage, in the order of its forward pass. The tail is
# the last of them and what follows.
FAMILIES: dict[str, tuple[str, ...]] = {
    "ResNet": ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"),
    "RegNet": ("stem", "s1", "s2", "s3", "s4"),
    "ConvNeXt": ("stem", "stages.0", "stages.1", "stages.2", "stages.3"),
}
# What stands between the last stage and the head of the three.
BEHIND = {"ResNet": (), "RegNet": ("final_conv",), "ConvNeXt": ("norm_pre",)}
# Parts of timm's heads in the order of their forward pass, without the last linear layer.
HEADS = {
    "ClassifierHead": ("global_pool", "drop"),
    "NormMlpClassifierHead": ("global_pool", "norm", "flatten", "pre_logits", "drop"),
}
# timm's ResNet drops by a function; in a chain it is a layer without tensors.
DROPOUT = "drop"
# What holds the rate in timm's layers of stochastic depth.
DROP_PROB = "drop_prob"


class TimmNet(Net):
    """A net of timm with the three methods of ours.

    Input (N, 3, H, W), logits (N, num_classes): timm's own forward pass. Trunk, tail and the last
    linear layer, one after the other, give the same logits where a whole image is one region.

    Attributes:
        not_split: "" or, in words, why it has no tail; then `shared_stage` is "".
        classifier: timm's name of the last linear layer.

    Args:
        model: of `timm.create_model`.
        name: as timm has it, for messages and cards.
        pooled_size: cells a side per region for the tail; its first block halves them.
        image_size: side of the square that the model was built for; 0: images of any size, or of
            timm's own.
    """

    def __init__(self, model: nn.Module, name: str, *, pooled_size: int = 14, image_size: int = 0):
        super().__init__()
        self.image_size = image_size
        self.name = name
        self.model = model
        self.pooled_size = pooled_size
        self._declared = declared_stages(model)
        self._scale = scale = input_scale(self._declared)
        self._stages = tuple(at_scale(stage, scale) for stage in self._declared)
        self.num_classes = int(getattr(model, "num_classes", 0))
        self.classifier = _name_of_classifier(model)
        self.not_split = reason_not_split(model, self._stages)
        self._order: tuple[str, ...] | None = None
        if not self.not_split:
            family = type(model).__name__
            self._order = FAMILIES[family]
            self.shared_stage = self._stages[-2].name
            self._tail_names = (self._order[-1], *BEHIND[family], *_head_names(model))
            self.tail_channels = int(getattr(model, "head_hidden_size"))  # noqa: B009 not of nn.Module
        else:
            self.shared_stage, self._tail_names, self.tail_channels = "", (), 0
        # The state dict is timm's, name for name: `model.` is ours alone.
        self.register_state_dict_post_hook(_leave_out_prefix)
        self.register_load_state_dict_pre_hook(_put_in_prefix)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)

    def trunk(self, to: str | None = None) -> Chain:
        """The layers up to and including the stage `to`, under timm's names.

        Raises:
            ValueError: no such stage, no stages declared, or a net that does not run layer by
                layer.
        """
        if not self._stages:
            raise ValueError(f"{PREFIX}{self.name} declares no stages: it cannot be a backbone")
        if not to and not self.shared_stage:
            raise ValueError(f"{PREFIX}{self.name} {self.not_split}")
        self._settle_order()
        return super().trunk(to)

    def _settle_order(self) -> None:
        """The layers in their order; raises ValueError as `trunk`."""
        if self._scale != 1.0:
            raise ValueError(
                f"{PREFIX}{self.name} cuts patches that are no power of two: it runs on images "
                f"resized by {self._scale}, and not layer by layer"
            )
        if self._order is None:
            self._order = order_of_layers(self.model, self._stages, self.name)

    @property
    def own_side(self) -> int:
        """Of the square images that timm has the net for."""
        return int(getattr(self.model, "pretrained_cfg")["input_size"][-1])  # noqa: B009

    @property
    def takes_drop_path(self) -> bool:
        """Whether timm builds the net with stochastic depth."""
        return "drop_path_rate" in inspect.signature(type(self.model)).parameters

    @cached_property
    def runs_layer_by_layer(self) -> bool:
        """Whether `trunk` gives its maps; else `maps` may, and for images of one size does."""
        if self.image_size:
            return False
        try:
            if self._order is None or self._scale != 1.0:
                self._settle_order()
        except ValueError:
            return False
        return True

    def maps(self, names: Sequence[str]) -> TimmMaps:
        """All maps of the stages `names` at once, for nets that do not run layer by layer.

        What stands behind the last of them is taken off this net, which is no classifier then.

        Raises:
            ValueError: the net gives no such maps; states what is missing.
        """
        if reason := unsupported_reason(self.model, self._declared, names, self.image_size):
            raise ValueError(
                f"{PREFIX}{self.name} is a {type(self.model).__name__}, which {reason}"
            )
        return TimmMaps(self.model, self._declared, names, self.image_size)

    def groups(self) -> list[list[str]]:
        """Names of parameters from the images on, as timm groups them, but for the classifier and
        what is grouped with it: the stem, then stage by stage or block by block.

        Raises:
            ValueError: timm does not group them.
        """
        found = [names for _, names in grouped(self.model)]
        ends = tuple(f"{stage.name}." for stage in self._stages)
        last = [n for n in found.pop() if not n.startswith(f"{self.classifier}.")]
        return [*found, last] if any(n.startswith(ends) for n in last) else found

    def tail(self, after: str | None = None) -> Chain:
        """The layers behind the shared stage, up to the last linear layer, under timm's names.

        Raises:
            ValueError: the net cannot be split at stride 16; states what is missing.
        """
        if self.not_split:
            raise ValueError(f"{PREFIX}{self.name} {self.not_split}")
        return super().tail(after)

    def _upto(self, stage: str) -> list[str]:
        order = list(self._order or ())
        return order[: order.index(stage) + 1]

    def _layer(self, name: str) -> nn.Module:
        if name == DROPOUT:
            rate = float(getattr(self.model, "drop_rate"))  # noqa: B009
            return nn.Dropout(rate).train(self.training)
        return self.model.get_submodule(name)

    def _chain(self, names: Any) -> Chain:
        return Chain((name, self._layer(name)) for name in names)


def build_timm(name: str, num_classes: int, **options: Any) -> TimmNet:
    """The net with timm's name `name` (an architecture, with or without a weight tag), untrained.

    Args:
        name: `convnext_tiny`, `resnet50.a1_in1k`; a tag chooses the `pretrained_cfg`, not weights.
        num_classes: K.
        options: `pooled_size`; `image_size`, the side of the square that a net of one size is built
            for (timm's `img_size`); `drop_path`, the rate of stochastic depth (timm's
            `drop_path_rate`, spread over the blocks as timm does); and what timm's own constructor
            takes.

    Raises:
        ValueError: timm is not there, has no such net or tag, or the net takes no such option.
    """
    try:
        import timm  # only where a net of timm is used
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ValueError(
            f"{PREFIX}{name} needs timm, which is not installed. Run: {INSTALL}"
        ) from None
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.6)
        hint = f"close: {', '.join(near)}" if near else "timm.list_models() lists them"
        raise ValueError(f"timm {timm.__version__} has no net {architecture!r}; {hint}")
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ValueError(
            f"timm {timm.__version__} has no weights {tag!r} of {architecture}; "
            f"tags: {', '.join(tags) or 'none'}"
        )
    pooled_size = int(options.pop("pooled_size", 14))
    image_size = int(options.pop("image_size", 0))
    drop_path = options.pop("drop_path", None)
    if drop_path is not None:
        options = {"drop_path_rate": drop_path, **options}
    if refused := sorted({"pretrained", "features_only", "checkpoint_path"} & set(options)):
        raise ValueError(f"{PREFIX}{name} takes no {', '.join(refused)}: weights come from a file")
    try:
        model = _created(timm, name, num_classes, options, image_size)
    except (TypeError, AssertionError) as error:
        given = {**options, "image_size": image_size} if image_size else options
        raise ValueError(
            f"{PREFIX}{name} cannot be built with {_show(given)}: {error}; leave them out"
        ) from None
    if drop_path and not any(getattr(m, DROP_PROB, 0) for m in model.modules()):
        raise ValueError(
            f"{PREFIX}{name} is a {type(model).__name__}, whose blocks drop nothing: it was built "
            f"with drop_path={drop_path} and has no stochastic depth; leave it out"
        )
    return TimmNet(model, name, pooled_size=pooled_size, image_size=image_size)


# Images of any size: positions are resampled, windows made anew. By timm's names of it.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


def _created(
    timm: Any, name: str, num_classes: int, options: dict[str, Any], image_size: int
) -> nn.Module:
    """timm's net, for that size of images, else for any where it has an option for that."""
    if image_size:
        options = {"img_size": image_size, **options}
    for any_size in () if image_size else ANY_SIZE:
        with contextlib.suppress(TypeError):
            built: nn.Module = timm.create_model(
                name, pretrained=False, num_classes=num_classes, **{**any_size, **options}
            )
            return built
    plain: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, **options)
    return plain


def _show(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items()) or "timm's defaults"


def declared_stages(model: nn.Module) -> tuple[Stage, ...]:
    """The stages that timm declares in `feature_info`; () where it declares none.

    Names are those of modules; where several maps come from one module (CoaT), with the stride.
    """
    declared: Any = getattr(model, "feature_info", ())
    entries = [e for e in getattr(declared, "info", declared) if e.get("module")]
    modules = [str(e["module"]) for e in entries]
    strides = [int(e["reduction"]) for e in entries]
    names = [
        module if modules.count(module) == 1 else f"{module}.stride{stride}"
        for module, stride in zip(modules, strides, strict=True)
    ]
    return tuple(
        Stage(name, int(e["num_chs"]), stride)
        for name, stride, e in zip(names, strides, entries, strict=True)
    )


def reason_not_split(model: nn.Module, stages: Sequence[Stage]) -> str:
    """ "" for a net with a trunk at stride 16 and a tail; else what is missing, in words."""
    strides = [s.stride for s in stages]
    if not strides:
        return "declares no feature strides: it can be no backbone at all"
    # One stride: a plain transformer, whose pyramid stands on its last map.
    fits = strides == sorted(strides)
    listed = ", ".join(map(str, sorted(set(strides))))
    instead = (
        f"it has maps at strides {listed}: use it with an FPN"
        if fits
        else f"its maps (strides {listed}) suit no FPN either"
    )
    family = type(model).__name__
    if family not in FAMILIES:
        return (
            f"is a {family}, which cannot be split at stride 16 into a trunk and a tail for "
            f"regions (that can: {', '.join(FAMILIES)}); {instead}"
        )
    if strides[-2:] != [16, 32]:
        return (
            f"has its last stages at strides {strides[-2]} and {strides[-1]}, and a trunk ends at "
            f"16 with one stage at 32 behind it; {instead}"
        )
    return ""


def order_of_layers(model: nn.Module, stages: Sequence[Stage], name: str) -> tuple[str, ...]:
    """The children up to the last stage, in timm's order; checked against timm's forward pass.

    Raises:
        ValueError: run one after the other they do not give the maps that timm's forward pass
            has at its stages.
    """
    ends = [s.name for s in stages]
    order: list[str] = []

    def walk(module: nn.Module, prefix: str) -> None:
        for child_name, child in module.named_children():
            path = prefix + child_name
            if any(end.startswith(f"{path}.") for end in ends):
                walk(child, f"{path}.")
            else:
                order.append(path)

    walk(model, "")
    missing = [end for end in ends if end not in order]
    if missing:
        raise ValueError(
            f"{PREFIX}{name} is a {type(model).__name__}, which has no layer {missing[0]}, though "
            "timm declares it a stage: wrap the net yourself (docs/own_net.md)"
        )
    order = order[: max(order.index(end) for end in ends) + 1]
    if fault := _differs(model, order, stages):
        raise ValueError(
            f"{PREFIX}{name} is a {type(model).__name__}, which does not run layer by layer "
            f"({fault}): it cannot be a backbone by timm's declaration. Wrap it yourself: "
            "docs/own_net.md"
        )
    return tuple(order)


def _differs(model: nn.Module, order: Sequence[str], stages: Sequence[Stage]) -> str:
    """ "" where the layers, run in this order, give timm's own maps on a small random image.

    Of a net without values (of the meta device) shapes alone are compared.
    """
    parameter = next(model.parameters())
    is_meta = parameter.is_meta
    seen: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(s.name).register_forward_hook(
            # The clone: what follows may work in place.
            lambda _module, _inputs, output, name=s.name: seen.update({name: output.clone()})
        )
        for s in stages
    ]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, *TRIED, generator=generator).to(parameter)
    was_training = model.training
    maps: dict[str, torch.Tensor] = {}
    features: Any = model
    try:
        with torch.no_grad():
            features.eval().forward_features(x)
            for handle in handles:
                handle.remove()
            handles = []
            for layer in order:
                x = model.get_submodule(layer)(x)
                if layer in seen:
                    if x.shape != seen[layer].shape or not (is_meta or torch.equal(x, seen[layer])):
                        return f"{layer} gets another input there"
                    maps[layer] = x
    except (RuntimeError, ValueError, TypeError, AssertionError, AttributeError) as error:
        return f"an image of {TRIED[1]} x {TRIED[0]} stops it: {first_line(error)}"
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    for stage in stages:
        if stage.name not in seen or seen[stage.name].ndim != 4:
            return f"{stage.name} gives no map"
        if seen[stage.name].shape[1] != stage.channels:
            return (
                f"{stage.name} gives {tuple(seen[stage.name].shape)}, expected "
                f"{stage.channels} channels in the second place"
            )
        if not (is_meta or torch.equal(maps[stage.name], seen[stage.name])):
            return f"the map of {stage.name} is changed in place by the layer behind it"
    return ""


def _head_names(model: nn.Module) -> tuple[str, ...]:
    """What the classifier has behind its last map, before the last linear layer."""
    head: Any = getattr(model, "head", None)
    if head is not None:
        return tuple(f"head.{part}" for part in HEADS[type(head).__name__])
    return ("global_pool", DROPOUT) if getattr(model, "drop_rate", 0) else ("global_pool",)


def _name_of_classifier(model: Any) -> str:
    """Name of the last linear layer in timm's module; "" where there is no single one."""
    if not hasattr(model, "get_classifier"):
        raise ValueError(
            f"timm's {type(model).__name__} has no classifier; a backbone of resdet is a net that "
            "was trained as one"
        )
    last = model.get_classifier()
    return next((n for n, m in model.named_modules() if m is last and n), "")


def _leave_out_prefix(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    del module, metadata
    inside = f"{prefix}model."
    for key in [k for k in state if k.startswith(inside)]:
        state[prefix + key.removeprefix(inside)] = state.pop(key)


def _put_in_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    del module, rest
    for key in [k for k in state if k.startswith(prefix)]:
        state[f"{prefix}model.{key.removeprefix(prefix)}"] = state.pop(key)
