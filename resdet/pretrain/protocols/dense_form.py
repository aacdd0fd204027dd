"""A classifier over images of any size: class scores at every position of its last map.

    residual, plain   the last linear layer as a 1x1 convolution behind the global pooling, which
                      is then over the larger map; or, for probabilities, behind averages over
                      windows of the map that an image of the net's own size has (7 x 7 at 224)
    VGG               fc6 as a 7x7 convolution, fc7 and the last layer as 1x1 convolutions
    others            as they are, where they take such an image: nets that end in global pooling

The net keeps its parameters: a weight matrix is only looked at as a convolution's.

Source: Sermanet et al. 2013 (OverFeat); Simonyan, Zisserman 2014, section 3.2.

Not for: sizes and averages over them (`scoring`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from resdet.engine.machine_limits import lacks_memory
from resdet.errors import ConfigError
from resdet.nets.resnet import ResNet
from resdet.nets.vgg import VGG


class DenseForm(nn.Module):
    """(N, 3, H, W) to (N, K): the class scores of all positions, averaged.

    Args:
        net: a classifier in evaluation mode.
        crop: side of the square image that the net takes, in pixels.
        average: "logits" averages logits, "probabilities" the softmax of each position; either
            way the logarithm of a probability is given.

    Raises:
        ConfigError: the net's positions are not known, as "probabilities" needs; or its map at
            `crop` is not the one that its fc6 takes.
    """

    def __init__(self, net: nn.Module, crop: int, average: str):
        super().__init__()
        self.net = net
        self.average = average
        self.window = 0
        if isinstance(net, VGG | ResNet):
            device = next(net.parameters()).device
            with torch.no_grad():
                cells = self._map(torch.zeros(1, 3, crop, crop, device=device)).shape[-1]
            self.window = cells
            if isinstance(net, VGG) and cells != net.pooled_size:
                raise ConfigError(
                    f"at {crop} x {crop} pixels the net's map has {cells} x {cells} cells, and its "
                    f"fc6 takes {net.pooled_size} x {net.pooled_size}: it is no convolution over "
                    "that map. Use --protocol centre or 10-crop."
                )
        elif average == "probabilities":
            raise ConfigError(
                "--average probabilities needs the class scores at each position, which are known "
                f"of resdet's own nets alone, not of a {type(net).__name__}. Leave it out."
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logarithms of probabilities, float64.

        Raises:
            ConfigError: the image is smaller than one position of VGG's, or the net takes no
                image of this size.
        """
        if not isinstance(self.net, VGG | ResNet) or (
            self.average == "logits" and isinstance(self.net, ResNet)
        ):
            # Global pooling over the larger map: the last layer is linear, so the mean of its
            # outputs at every cell is its output at the mean.
            return torch.log_softmax(self._whole(x).double(), dim=1)
        scores = self.score_map(x).flatten(2).double()
        if self.average == "logits":
            return torch.log_softmax(scores.mean(dim=2), dim=1)
        logs = torch.log_softmax(scores, dim=1)
        return torch.logsumexp(logs, dim=2) - math.log(logs.shape[2])

    def score_map(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K, H', W') logits: one position per window of the net's own size."""
        net, cells = self.net, self._map(x)
        if min(cells.shape[-2:]) < self.window:
            raise ConfigError(
                f"an image of {x.shape[-1]} x {x.shape[-2]} pixels has a map of "
                f"{cells.shape[-1]} x {cells.shape[-2]} cells, and the net needs {self.window} x "
                f"{self.window}: leave small values out of --sizes."
            )
        if isinstance(net, VGG):
            fc6 = net.fc6.weight.view(-1, cells.shape[1], self.window, self.window)
            cells = F.relu_(F.conv2d(cells, fc6, net.fc6.bias))
            cells = F.relu_(F.conv2d(cells, net.fc7.weight[..., None, None], net.fc7.bias))
        else:
            cells = F.avg_pool2d(cells, self.window, stride=1)
        last = net.linear
        assert isinstance(last, nn.Linear)
        return F.conv2d(cells, last.weight[..., None, None], last.bias)

    def _map(self, x: torch.Tensor) -> torch.Tensor:
        """The last map of one of our nets, pooled where fc6 follows."""
        net = self.net
        assert isinstance(net, VGG | ResNet)
        for stage in net.stages():
            x = net.get_submodule(stage.name)(x)
        return F.max_pool2d(x, 2) if isinstance(net, VGG) and net.last_pool.pools else x

    def _whole(self, x: torch.Tensor) -> torch.Tensor:
        try:
            logits: torch.Tensor = self.net(x)
        # Each net fails in its own way.
        except (RuntimeError, AssertionError, ValueError) as error:
            if lacks_memory(error):
                raise
            raise ConfigError(
                f"the net takes no image of {x.shape[-1]} x {x.shape[-2]} pixels "
                f"({str(error).splitlines()[0]}): it cannot be tested densely. Use --protocol "
                "centre or 10-crop."
            ) from None
        return logits
