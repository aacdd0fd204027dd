"""Any weight file to plain tensors: what it is, by its first bytes, and nothing in it is run.

    safetensors   ours, timm's, Hugging Face's
    torch         .pth, .pt, .th, .pyth: a zip archive, or the format before torch 1.6
    pickle        .pkl of Detectron and Detectron2: numpy arrays and plain containers
    npz           numpy's archive of arrays

Names for files are only names; the first bytes decide (`docs/faults.md` F23 to F25). Wrappers that
trainers put around the tensors are taken off by rule and reported. A file that claims more values
than it holds bytes is refused, so memory stays bounded by the file's size.

Not for: what the names mean (`native_names`, `origins`).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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

Tensors = dict[str, torch.Tensor]

# A torch file before 1.6 opens with its magic number as a pickle.
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Longer than any header of JSON, shorter than eight bytes of text make when read as a number.
MAX_HEADER = 2**48
_HDF5 = b"\x89HDF"
# Where trainers keep the tensors, in the order in which they are looked for.
WRAPPERS = (
    "state_dict",
    "model_state",
    "model_state_dict",
    "model",
    "net",
    "blobs",
)
# Averages of weights over the training, where a file holds them beside the weights themselves.
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_state", "ema")
# Prefixes of every name: DDP, torch.compile, Lightning and the like.
PREFIXES = (
    "module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
    "model.",
    "net.",
    "network.",
    "encoder.",
)
# Those that also wrap modules inside the net: FSDP, activation checkpoints, torch.compile.
_INSIDE = re.compile(r"(?<=\.)(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
# `part` for what lies at the top, when something beside it could be taken for a piece of the net.
TOP = "."
# What trainers keep beside the tensors that is no code: our stand-ins under their names.
HARMLESS = tuple(
    (stand_in, f"{module}.{name}")
    for (module, name), stand_in in pickles.ALLOWED.items()
    if name in ("Namespace", "scalar", "dtype", "encode")
)
# A wrapper's own tensors beside its one encoder (MoCo, MoCo v3, DINO, mmpretrain). Where a second
# encoder lies beside it, `origins.whole_nets` lists both: which is meant is not guessed.
ENCODERS = {
    "encoder_q.": ("queue",),
    "base_encoder.": ("predictor.",),
    "backbone.": ("head.", "neck.", "decode_head.", "auxiliary_head.", "data_preprocessor."),
}
# torch's averaged models count beside the net; MoCo puts its projection in the last layer's place.
COUNT_OF_AVERAGES = "n_averaged"
PROJECTION = ("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias")
# Parts inside parts that are looked into.
MAX_DEPTH = 4
# Numpy's compressed archive may hold so many bytes for each of its own.
MAX_INFLATION = 20


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        tensors: by the names that they have there, wrappers and common prefixes taken off.
        container: "safetensors", "torch", "torch (before 1.6)", "pickle" or "npz".
        wrappers: what was taken off, outermost first: keys, then prefixes with their dot.
        metadata: text in the header of a safetensors file.
        beside: plain values that lie beside the tensors (`epoch`, `arch`, `__author__`).
        left_aside: names of tensors that belong to something else (MoCo's key encoder).
        averages: keys under which averaged weights lie beside those read.
        key, part: what was asked for: the key, and the prefix of names or "."; "" without.
    """

    tensors: Tensors
    container: str
    wrappers: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    left_aside: tuple[str, ...] = ()
    averages: tuple[str, ...] = ()
    key: str = ""
    part: str = ""

    def full_names(self) -> Tensors:
        """The tensors with the prefixes that were taken off: a net may call itself `encoder`."""
        prefix = "".join(w for w in self.wrappers if w.endswith("."))
        return {f"{prefix}{n}": t for n, t in self.tensors.items()}


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
    refuse_address(path)
    path = Path(path)
    container = container_of(path)
    contents, metadata = _READERS[container](path)
    if CARD_KEY in metadata:
        # Ours: the names are what the card's net has, whatever they start with.
        if part:
            raise WeightsError(f"{path} has its card inside: it is one net. Leave the part out.")
        return Contents(dict(contents), container, metadata=metadata)
    return _unwrap(contents, container, metadata, path, part)


def refuse_address(path: Path | str) -> None:
    """Raises WeightsError for what is no path but an address."""
    # Path("https://host") prints one slash; a folder "a:", or a drive, is a path.
    if re.match(r"\w+://|(https?|ftp|file|s3|gs|hf|detectron2|torchvision|timm):/", str(path)):
        raise WeightsError(
            f"{path} is an address, and nothing is fetched. Download the file, and give its path."
        )


