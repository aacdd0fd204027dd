"""Any weight file to plain tensors: what it is, by its first bytes, and nothing in it is run.

    safetensors   ours, timm's, Hugging Face's
    torch         .pth, .pt, .th, .pyth: a zip archive, or the format before torch 1.6
    pickle        .pkl of Detectron and Detectron2: numpy arrays and plain containers
    npz           numpy's archive of arrays

Names for files are only names; the first bytes decide (`docs/faults.md` F23 to F25).

Not for: what trainers put around the tensors (`wrappers`), or what the names mean
(`native_names`, `origins`).
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from resdet.errors import WeightsError
from resdet.formats import foreign
from resdet.run import layout
from resdet.weights.cards import CARD_KEY
from resdet.weights.formats import pickles
from resdet.weights.formats.contents import MAX_INFLATION, Contents
from resdet.weights.formats.wrappers import unwrap

# A torch file before 1.6 opens with its magic number as a pickle.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Longer than any header of JSON, shorter than eight bytes of text make when read as a number.
MAX_HEADER = 2**48
_HDF5 = b"\x89HDF"
# What trainers keep beside the tensors that is no code: our stand-ins under their names.
HARMLESS = tuple(
    (stand_in, f"{module}.{name}")
    for (module, name), stand_in in pickles.ALLOWED.items()
    if name in ("Namespace", "scalar", "dtype", "encode")
)


def read(path: Path | str, *, part: str | None = None) -> Contents:
    """The tensors of a file, whatever it is.

    Args:
        part: which tensors, where the rules would take others or none: a key that holds them
            ("model_ema"), a prefix of their names ("encoder_q."), or both ("teacher/backbone.");
            "." is what lies at the top.

    Raises:
        WeightsError: the file is missing, damaged, not weights, or needs to run code; states
            which and what to do. Nothing in it was run.
    """
    path = Path(path)
    container = container_of(path)
    contents, metadata = _READERS[container](path)
    if CARD_KEY in metadata:
        # Ours: the names are what the card's net has, whatever they start with.
        if part:
            raise WeightsError(f"{path} has its card inside: it is one net. Leave the part out.")
        return Contents(dict(contents), container, metadata=metadata)
    return unwrap(contents, container, metadata, path, part)


def container_of(path: Path) -> str:
    """The kind of a file by its first bytes, a key of `_READERS`; raises as `read` (F24)."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist. Name a weight file that does.")
    if path.is_dir():
        inside = path / layout.CLASSIFIER
        hint = f" Did you mean {inside}?" if inside.exists() else ""
        raise WeightsError(f"{path} is a folder, expected a weight file.{hint}")
    if not path.is_file():
        raise WeightsError(f"{path} is a pipe, a socket or a device. Name a weight file.")
    size = path.stat().st_size
    with open(path, "rb") as f:
        head = f.read(foreign.HEAD_BYTES)
    if foreign.is_foreign(head, size):
        raise WeightsError(f"{path} {foreign.describe(head, size, expected='weights')}")
    # First: the length of a header may look like any other format's first bytes.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < MAX_HEADER:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return _container_of_zip(path)
    if head.startswith(_LEGACY):
        return "torch (before 1.6)"
    # Protocol 0, Python 2's, starts with the opcode of what it holds: a dict.
    if head.startswith((b"\x80", b"(dp")):
        return "pickle"
    known = "Give a .safetensors, .pth, .pkl or .npz file."
    if head.startswith(_HDF5):
        raise WeightsError(f"{path} is an HDF5 file, as Keras writes: not read by resdet. {known}")
    raise WeightsError(
        f"{path} starts with {head[:8]!r}: neither a safetensors, a torch, a pickle nor a numpy "
        f"file. {known}"
    )


def _container_of_zip(path: Path) -> str:
    """ "torch" or "npz", every member checked against its checksum and its size."""
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path} is cut off: {path.stat().st_size} bytes without the end of the archive. "
            "Fetch it again."
        )
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:
        raise WeightsError(f"{path} is damaged: {error}. Fetch it again.") from None
    with archive:
        members = archive.infolist()
        claimed = sum(m.file_size for m in members)
        # Torch stores without compression; a numpy archive may be compressed.
        if claimed > MAX_INFLATION * path.stat().st_size:
            raise WeightsError(
                f"{path} would unpack to {claimed:,} bytes from {path.stat().st_size:,}: no "
                "weights shrink like that. It was not unpacked."
            )
        try:
            broken = archive.testzip()
        # Flipped bytes, encryption, unknown compression: the reader raises various errors.
        except Exception as error:
            broken = f"a member ({error})"
    if broken:
        raise WeightsError(
            f"{path} is damaged: {broken} inside fails its checksum. Fetch it again."
        )
    names = [m.filename for m in members]
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise WeightsError(
            f"{path} is a TorchScript program, not weights; it was not run. Where you trust it: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')."
        )
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "torch"
    raise WeightsError(
        f"{path} is a zip archive without weights (it holds {', '.join(names[:3]) or 'nothing'}). "
        "Unpack it and give the weight file inside."
    )


def _read_safetensors(path: Path) -> tuple[Any, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}, f.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path} is cut off or damaged: {error}. Fetch it again.") from None


def _read_torch(path: Path) -> tuple[Any, dict[str, str]]:
    try:
        # weights_only: the file may hold tensors and plain containers, never code (F23).
        with torch.serialization.safe_globals(list(HARMLESS)):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refused(path, _name_in(str(error)))) from None
    # A damaged file makes its reader fail in many ways.
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is cut off or damaged: {first}. Fetch it again.") from None
    return loaded, {}


def _name_in(message: str) -> str:
    """What torch's reader was asked for, out of its message."""
    for marker in ("GLOBAL ", "Unsupported class "):
        if marker in message:
            return message.split(marker)[1].split()[0].strip(".,")
    return "code"


def _refused(path: Path, expected: str) -> str:
    whole = expected.startswith(("torch.nn.", "torchvision.", "timm.", "models.", "__main__."))
    what = "holds a Python object" if whole else "asks to call"
    return (
        f"{path} {what} ({expected}): that is a program, not plain tensors; it was not run. "
        "Where you trust it: torch.save(model.state_dict(), 'weights.pth')."
    )


def _read_pickle(path: Path) -> tuple[Any, dict[str, str]]:
    try:
        with open(path, "rb") as f:
            return pickles.load(f), {}
    except pickles.NotPlainError as error:
        raise WeightsError(_refused(path, error.expected)) from None
    # A damaged pickle makes its reader fail in many ways.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError(f"{path} is cut off or damaged ({reason}). Fetch it again.") from None


def _read_npz(path: Path) -> tuple[Any, dict[str, str]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}, {}
    # A false header makes numpy's reader fail in many ways.
    except Exception as error:
        if isinstance(error, ValueError) and "pickle" in str(error).lower():
            raise WeightsError(_refused(path, "a numpy array of Python objects")) from None
        raise WeightsError(f"{path} is cut off or damaged: {error}. Fetch it again.") from None


_READERS: dict[str, Callable[[Path], tuple[Any, dict[str, str]]]] = {
    "safetensors": _read_safetensors,
    "torch": _read_torch,
    "torch (before 1.6)": _read_torch,
    "pickle": _read_pickle,
    "npz": _read_npz,
}
