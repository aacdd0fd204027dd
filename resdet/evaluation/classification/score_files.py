"""A classifier's scores on every image of a set, as a file: what an ensemble and a submission need.

The file is a zip of arrays as `numpy.savez` writes it, uncompressed and never pickled:

    log_probabilities  (N, K) float32, natural logarithms
    labels             (N,) int64, places among the classes; -1 where the class is not known
    header             JSON as bytes: images, classes, data set, net, protocol, SHA-256 of the rest

Logarithms, so that classes far behind keep their order: a probability of 1e-60 is 0 in float32.

Not for: how the scores were made (`resdet.pretrain.protocols`).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from resdet import bounded_files
from resdet.atomic import atomic_path
from resdet.errors import DataError, first_few
from resdet.evaluation.inputs.arrays import IntArray

SUFFIX = ".npz"
VERSION = 1
_ARRAYS = ("log_probabilities", "labels", "header")
UNKNOWN = -1


@dataclass(frozen=True)
class ClassScores:
    """What a classifier gave on a set.

    Attributes:
        log_probabilities: (N, K) float32, of each image and class.
        labels: (N,) int64, places in `classes`; -1 where the class is not known.
        images: N names, unique, in the order of the set.
        classes: K names, in the order of the net's outputs.
        data_set: its name, and `data_hash` as the set itself has it.
        net: what gave the scores: name, file, digest of its tensors.
        protocol: kind, sizes, averages (`ViewProtocol.to_dict`).
        members: of an ensemble, the `net` and `protocol` of each.
    """

    log_probabilities: np.ndarray
    labels: IntArray
    images: tuple[str, ...]
    classes: tuple[str, ...]
    data_set: str
    data_hash: str
    net: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    members: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_labels(self) -> bool:
        """Whether the class of every image is known, so that there are errors to count."""
        return len(self.labels) > 0 and bool((self.labels >= 0).all())

    def header(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "images": list(self.images),
            "classes": list(self.classes),
            "data_set": self.data_set,
            "data_hash": self.data_hash,
            "net": dict(self.net),
            "protocol": dict(self.protocol),
            "members": [dict(member) for member in self.members],
        }


def save_scores(path: Path | str, scores: ClassScores) -> None:
    """Writes the file whole or not at all.

    Raises:
        ValueError: the arrays do not fit each other; states both sizes.
    """
    if fault := _fault(scores):
        raise ValueError(f"{fault}; nothing was written to {path}")
    header = scores.header()
    header["sha256"] = _digest(header, scores.log_probabilities, scores.labels)
    text = json.dumps(header, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            log_probabilities=np.ascontiguousarray(scores.log_probabilities, dtype=np.float32),
            labels=np.ascontiguousarray(scores.labels, dtype=np.int64),
            header=np.frombuffer(text.encode("utf-8", "surrogateescape"), dtype=np.uint8),
        )


def load_scores(path: Path | str) -> ClassScores:
    """The scores in a file, compared with the SHA-256 that was written with them.

    Raises:
        DataError: there is no such file, it is no file of scores, or it has changed since.
    """
    path = Path(path)
    try:
        arrays = _arrays(path)
        header = json.loads(arrays["header"].tobytes().decode("utf-8", "surrogateescape"))
        stated = header.pop("sha256")
        scores = ClassScores(
            arrays["log_probabilities"],
            arrays["labels"],
            tuple(header["images"]),
            tuple(header["classes"]),
            header["data_set"],
            header["data_hash"],
            header["net"],
            header["protocol"],
            header["members"],
        )
        version = int(header["version"])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Give a file of scores, *{SUFFIX}.") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError,
            MemoryError, zipfile.BadZipFile, zipfile.LargeZipFile,
            NotImplementedError) as error:  # fmt: skip
        raise DataError(
            f"{path} cannot be read as a file of scores ({error}). Remove it and score again: "
            "resdet evaluate cls."
        ) from None
    if version > VERSION:
        raise DataError(
            f"{path} has version {version}, this resdet reads {VERSION}. Update resdet."
        )
    fault = _fault(scores)
    if not fault and stated != _digest(header, scores.log_probabilities, scores.labels):
        fault = "its content does not match the SHA-256 in it"
    if fault:
        raise DataError(
            f"{path} is damaged: {fault}. Remove it and score again: resdet evaluate cls."
        )
    return scores


def title_in(path: Path | str) -> tuple[str, str]:
    """What gave the scores in a file, and a short name of the protocol; reads no scores.

    For tables; "" where one is not stated.

    Raises:
        DataError: as `load_scores`.
    """
    header = header_in(path)
    title, protocol = header["net"].get("title"), header["protocol"].get("tag")
    return str(title or ""), str(protocol or "")


def header_in(path: Path | str) -> dict[str, Any]:
    """The header of a file, `ClassScores.header` and its SHA-256; nothing is compared with it.

    Raises:
        DataError: as `load_scores`.
    """
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes().decode("utf-8", "surrogateescape"))
        if not all(isinstance(header[key], dict) for key in ("net", "protocol")):
            raise ValueError("its header does not state net and protocol")
        return dict(header)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError,
            MemoryError, zipfile.BadZipFile, NotImplementedError) as error:  # fmt: skip
        raise DataError(
            f"{path} cannot be read as a file of scores ({error}). Remove it and score again: "
            "resdet evaluate cls."
        ) from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The three arrays; raises as `_check_members`, and as numpy for a damaged one."""
    _check_members(path)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in _ARRAYS}