def container_of(path: Path) -> str:
    """The kind of a file by its first bytes, a key of `_READERS`; raises as `read` (F24)."""
    if not path.exists():
        raise WeightsError(f"{path} does not exist. Name a weight file that does.")
    if path.is_dir():
        inside = path / layout.CLASSIFIER
        hint = f" Did you mean {inside}?" if inside.exists() else ""
        raise WeightsError(f"{path} is a folder, expected a weight file.{hint}")
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


# -- wrappers --------------------------------------------------------------------------------


def _unwrap(
    contents: Any, container: str, metadata: dict[str, str], path: Path, part: str | None
) -> Contents:
    wrappers: list[str] = []
    beside: dict[str, Any] = {}
    averages: list[str] = []
    prefix = key_asked = ""
    if part and "/" in part and not (isinstance(contents, Mapping) and part in contents):
        part, _, prefix = part.rpartition("/")
    while isinstance(contents, Mapping) and len(wrappers) < MAX_DEPTH:
        averages += [k for k in AVERAGES if _holds_tensors(contents.get(k)) and k != part]
        keys = (part,) if part and part in contents else WRAPPERS
        key = next((k for k in keys if isinstance(contents.get(k), Mapping)), None)
        if key is None and not _has_tensors(contents) and averages and not wrappers:
            # A file of averages alone.
            key = averages.pop(0)
        if key is None:
            break
        if key != part:
            _refuse_twins(contents, key, path)
        beside |= _plain_values(contents)
        wrappers.append(key)
        if key == part:
            key_asked, part = key, None
        contents = contents[key]
    if not isinstance(contents, Mapping):
        raise WeightsError(f"{path} holds a {type(contents).__name__}, not a dict of tensors.")
    # Before anything is copied.
    _refuse_total(sum(v.nbytes for v in contents.values() if isinstance(v, np.ndarray)), path)
    tensors = {str(k): _tensor(v) for k, v in contents.items() if _is_array(v)}
    keys_here = list(dict.fromkeys([*wrappers, *averages]))
    if part and (prefix or not tensors):
        raise WeightsError(_no_part(path, part, keys_here, tensors))
    prefix = prefix or part or ""
    if not tensors:
        parts = [str(k) for k, v in contents.items() if _holds_tensors(v)]
        raise WeightsError(
            f"{path} holds its tensors in parts of other names: {', '.join(parts[:5])}. Choose "
            f"one: {how_to_choose(parts[:5])}"
            if parts
            else f"{path} holds no tensors (keys: "
            f"{', '.join(map(str, list(contents)[:5])) or 'none'})."
        )
    beside |= _plain_values(contents)
    _refuse_claims(tensors, path)
    _refuse_total(sum(t.nbytes for t in tensors.values()), path)
    stated: list[str] = []
    others: list[str] = []
    if prefix and prefix != TOP:
        found = _under(tensors, prefix)
        if found is None:
            raise WeightsError(_no_part(path, prefix, keys_here, tensors))
        tensors, stated, others = found
    tensors, prefixes, aside = _without_prefixes(tensors)
    return Contents(
        tensors,
        container,
        (*wrappers, *stated, *prefixes),
        metadata,
        beside,
        (*others, *aside),
        tuple(dict.fromkeys(a for a in averages if a not in wrappers)),
        key_asked,
        prefix,
    )


def _no_part(path: Path, part: str, keys: list[str], tensors: Tensors) -> str:
    """Keys and first prefixes that are there."""
    prefixes = dict.fromkeys(f"{n.partition('.')[0]}." for n in tensors if "." in n)
    there = [*keys, *prefixes]
    return (
        f"{path} has no part {part!r} with tensors; it has {', '.join(there[:8]) or 'no parts'}"
        f"{', …' if len(there) > 8 else ''}."
    )


def _refuse_twins(contents: Mapping[Any, Any], key: str, path: Path) -> None:
    """Two parts with the same names and shapes are two whole nets; averages are told by name."""
    chosen = _shapes(contents[key])
    twins = [
        str(k)
        for k, v in contents.items()
        if k not in (key, *AVERAGES) and isinstance(v, Mapping) and chosen and _shapes(v) == chosen
    ]
    if twins:
        raise WeightsError(
            f"{path} holds {len(twins) + 1} nets of the same names: {', '.join([key, *twins])}. "
            f"Which one is meant is not guessed: {how_to_choose([key, *twins])}"
        )


def _shapes(found: Any) -> dict[str, tuple[int, ...]]:
    return {str(k): tuple(v.shape) for k, v in found.items() if _is_array(v)}


def how_to_choose(parts: Sequence[str]) -> str:
    """What to type for each part, for every command that loads weights."""
    return (
        f"convert_weights takes {' or '.join(f'--part {p}' for p in parts)}; train_det and "
        f"pretrain_cls take {' or '.join(f'MODEL.WEIGHTS_PART {p}' for p in parts)}."
    )


