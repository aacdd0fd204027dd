"""Weight files as the toolkit sees them: tensors under our names, and their card.

Ours are safetensors with the card inside. Writing is atomic, and the card holds a SHA-256 over
all tensors that reading checks.

Not for: what kind of file it is (`formats`), whose it is (`origins`), or putting tensors into a
net (`transfer`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from resdet.errors import WeightsError
from resdet.run import atomic_path
from resdet.weights.card import CARD_KEY, Card
from resdet.weights.foreign_cards import card_beside, card_of, part_of
from resdet.weights.formats import containers
from resdet.weights.formats.containers import Contents, Tensors
from resdet.weights.origins import native_names
from resdet.weights.origins.identify import identify


def sha256_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(
            f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(errors="surrogatepass")
        )
        # view as bytes: numpy knows no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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

    A file of another origin is renamed by that origin's explicit table. Its card is the one that
    lies beside it, or says `verified=False`: its conventions are the origin's habits.

    Raises:
        WeightsError: the file is missing, damaged, not weights, or of an origin that cannot be
            told; values are not finite; the tensors do not match the card's SHA-256; nothing
            says how the input must look.
    """
    contents = read(path, part or part_of(path))
    tensors, metadata = contents.tensors, contents.metadata
    if CARD_KEY not in metadata:
        digest = sha256_of(tensors)
        if named := native_names.known(Path(path), contents, digest):
            return named
        found = identify(contents, str(path), card_beside(path))
        return found.tensors, card_of(Path(path), contents, found, digest)
    card = Card.from_json(metadata[CARD_KEY], str(path))
    if card.tensors_sha256 != sha256_of(tensors):
        raise WeightsError(
            f"{path} is damaged: its tensors do not match the SHA-256 in its card. "
            "Fetch or train it again."
        )
    return tensors, card


def read_tensors(path: Path | str) -> Tensors:
    """The tensors of a file under the names that they have there; raises as `load`."""
    return read(path).tensors


def read(path: Path | str, part: str | None = None) -> Contents:
    """What a file holds, under its own names, all values finite; raises as `load`."""
    contents = containers.read(path, part=part)
    refuse_not_finite(contents.tensors, str(path))
    return contents


def refuse_not_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Raises WeightsError for the first tensor with a NaN or infinite value (F25)."""
    if problems := not_finite(tensors, where):
        raise WeightsError(problems[0])


def not_finite(tensors: Mapping[str, torch.Tensor], where: str) -> list[str]:
    """One sentence per tensor that holds NaN or infinite values: how many, where the first is."""
    problems = []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        # torch asks no float of one byte whether it is finite.
        try:
            bad = ~torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float())
        except (RuntimeError, NotImplementedError):
            dtype = str(tensor.dtype).removeprefix("torch.")
            problems.append(f"{where}, {name}: {dtype} is no type that torch can compute with.")
            continue
        if bad.any():
            first = int(bad.reshape(-1).nonzero()[0])
            # 65,504 is the largest float16: what was larger became infinite at saving.
            hint = " The range of float16 was exceeded at saving." if _half(tensor) else ""
            problems.append(
                f"{where}, {name}: {int(bad.sum())} of {tensor.numel()} values are not finite "
                f"(first: index {first}).{hint} The file is spoiled; train or fetch it again."
            )
    return problems


def _half(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float16 and bool(tensor.isinf().any())