def _check_members(path: Path | str) -> None:
    """Raises ValueError for other arrays than the three, and for one that unpacks to more."""
    with bounded_files.open_file(path) as file, zipfile.ZipFile(file) as archive:
        names = sorted(info.filename for info in archive.infolist())
        if names != sorted(f"{name}.npy" for name in _ARRAYS):
            raise ValueError(f"it holds {', '.join(names[:5]) or 'nothing'}")
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("it is compressed")


def _fault(scores: ClassScores) -> str:
    """ "" where all parts fit each other; else what does not."""
    values, labels = scores.log_probabilities, scores.labels
    expected = (len(scores.images), len(scores.classes))
    if values.shape != expected or not np.issubdtype(values.dtype, np.floating):
        return f"log_probabilities are {values.dtype} {values.shape}, expected {expected}"
    if labels.shape != expected[:1] or not np.issubdtype(labels.dtype, np.integer):
        return f"labels are {labels.dtype} {labels.shape}, expected {expected[:1]}"
    if len(labels) and not UNKNOWN <= labels.min() <= labels.max() < expected[1]:
        return f"labels go from {labels.min()} to {labels.max()}, expected -1 to {expected[1] - 1}"
    if len(set(scores.images)) < expected[0]:
        return f"{expected[0] - len(set(scores.images))} of {expected[0]} image names come again"
    if len(set(scores.classes)) < expected[1]:
        return f"{expected[1] - len(set(scores.classes))} of {expected[1]} classes come again"
    # A sum costs a tenth of isnan().any(), and is NaN where one value is.
    if np.isnan(values.sum(dtype=np.float64)) or (len(labels) and values.max() > 1e-3):
        return "log_probabilities are not all numbers of 0 or less"
    return ""


def _digest(header: Mapping[str, Any], values: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    digest.update(np.ascontiguousarray(labels, dtype=np.int64).data)
    digest.update(np.ascontiguousarray(values, dtype=np.float32).data)
    return digest.hexdigest()


# -- ensembles ----------------------------------------------------------------------------------


def ensemble(members: Iterable[ClassScores]) -> ClassScores:
    """The mean of the members' probabilities, each with the same weight; one at a time is held.

    One member alone comes back with its own numbers, to the bit.

    Raises:
        DataError: two members are of other images, labels or classes; names both and the first.
        ValueError: there is no member.

    Source: Simonyan, Zisserman 2014, section 4.4: soft-max class posteriors are averaged. He et
        al. 2015 do not state what the ensemble of table 5 averages.
    """
    first: ClassScores | None = None
    total = np.empty(0)
    parts: list[dict[str, Any]] = []
    count = 0
    for scores in members:
        count += 1
        if first is None:
            total = scores.log_probabilities.astype(np.float64)
            # Names alone are compared from here on.
            first = replace(scores, log_probabilities=scores.log_probabilities[:0].copy())
        else:
            require_same_images(first, scores)
            np.logaddexp(total, scores.log_probabilities, out=total)
        parts += [dict(m) for m in scores.members] or [
            {"net": dict(scores.net), "protocol": dict(scores.protocol)}
        ]
    if first is None:
        raise ValueError("an ensemble of no members")
    total -= np.log(count)
    return replace(
        first,
        log_probabilities=total.astype(np.float32),
        net={"name": f"ensemble of {count}"},
        protocol={"kind": "ensemble", "average": "probabilities"},
        members=tuple(parts),
    )


def require_same_images(first: ClassScores, other: ClassScores) -> None:
    """Raises DataError where two files are of other images, labels or classes; names the first."""
    one, two = _title(first), _title(other)
    if first.images != other.images:
        mine, theirs = set(first.images), set(other.images)
        only_first = [name for name in first.images if name not in theirs]
        only_other = [name for name in other.images if name not in mine]
        lines = [f"only in {one}: {name}" for name in only_first]
        lines += [f"only in {two}: {name}" for name in only_other]
        if not lines:
            place = next(
                i for i, pair in enumerate(zip(first.images, other.images, strict=True))
                if pair[0] != pair[1]
            )  # fmt: skip
            lines = [f"image {place} is {first.images[place]} in one, {other.images[place]} in "
                     "the other: another order"]  # fmt: skip
        raise DataError(
            f"{one} has {len(first):,} images and {two} {len(other):,}, and they are not the "
            f"same:\n{first_few(lines, 5)}\nScore both on one set."
        )
    if first.classes != other.classes:
        lines = [
            f"class {i} is {a} in {one}, {b} in {two}"
            for i, (a, b) in enumerate(zip(first.classes, other.classes, strict=False))
            if a != b
        ]
        raise DataError(
            f"{one} has {len(first.classes):,} classes and {two} {len(other.classes):,}, and they "
            f"are not the same in the same order:\n{first_few(lines, 5)}\n"
            "Only classifiers of one list of classes can be compared: --classes FILE states it."
        )
    if first.data_hash != other.data_hash or not np.array_equal(first.labels, other.labels):
        raise DataError(
            f"{one} and {two} have images of the same names, but of other contents or labels "
            f"({first.data_set}, hash {first.data_hash[:12]}; {other.data_set}, hash "
            f"{other.data_hash[:12]}). Score both on one set."
        )


def _title(scores: ClassScores) -> str:
    return str(scores.net.get("title") or scores.net.get("name") or "the scores")