def _under(tensors: Tensors, part: str) -> tuple[Tensors, list[str], list[str]] | None:
    """The tensors under a prefix, what was taken off, and the names of the others; or None.

    Prefixes that all names share may stand before it: `encoder_q.` is found under `module.`.
    """
    wanted = part if part.endswith(".") else f"{part}."
    taken: list[str] = []
    tensors = {_INSIDE.sub("", n): t for n, t in tensors.items()}
    while True:
        inside = {n[len(wanted) :]: t for n, t in tensors.items() if n.startswith(wanted)}
        if inside and "" not in inside:
            return inside, [*taken, wanted], [n for n in tensors if not n.startswith(wanted)]
        common = next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), None)
        if common is None or common in tensors:
            return None
        tensors = {n[len(common) :]: t for n, t in tensors.items()}
        taken.append(common)


def _is_array(value: Any) -> bool:
    # A number of numpy's own lies beside tensors in many pickles: it is no tensor of a net.
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiub" and value.dtype.itemsize <= 8
    return isinstance(value, torch.Tensor)


def _has_tensors(found: Mapping[Any, Any]) -> bool:
    return any(_is_array(v) for v in found.values())


def _holds_tensors(value: Any, depth: int = MAX_DEPTH) -> bool:
    return isinstance(value, Mapping) and (
        _has_tensors(value)
        or (depth > 0 and any(_holds_tensors(v, depth - 1) for v in list(value.values())[:100]))
    )


def _plain_values(found: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): v for k, v in found.items() if _is_plain(v)}


def _is_plain(value: Any) -> bool:
    """Numbers, text, and lists of text such as class names."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) for item in value)
    return isinstance(value, str | int | float | bool)


def _tensor(value: torch.Tensor | np.ndarray) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.detach()
    # torch takes the machine's byte order only, and needs a writable buffer.
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))


def _refuse_claims(tensors: Tensors, path: Path) -> None:
    """A tensor may be a view that repeats few bytes many times: such a file is refused (F24)."""
    for name, tensor in tensors.items():
        if not name.isprintable():
            # Printed as it is, it could contain control codes of the terminal.
            raise WeightsError(f"{path}: a tensor is called {name!r}: no name of a net.")
        if tensor.is_sparse or tensor.is_quantized or tensor.device.type == "meta":
            raise WeightsError(
                f"{path}, {name}: a {tensor.layout} tensor on {tensor.device.type}, expected plain "
                "numbers. Save the weights as dense float tensors."
            )
        claimed = tensor.numel() * tensor.element_size()
        held = tensor.untyped_storage().nbytes()
        if claimed > held:
            raise WeightsError(
                f"{path}, {name}: claims {tuple(tensor.shape)}, {claimed:,} bytes, and the file "
                f"holds {held:,} of them. It was not unpacked."
            )


def _refuse_total(total: int, path: Path) -> None:
    """Tensors that share memory count each time; tied weights are few."""
    if total > MAX_INFLATION * path.stat().st_size:
        raise WeightsError(
            f"{path}: its tensors claim {total:,} bytes in all, the file has "
            f"{path.stat().st_size:,}. It was not unpacked."
        )


def _without_prefixes(tensors: Tensors) -> tuple[Tensors, list[str], list[str]]:
    """Common prefixes taken off, the encoder that is meant alone; names of what was left aside."""
    taken: list[str] = []
    aside: list[str] = []
    while True:
        stray = PROJECTION if taken and taken[-1] in ENCODERS else (COUNT_OF_AVERAGES,)
        aside += [n for n in tensors if n in stray]
        tensors = {n: t for n, t in tensors.items() if n not in stray}
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), None)
        if prefix is None:
            prefix, others = _encoder_in(tensors)
            aside += others
            tensors = {n: t for n, t in tensors.items() if n not in set(others)}
        if prefix is None or any(n == prefix for n in tensors):
            break
        tensors = {n[len(prefix) :]: t for n, t in tensors.items()}
        taken.append(prefix)
    bare = {_INSIDE.sub("", n): t for n, t in tensors.items()}
    if bare.keys() != tensors.keys() and len(bare) == len(tensors):
        # Without its dot: it was not in front of all names.
        names = {m[1] for n in tensors for m in _INSIDE.finditer(n)}
        tensors, more, others = _without_prefixes(bare)
        return tensors, [*taken, *sorted(names), *more], [*aside, *others]
    return tensors, taken, aside


def _encoder_in(tensors: Tensors) -> tuple[str | None, list[str]]:
    """The prefix of the encoder that is meant, or None, and the names beside it."""
    for prefix, others in ENCODERS.items():
        beside = [n for n in tensors if n.startswith(others)]
        if any(n.startswith(prefix) for n in tensors) and all(
            n.startswith((prefix, *others)) for n in tensors
        ):
            return prefix, beside
    return None, []
