"""Batch norm that does not move: frozen inside any net, ours or foreign.

Detectron2's own conversion takes every `BatchNorm2d`, subclasses included, and gives a plain
affine map. timm's `BatchNormAct2d` is such a subclass, and would silently lose the activation
inside it. Here each kind is frozen as what it is, and an unknown kind is refused.
Norms without statistics of a data set (LayerNorm, GroupNorm) stay as they are: their parameters
are frozen where the stage is frozen, and train elsewhere.

Not for: which stage is frozen (`backbone`).
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet.errors import ConfigError

# Whose forward pass is batch norm and nothing else, beside those that inherit it unchanged.
PLAIN = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm)

# Attributes that hold a probability to drop: of torch's dropouts, and of timm's DropPath and
# DropBlock2d; of torch's attention; of DenseNet's layers in torchvision and timm; of timm's
# attention without a layer for it.
RATES = ("p", "drop_prob", "dropout", "drop_rate", "attn_drop_p")


class FrozenBatchNormAct2d(FrozenBatchNorm2d):
    """A frozen norm with what timm's `BatchNormAct2d` does behind it: drop, then activation."""

    def __init__(self, num_features: int, eps: float, drop: nn.Module, act: nn.Module):
        super().__init__(num_features, eps)
        self.drop = drop
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


def refuse_frozen_without_batch_norm(layers: nn.Module, cfg: Any) -> None:
    """Raises ConfigError for MODEL.NET.NORM FrozenBN and a trunk whose norms are all others.

    They hold no statistics that could be fixed, and would train. A net without norms has none to.
    """
    kinds = {type(module) for module in layers.modules()}
    others = sorted(
        kind.__name__
        for kind in kinds
        if "norm" in kind.__name__.lower() and not issubclass(kind, _BatchNorm)
    )
    batch_norms = any(issubclass(kind, _BatchNorm | FrozenBatchNorm2d) for kind in kinds)
    if cfg.MODEL.NET.NORM == "FrozenBN" and others and not batch_norms:
        raise ConfigError(
            f"MODEL.NET.NORM is FrozenBN, but {cfg.MODEL.NET.NAME} has no batch norm: its norms "
            f"({', '.join(others)}) have no statistics, and their scales rest where their stages "
            "do. Set MODEL.NET.NORM auto, and MODEL.BACKBONE.FREEZE_AT to the stages that rest."
        )


def freeze_norms(module: nn.Module, where: str = "") -> nn.Module:
    """The module with every batch norm frozen at its values, under the same names.

    Changed in place, but for a module that is itself a norm. Norms of ours become what
    `FrozenBatchNorm2d.convert_frozen_batchnorm` gives, to the bit.

    Args:
        where: name of the module, for messages.

    Raises:
        ConfigError: a norm keeps no statistics, or is of a kind that cannot be frozen.
    """
    if isinstance(module, _BatchNorm):
        return _frozen(module, where)
    for name, child in module.named_children():
        frozen = freeze_norms(child, f"{where}.{name}" if where else name)
        if frozen is not child:
            module.add_module(name, frozen)
    return module


def _frozen(norm: _BatchNorm, where: str) -> nn.Module:
    kind = type(norm)
    if norm.running_mean is None:
        raise ConfigError(
            f"MODEL.NET: the norm {where} ({kind.__name__}) keeps no statistics, so there is "
            "nothing to freeze. Set MODEL.NET.NORM BN and MODEL.BACKBONE.FREEZE_AT 0."
        )
    if isinstance(norm, PLAIN) and any(kind.forward is plain.forward for plain in PLAIN):
        return _without_counter(FrozenBatchNorm2d.convert_frozen_batchnorm(norm))
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    # timm's class by its name: it is there only where timm is, and timm is not needed here.
    known = kind.__name__ == "BatchNormAct2d" and isinstance(norm, nn.BatchNorm2d)
    if known and isinstance(drop, nn.Module) and isinstance(act, nn.Module):
        frozen = FrozenBatchNormAct2d(norm.num_features, norm.eps, drop, act)
        for name, buffer in FrozenBatchNorm2d.convert_frozen_batchnorm(norm).named_buffers():
            if name in dict(frozen.named_buffers()):
                setattr(frozen, name, buffer)
        return frozen
    raise ConfigError(
        f"MODEL.NET: the norm {where} is a {kind.__name__}, which resdet cannot freeze: it "
        "knows BatchNorm2d and timm's BatchNormAct2d, and another may do more than normalise maps. "
        "Set MODEL.NET.NORM BN and MODEL.BACKBONE.FREEZE_AT 0."
    )


def _without_counter(frozen: nn.Module) -> nn.Module:
    """Detectron2's main (02b5c4e) keeps the counter of what it converts; what it builds frozen has
    none, and 0.6 never: names of tensors must not depend on the way or the version."""
    if getattr(frozen, "num_batches_tracked", None) is not None:
        frozen.register_buffer("num_batches_tracked", None)
    return frozen


def disable_dropout(module: nn.Module) -> nn.Module:
    """The module with every dropout and drop path off, also in training mode."""
    for layer in module.modules():
        for rate in RATES:
            if isinstance(getattr(layer, rate, None), float):
                setattr(layer, rate, 0.0)
    return module


def is_fixed(module: nn.Module) -> bool:
    """Whether it has parameters, and none of them trains."""
    needs = [parameter.requires_grad for parameter in module.parameters()]
    return bool(needs) and not any(needs)


def gradients_if_needed(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """No graph is kept of a pass through what is fixed."""
    needless = torch.is_grad_enabled() and is_fixed(module)
    return torch.no_grad() if needless else contextlib.nullcontext()
