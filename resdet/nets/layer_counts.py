"""Parameters and multiply-adds of each layer and stage, and the layers as table 1 has them.

    weights       of convolutions and linear layers
    norm_affine   scales and shifts of norms; their running statistics are no parameters
    biases        of convolutions and linear layers
    other         tokens, position embeddings, layer scales

Multiply-adds are products alone, as in He et al. 2015: k*k*c_in*c_out*h_out*w_out of a convolution
(c_in of one group), c_in*c_out of a linear layer at each place where it runs, and both products of
attention. Biases, norms, ReLU, pooling and additions are 0. torch's `FlopCounterMode` sees every
product that runs, in a module or not, and counts two operations for each.

Not for: a total alone (`count`), or time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from resdet.nets.timm import TimmNet

# Stages that are none: what runs behind the last one; what is of no layer of a net without any.
HEAD, ITSELF = "head", "net itself"
# Layers beside a block's main path, by the names of ours, and of torchvision and timm.
SHORTCUTS = ("shortcut", "downsample")
_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class ParameterCounts:
    """Learnable values by kind."""

    weights: int = 0
    norm_affine: int = 0
    biases: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.norm_affine + self.biases + self.other

    def __add__(self, more: ParameterCounts) -> ParameterCounts:
        return ParameterCounts(
            self.weights + more.weights,
            self.norm_affine + more.norm_affine,
            self.biases + more.biases,
            self.other + more.other,
        )

    def to_json(self) -> dict[str, int]:
        return {
            "weights": self.weights,
            "norm_affine": self.norm_affine,
            "biases": self.biases,
            "other": self.other,
            "total": self.total,
        }


@dataclass(frozen=True)
class LayerCounts:
    """A module with parameters or products of its own; its submodules are layers of their own.

    Attributes:
        name: within the net, as its tensors begin.
        kind: "convolution", "linear", "norm" or "other".
        stage: the one that it runs in.
        words: "3x3, 64, stride 2" of a convolution, "1000" of a linear layer, else "".
        output: shape of what it gave last, without the batch, or ().
        parameters, multiply_adds: its own.
    """

    name: str
    kind: str
    stage: str
    words: str
    output: tuple[int, ...]
    parameters: ParameterCounts
    multiply_adds: int

    @property
    def is_on_shortcut(self) -> bool:
        """A layer of a block beside its main path; between blocks nothing is."""
        within = self.name.removeprefix(f"{self.stage}.").split(".")
        return any(part in SHORTCUTS for part in within[1:])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "stage": self.stage,
            "words": self.words,
            "output": list(self.output),
            "parameters": self.parameters.to_json(),
            "multiply_adds": self.multiply_adds,
        }


@dataclass(frozen=True)
class StageCounts:
    """The layers of one stage, in the order in which they run.

    Attributes:
        name: of the stage; `HEAD` for what runs behind the last one. Of a net without stages:
            the first part of its layers' names, `ITSELF` for what belongs to none.
    """

    name: str
    layers: tuple[LayerCounts, ...]

    @property
    def parameters(self) -> ParameterCounts:
        return sum((layer.parameters for layer in self.layers), ParameterCounts())

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of what its last convolution or linear layer on the main path gives, or ()."""
        main = [x.output for x in self.layers if x.words and x.output and not x.is_on_shortcut]
        return main[-1] if main else ()

    def row(self) -> str:
        """As table 1 of the paper has it: "[3x3, 64; 3x3, 64] x3", then what is on shortcuts.

        Equal blocks are one entry with their number. Strides within blocks are left out, as in the
        paper: they belong to the first.
        """
        main = [layer for layer in self.layers if layer.words and not layer.is_on_shortcut]
        beside = [_without_stride(x.words) for x in self.layers if x.words and x.is_on_shortcut]
        shortcuts = [f"shortcut {text}" for text in _runs(beside)]
        return ", then ".join([*_blocks(main, self.name), *shortcuts])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "output": list(self.output),
            "row": self.row(),
            "parameters": self.parameters.to_json(),
            "multiply_adds": self.multiply_adds,
        }


@dataclass(frozen=True)
class NetCounts:
    """A net's counts on one image.

    Attributes:
        size: (height, width) of the image, in pixels.
        stages: in the order in which they run.
    """

    size: tuple[int, int]
    stages: tuple[StageCounts, ...]

    @property
    def layers(self) -> tuple[LayerCounts, ...]:
        return tuple(layer for stage in self.stages for layer in stage.layers)

    @property
    def parameters(self) -> ParameterCounts:
        return sum((stage.parameters for stage in self.stages), ParameterCounts())

    @property
    def multiply_adds(self) -> int:
        return sum(stage.multiply_adds for stage in self.stages)

    @property
    def multiply_adds_by_kind(self) -> dict[str, int]:
        """Of convolutions, linear layers, and all else (the products of attention)."""
        sums = dict.fromkeys(("convolution", "linear", "other"), 0)
        for layer in self.layers:
            sums[layer.kind if layer.kind in sums else "other"] += layer.multiply_adds
        return sums

    def to_json(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "parameters": self.parameters.to_json(),
            "multiply_adds": {"total": self.multiply_adds, **self.multiply_adds_by_kind},
            "stages": [stage.to_json() for stage in self.stages],
            "layers": [layer.to_json() for layer in self.layers],
        }


