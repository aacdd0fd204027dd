"""Layers that run one after the other, under names that may have dots.

A chain of timm's ConvNeXt is `stem`, `stages.0`, `stages.1`, …: its tensors are named as in timm,
`stages.0.blocks.0.norm.weight`, wherever the layers are placed.

Not for: which layers a net has (`net`), or what runs beside the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn


class _Folder(nn.Module):
    """What stands for a name's part before a dot. It never runs."""


def place(parent: nn.Module, name: str, layer: nn.Module) -> None:
    """Makes `layer` the submodule `name` of `parent`; parts before dots become folders.

    Raises:
        ValueError: something else of `parent` has that name.

    Example:
        >>> net = nn.Module()
        >>> place(net, "stages.3", nn.Linear(2, 2))
        >>> sorted(net.state_dict())
        ['stages.3.bias', 'stages.3.weight']
    """
    *path, leaf = name.split(".")
    node = parent
    for part in path:
        if not hasattr(node, part):
            node.add_module(part, _Folder())
        inner = getattr(node, part)
        if not isinstance(inner, _Folder):
            raise ValueError(
                f"the layer {name!r} cannot be placed: {type(parent).__name__} already has a "
                f"{part!r}. Give the layer another name."
            )
        node = inner
    if hasattr(node, leaf):
        raise ValueError(
            f"the layer {name!r} cannot be placed: {type(parent).__name__} already has a {name!r}. "
            "Give the layer another name."
        )
    node.add_module(leaf, layer)


class Chain(nn.Module):
    """Named layers in the order in which they run.

    Args:
        layers: (name, layer); no name twice.
    """

    def __init__(self, layers: Iterable[tuple[str, nn.Module]] = ()):
        super().__init__()
        self.names: list[str] = []
        for name, layer in layers:
            place(self, name, layer)
            self.names.append(name)

    @classmethod
    def of(cls, layers: nn.Module) -> Chain:
        """The chain itself, or a chain of the children of an `nn.Sequential`.

        Raises:
            TypeError: it is neither, so the order of its children is unknown.
        """
        if isinstance(layers, Chain):
            return layers
        if isinstance(layers, nn.Sequential):
            return cls(layers.named_children())
        raise TypeError(
            f"got a {type(layers).__name__}, expected an nn.Sequential of named children "
            "or a resdet.nets.Chain"
        )

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, layer) in the order in which they run."""
        for name in self.names:
            yield name, self.get_submodule(name)

    def replace(self, name: str, layer: nn.Module) -> None:
        """Replaces the layer named `name` by `layer`."""
        parent, _, leaf = name.rpartition(".")
        self.get_submodule(name)  # there is one
        setattr(self.get_submodule(parent), leaf, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


def by_stage(names: Sequence[str], stages: Iterable[str]) -> dict[str, list[str]]:
    """A chain's names, grouped under the stage that each belongs to: the next one that ends.

    Layers behind the last stage belong to none.

    Example:
        >>> by_stage(["conv1", "bn1", "act1", "maxpool", "layer1"], ["act1", "layer1"])
        {'act1': ['conv1', 'bn1', 'act1'], 'layer1': ['maxpool', 'layer1']}
    """
    ends, groups, waiting = set(stages), {}, []
    for name in names:
        waiting.append(name)
        if name in ends:
            groups[name], waiting = waiting, []
    return groups


def stages_and_rest(
    layers: nn.Module, names: Sequence[str], stages: Iterable[str]
) -> list[nn.ModuleList]:
    """The layers of these names, in order: those of a stage together, each behind them alone.

    Args:
        layers: has a layer of each name.
    """
    groups = list(by_stage(names, stages).values())
    rest = names[sum(map(len, groups)) :]
    return [
        nn.ModuleList(layers.get_submodule(name) for name in group)
        for group in (*groups, *([name] for name in rest))
    ]
