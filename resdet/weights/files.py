"""Weight files as the toolkit sees them: tensors under our names, and their card.

Ours are safetensors with the card inside. Writing is atomic, and the card holds a SHA-256 over
all tensors that reading checks.

Not for: what kind of file it is (`formats`), whose it is (`origins`), or putting tensors into a
net (`transfer`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from resdet.run.folder import atomic_path
from resdet.weights.addresses.fetch import local_path
from resdet.weights.cards import CARD_KEY, Card
from resdet.weights.formats import containers
from resdet.weights.formats.contents import Contents, Tensors
from resdet.weights.resolve import WeightFile
from resdet.weights.tensor_checks import refuse_not_finite, sha256_of


def save(path: Path | str, tensors: Mapping[str, torch.Tensor], card: Card) -> Card:
    """Writes tensors under our names with their card; the card as written comes back.

    Raises:
        WeightsError: a tensor holds values that are not finite; names it.
    """
    refuse_not_finite(tensors, str(path))
    # Copies: tensors that share memory are written one by one.
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    card = dataclasses.replace(card, tensors_sha256=sha256_of(plain))
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"format": "pt", CARD_KEY: card.to_json()})
    return card


def load(path: Path | str, *, part: str | None = None) -> tuple[Tensors, Card]:
    """Tensors under our names, and their card.

    A file of another origin is renamed by that origin's explicit table. Its card is the one
    beside it, or has `verified=False`: its conventions are the origin's habits.

    Raises:
        WeightsError: the file is missing, damaged, not weights, or of an origin that cannot be
            told; values are not finite; the tensors do not match the card's SHA-256; the
            input format is not known.
    """
    return WeightFile(path, part).load()


def read_tensors(path: Path | str) -> Tensors:
    """The tensors of a file under the names that they have there; raises as `load`."""
    return read(path).tensors


def read(path: Path | str, part: str | None = None) -> Contents:
    """What a file holds, under its own names, all values finite; raises as `load`."""
    contents = containers.read(local_path(path), part=part)
    refuse_not_finite(contents.tensors, str(path))
    return contents
