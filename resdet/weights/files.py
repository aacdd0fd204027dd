"""Weight files: ours (safetensors with a card inside), and torch files read without running code.

Every file is judged by its first bytes, never by its name (`faults.md` F23 to F25). Writing is
atomic, and the card holds a SHA-256 over all tensors that reading checks.

Not for: names and conventions of other origins (`names`), or putting tensors into a net
(`transfer`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from resdet.errors import WeightsError
from resdet.formats import foreign
from resdet.run import atomic_path
from resdet.weights.card import CARD_KEY, Card
from resdet.weights.names import identify

Tensors = dict[str, torch.Tensor]

# Wrappers that trainers put around a state dict, outermost first.
WRAPPERS = ("state_dict", "model_state", "model")


def sha256_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # view as bytes: numpy knows no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(path: Path | str, tensors: Mapping[str, torch.Tensor], card: Card) -> Card:
    """Writes tensors under our names with their card; the card as written comes back.

    Raises:
        WeightsError: a tensor holds values that are not finite; names it.
    """
    refuse_not_finite(tensors, str(path))
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    card = dataclasses.replace(card, tensors_sha256=sha256_of(plain))
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"format": "pt", CARD_KEY: card.to_json()})
    return card


def load(path: Path | str) -> tuple[Tensors, Card]:
    """Tensors under our names, and their card.

    A file of another origin is renamed by that origin's explicit table, and its card says
    `verified=False`: its conventions are the origin's habits.

    Raises:
        WeightsError: the file is missing, damaged, not weights, or of an origin that cannot be
            told; values are not finite; the tensors do not match the card's SHA-256.
    """
    tensors, metadata = _read(Path(path))
    if CARD_KEY not in metadata:
        return identify(tensors, str(path))
    card = Card.from_json(metadata[CARD_KEY], str(path))
    if card.tensors_sha256 != sha256_of(tensors):
        raise WeightsError(
            f"{path} is damaged: its tensors do not match the SHA-256 in its card. "
            "Fetch or train it again."
        )
    return tensors, card


def read_tensors(path: Path | str) -> Tensors:
    """The tensors of a file under the names that they have there; raises as `load`."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[Tensors, dict[str, str]]:
    if _kind_of(path) == "safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, metadata = _read_torch(path), {}
    refuse_not_finite(tensors, str(path))
    return tensors, metadata


def refuse_not_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Raises WeightsError for the first tensor with a NaN or infinite value (F25)."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        bad = ~torch.isfinite(tensor)
        if bad.any():
            first = int(bad.reshape(-1).nonzero()[0])
            raise WeightsError(
                f"{where}, {name}: {int(bad.sum())} of {tensor.numel()} values are not finite "
                f"(first: index {first}). The file is spoiled; train or fetch it again."
            )


def _kind_of(path: Path) -> str:
    """ "safetensors" or "torch", by the first bytes (F24)."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist. Give MODEL.WEIGHTS a file that does.")
    if path.is_dir():
        inside = path / "model.safetensors"
        hint = f" Did you mean {inside}?" if inside.exists() else ""
        raise WeightsError(f"{path} is a folder, expected a weight file.{hint}")
    size = path.stat().st_size
    with open(path, "rb") as f:
        head = f.read(foreign.HEAD_BYTES)
    if foreign.is_foreign(head, size):
        raise WeightsError(f"{path} {foreign.describe(head, size, wanted='weights')}")
    if head.startswith(b"PK\x03\x04"):
        return "torch"
    if head.startswith(b"\x80"):
        return "torch"
    if size > 8 and head[8:9] == b"{":
        return "safetensors"
    raise WeightsError(
        f"{path} starts with {head[:8]!r}: neither a safetensors nor a torch file. "
        "Give a .safetensors or .pth file."
    )


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}, f.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is cut off or damaged: {error}. Fetch it again.") from None


def _read_torch(path: Path) -> Tensors:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken:
            raise WeightsError(
                f"{path} is damaged: {broken} inside fails its checksum. Fetch it again."
            )
    elif path.read_bytes()[:2] == b"PK":
        raise WeightsError(
            f"{path} is cut off: {path.stat().st_size} bytes without the end of the archive. "
            "Fetch it again."
        )
    try:
        # weights_only: the file may hold tensors and plain containers, never code (F23).
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL" in str(error) else "code"
        raise WeightsError(
            f"{path} is not plain tensors: it wants to load {wanted}, which was not done. Where "
            "you trust it, save its state dict: torch.save(model.state_dict(), …)."
        ) from None
    except (RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} is cut off or damaged: {error}. Fetch it again.") from None
    return _unwrap(loaded, path)


def _unwrap(loaded: Any, path: Path) -> Tensors:
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}, not a dict of tensors.")
    tensors = {str(k): v for k, v in loaded.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no tensors (keys: {', '.join(map(str, list(loaded)[:5]))})."
        )
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: t for name, t in tensors.items()}
    return tensors
