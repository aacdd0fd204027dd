"""Architectures: residual, plain, VGG and CIFAR nets, and how much they cost. Needs torch alone."""

from resdet.nets.count import multiply_adds, parameters
from resdet.nets.net import Net, Stage
from resdet.nets.zoo import build, names

__all__ = ["Net", "Stage", "build", "multiply_adds", "names", "parameters"]
