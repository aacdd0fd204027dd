"""Architectures: residual, plain, VGG and CIFAR nets, and how much they cost. Needs torch alone.

Foreign nets join by three methods: timm's as `build("timm:NAME")`, a user's own by `register`.
"""

from resdet.nets.chain import Chain
from resdet.nets.count import multiply_adds, parameters
from resdet.nets.interface_check import check_interface, check_net
from resdet.nets.layer_counts import NetCounts, count_layers
from resdet.nets.net import Net, Stage
from resdet.nets.registry import register, registered
from resdet.nets.zoo import build, classes_in, last_layer, names

__all__ = [
    "Chain",
    "Net",
    "NetCounts",
    "Stage",
    "build",
    "check_interface",
    "check_net",
    "classes_in",
    "count_layers",
    "last_layer",
    "multiply_adds",
    "names",
    "parameters",
    "register",
    "registered",
]