def count_layers(net: nn.Module, height: int, width: int | None = None) -> NetCounts:
    """Counts by one forward pass of one 3 x height x width image, in evaluation mode.

    On "meta" nothing is computed. The net stays as it was.

    Raises:
        ValueError: the net takes no such image; states what it said.

    Example:
        >>> from resdet.nets import build
        >>> with torch.device("meta"):
        ...     counts = count_layers(build("resnet18"), 224)
        >>> counts.parameters.total, counts.multiply_adds
        (11689512, 1814073344)
        >>> counts.stages[1].row()
        '[3x3, 64; 3x3, 64] x2'
    """
    inner = named_module(net)
    trace = _Trace(dict(inner.named_modules()), _stage_modules(net, inner))
    parameter = next(net.parameters())
    size = (height, width or height)
    image = torch.zeros(1, 3, *size, device=parameter.device, dtype=parameter.dtype)
    products = _products(net, inner, image, trace)
    seen: set[int] = set()
    layers = []
    for name in trace.in_order():
        module = trace.modules[name]
        counts = _own_parameters(module, seen)
        if counts.total or products.get(name, 0):
            layers.append(
                LayerCounts(
                    name,
                    _kind(module),
                    trace.stage_of(name),
                    _words(module),
                    trace.output.get(name, ()),
                    counts,
                    products.get(name, 0),
                )
            )
    order = dict.fromkeys([*trace.stages, *(layer.stage for layer in layers)])
    stages = (StageCounts(s, tuple(x for x in layers if x.stage == s)) for s in order)
    return NetCounts(size, tuple(stage for stage in stages if stage.layers))


def named_module(net: nn.Module) -> nn.Module:
    """The module whose names the tensors of a net have: the net itself, or timm's inside."""
    return net.model if isinstance(net, TimmNet) else net


