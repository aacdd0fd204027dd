"""Modules that stand where others stood: the same parameters, buffers and names, another forward.

Files, optimizers and whoever walks the model find what they found before.

Not for: what the other forward is, but for `InPrecision`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from resdet.engine.speed.precision import Precision


class InPlaceOf(nn.Module):
    """Takes over all of a module; that module itself is thrown away.

    Mixed in before the module's own class, whose `forward` is then `super().forward`.
    """

    def __init__(self, module: nn.Module):
        nn.Module.__init__(self)
        # Hooks, settings and children, too.
        self.__dict__.update(module.__dict__)


class InPrecision(InPlaceOf):
    """Computes as `precision` says, and gives the type that it is given."""

    def __init__(self, module: nn.Module, precision: Precision):
        super().__init__(module)
        self.precision = precision

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own: Any = super().forward
        with self.precision.autocast():
            found: torch.Tensor = own(self.precision.input(x) if x.dim() == 4 else x)
        return found.to(x.dtype)
