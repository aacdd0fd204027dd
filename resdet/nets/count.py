"""Parameters and multiply-adds of a net, counted from the module itself.

The usual rule: every learnable value counts; BN statistics do not. A multiply-add
is one product: k*k*c_in*c_out*h_out*w_out of a convolution, c_in*c_out of a linear layer;
biases, norms, ReLU, pooling and additions are 0, projections count.

Not for: time. Two nets of equal count can differ twofold in seconds.
"""

from __future__ import annotations

import torch
from torch import nn


def parameters(net: nn.Module) -> int:
    """Number of learnable values."""
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, height: int = 224, width: int | None = None) -> int:
    """Multiply-adds of one forward pass on one 3 x height x width image.

    Counts by hooks, on the device of the net; nothing is computed for a net on "meta".

    Example:
        >>> from resdet.nets import build
        >>> with torch.device("meta"):
        ...     net = build("resnet18")
        >>> multiply_adds(net)
        1814073344
    """
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            per_output = module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            per_output = module.in_features
        else:
            return
        total += per_output * output[0].numel()

    handles = [m.register_forward_hook(count) for m in net.modules()]
    parameter = next(net.parameters())
    image = torch.empty(
        1, 3, height, width or height, device=parameter.device, dtype=parameter.dtype
    )
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(image)
    finally:
        net.train(was_training)
        for handle in handles:
            handle.remove()
    return total
