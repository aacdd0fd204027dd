"""Modules in the place of others: the same parameters, buffers and names, another forward.

Files, optimizers and code that iterates over the model see no difference.

Not for: what the other forward is, but for `InPrecision`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from resdet.engine.speed.precision import Precision


class InPlaceOf(nn.Module):
    """Takes over all of a module; the module itself is discarded.

    Mixed in before the module's own class, whose `forward` is then `super().forward`.
    """

    def __init__(self, module: nn.Module):
        nn.Module.__init__(self)
        # Hooks, settings and children, too.
        self.__dict__.update(module.__dict__)


class InPrecision(InPlaceOf):
    """Computes in `precision`; the output has the type of the input."""

    def __init__(self, module: nn.Module, precision: Precision):
        super().__init__(module)
        self.precision = precision

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        forward: Any = super().forward
        with self.precision.autocast():
            output: torch.Tensor = forward(self.precision.input(x) if x.dim() == 4 else x)
        return output.to(x.dtype)
