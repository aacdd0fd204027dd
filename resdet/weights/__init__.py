"""Weights and their conventions: files, the card inside them, names, counted transfer."""

from resdet.weights.cards import Card, Input
from resdet.weights.files import load, read, save
from resdet.weights.predictors import Heads
from resdet.weights.predictors import fit as fit_heads
from resdet.weights.tensor_checks import sha256_of
from resdet.weights.transfer import Transfer, transfer

__all__ = [
    "Card",
    "Heads",
    "Input",
    "Transfer",
    "fit_heads",
    "load",
    "read",
    "save",
    "sha256_of",
    "transfer",
]
