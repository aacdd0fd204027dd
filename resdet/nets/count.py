"""Parameters and multiply-adds of a net, counted from the module itself.

The usual rule: every learnable value counts; BN statistics do not. A multiply-add is one product
(`layer_counts` states which).

Not for: time. Two nets of equal count can differ twofold in seconds.
"""

from __future__ import annotations

from torch import nn

from resdet.nets.layer_counts import count_layers


def parameters(net: nn.Module) -> int:
    """Number of learnable values."""
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, height: int = 224, width: int | None = None) -> int:
    """Multiply-adds of one forward pass on one 3 x height x width image.

    On the device of the net; nothing is computed for a net on "meta".

    Raises:
        ValueError: the net takes no such image.

    Example:
        >>> import torch
        >>> from resdet.nets import build
        >>> with torch.device("meta"):
        ...     net = build("resnet18")
        >>> multiply_adds(net)
        1814073344
    """
    return count_layers(net, height, width).multiply_adds
