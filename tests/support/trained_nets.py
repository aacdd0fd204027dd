"""Nets of torchvision with weights as trained ones have them, as far as the weight doctor looks."""

import torch
import torchvision

RED = torch.tensor([1.3, 1.5, 1.0])[None, :, None, None]


def resnet18(generator=0):
    """torchvision's, with more energy in red than in blue, as trained nets have."""
    torch.manual_seed(generator)
    net = torchvision.models.resnet18(num_classes=10)
    with torch.no_grad():
        net.conv1.weight.mul_(RED)
        for name, tensor in net.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_()
    return net