class _Trace:
    """Which modules run, in what order, in which stage, and what they give.

    Args:
        modules: the net's, by name.
        stages: names of stages, in order, to the module that each ends with.
    """

    def __init__(self, modules: dict[str, nn.Module], stages: dict[str, nn.Module]):
        self.modules = modules
        self.stages = list(stages)
        self.output: dict[str, tuple[int, ...]] = {}
        self._ends = {id(module): place for place, module in enumerate(stages.values())}
        self._done = 0
        self._stage: dict[str, str] = {}

    def hooks(self) -> Iterator[Any]:
        for name, module in self.modules.items():
            yield module.register_forward_pre_hook(lambda _m, _x, name=name: self._began(name))
            yield module.register_forward_hook(
                lambda module, _x, output, name=name: self._ended(name, module, output)
            )

    def _began(self, name: str) -> None:
        if self.stages:
            stage = self.stages[self._done] if self._done < len(self.stages) else HEAD
        else:
            stage = name.split(".")[0]
        self._stage.setdefault(name, stage)

    def _ended(self, name: str, module: nn.Module, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            self.output[name] = tuple(output.shape[1:])
        self._done = max(self._done, self._ends.get(id(module), -1) + 1)

    def in_order(self) -> list[str]:
        """Modules as they began to run; one that did not, behind what holds it."""
        order = list(self._stage)
        for name in self.modules:
            if name not in self._stage:
                holder = name.rpartition(".")[0]
                order.insert(order.index(holder) + 1 if holder in order else len(order), name)
        return order

    def stage_of(self, name: str) -> str:
        while name and name not in self._stage:
            name = name.rpartition(".")[0]
        return self._stage.get(name) or ITSELF


def _stage_modules(net: nn.Module, inner: nn.Module) -> dict[str, nn.Module]:
    """The module that each declared stage ends with; none where the net declares none."""
    promised: Any = net
    declared = list(promised.stages()) if callable(getattr(net, "stages", None)) else []
    holders: list[nn.Module] = [inner]
    # Without a chain of layers stages are found by their names alone.
    with contextlib.suppress(ValueError):
        holders += [promised.trunk(declared[-1].name)] if declared else []
    found = {}
    for stage in declared:
        for holder in holders:
            try:
                found[stage.name] = holder.get_submodule(stage.name)
                break
            except AttributeError:
                continue
    return found


def _products(
    net: nn.Module, inner: nn.Module, image: torch.Tensor, trace: _Trace
) -> dict[str, int]:
    """Multiply-adds of each module without its submodules, by name."""
    handles = list(trace.hooks())
    modes = [(module, module.training) for module in net.modules()]
    # The counter refuses a parameter that is a module's input and wants a gradient.
    trained = [p for p in net.parameters() if p.requires_grad]
    counter = FlopCounterMode(display=False)
    try:
        # Fused attention has kernels that the counter does not know.
        for parameter in trained:
            parameter.requires_grad_(False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            net.eval()(image)
    # Each net fails in its own way.
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"the net takes no image of {image.shape[2]} x {image.shape[3]} pixels: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.train(mode)
        for parameter in trained:
            parameter.requires_grad_(True)
    # Modules are called by the class of what was run, then their names.
    root = f"{type(net).__name__}."
    place = next((f"{n}." for n, m in net.named_modules() if m is inner and n), "")
    sums = {"": 0}
    for key, operations in counter.get_flop_counts().items():
        name = key.removeprefix(root + place) if key.startswith(root + place) else None
        if name is not None:
            sums[name] = sum(operations.values()) // 2
    sums[""] = counter.get_total_flops() // 2
    own = dict(sums)
    for name, products in sums.items():
        holder = name.rpartition(".")[0]
        # A list of modules, or one whose method is called in place of itself, has no count.
        while holder not in sums:
            holder = holder.rpartition(".")[0]
        own[holder] -= products if name else 0
    return own


def _own_parameters(module: nn.Module, seen: set[int]) -> ParameterCounts:
    """Those that are no submodule's, each tensor once in a net."""
    counts = {"weights": 0, "norm_affine": 0, "biases": 0, "other": 0}
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        kind = "other"
        if _kind(module) == "norm":
            kind = "norm_affine"
        elif isinstance(module, _ConvNd | nn.Linear) and name in ("weight", "bias"):
            kind = "weights" if name == "weight" else "biases"
        counts[kind] += parameter.numel()
    return ParameterCounts(**counts)


def _kind(module: nn.Module) -> str:
    if isinstance(module, _ConvNd):
        return "convolution"
    if isinstance(module, nn.Linear):
        return "linear"
    # timm's own norms (RMS norms among them) are of no class of torch's.
    is_leaf = not any(True for _ in module.children())
    if isinstance(module, _NORMS) or (is_leaf and "norm" in type(module).__name__.lower()):
        return "norm"
    return "other"


def _words(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"{module.out_features}"
    if not isinstance(module, _ConvNd):
        return ""
    words = ["x".join(map(str, module.kernel_size)), str(module.out_channels)]
    words += [f"stride {module.stride[0]}"] if max(module.stride) > 1 else []
    words += [f"groups {module.groups}"] if module.groups > 1 else []
    words += [f"dilation {module.dilation[0]}"] if max(module.dilation) > 1 else []
    return ", ".join(words)


def _blocks(layers: Sequence[LayerCounts], stage: str) -> list[str]:
    """The layers of each block in brackets; single layers have none."""
    groups: dict[str, list[str]] = {}
    for layer in layers:
        groups.setdefault(_block_of(layer.name, stage), []).append(layer.words)
    if all(len(group) == 1 for group in groups.values()):
        return _runs([layer.words for layer in layers])
    return _runs([
        f"[{'; '.join(map(_without_stride, group))}]" if len(group) > 1 else group[0]
        for group in groups.values()
    ])  # fmt: skip


def _block_of(name: str, stage: str) -> str:
    """What a layer's block is called: up to the first number behind the stage, else the layer.

    Example:
        >>> _block_of("res2.0.conv1", "res2"), _block_of("stem.conv1", "stem")
        ('res2.0', 'stem.conv1')
    """
    if not name.startswith(f"{stage}."):
        return name
    *within, _leaf = name.removeprefix(f"{stage}.").split(".")
    for place, part in enumerate(within):
        if part[-1:].isdigit():
            return ".".join([stage, *within[: place + 1]])
    # A stage that is itself a block, as timm has those of transformers.
    return stage if within else name


def _runs(texts: Sequence[str]) -> list[str]:
    """Equal neighbours once, with their number.

    Example:
        >>> _runs(["3x3, 64", "3x3, 64", "1x1, 8"])
        ['3x3, 64 x2', '1x1, 8']
    """
    runs: list[tuple[str, int]] = []
    for text in texts:
        if runs and runs[-1][0] == text:
            runs[-1] = (text, runs[-1][1] + 1)
        else:
            runs.append((text, 1))
    return [text if n == 1 and text[0] != "[" else f"{text} x{n}" for text, n in runs]


def _without_stride(words: str) -> str:
    return ", ".join(part for part in words.split(", ") if not part.startswith("stride"))
