"""Weights that carry their conventions: files, the card inside them, names, counted transfer."""

from resdet.weights.card import Card, Input
from resdet.weights.files import load, save, sha256_of
from resdet.weights.names import torchvision_names
from resdet.weights.transfer import Transfer, transfer

__all__ = [
    "Card",
    "Input",
    "Transfer",
    "load",
    "save",
    "sha256_of",
    "torchvision_names",
    "transfer",
]
