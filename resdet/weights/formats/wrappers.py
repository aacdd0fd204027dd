"""Tensors found in what trainers save: keys, averages, prefixes and encoders, taken off by rule.

What is taken off is reported; where two nets could be meant, the choice is the user's.

Not for: reading files (`containers`), or what the names mean (`native_names`, `origins`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resdet.errors import WeightsError
from resdet.weights.formats.contents import Contents, Tensors, refuse_claims, refuse_total

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


def unwrap(
    contents: Any, container: str, metadata: dict[str, str], path: Path, part: str | None
) -> Contents:
    """The tensors in what a container held, with all that trainers put around them taken off.

    Args:
        contents: the value of the file. path: of the file, in messages.
        part: as `containers.read` takes it.

    Raises:
        WeightsError: there are no tensors, or several nets; states what to choose by.
    """
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
    refuse_total(sum(v.nbytes for v in contents.values() if isinstance(v, np.ndarray)), path)
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
    refuse_claims(tensors, path)
    refuse_total(sum(t.nbytes for t in tensors.values()), path)
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
