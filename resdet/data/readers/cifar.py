"""CIFAR-10 and CIFAR-100 from their binary files; nothing is unpickled.

A record is one label byte (CIFAR-100: coarse, then fine), then 1,024 bytes each of red, green and
blue, row by row. Files with fewer records than the published ones are read, and this is reported.

Not for: where sets lie (`catalog`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resdet import bounded_files
from resdet.data.checks.faults import Faults
from resdet.data.records import ClassificationSet
from resdet.errors import DataError
from resdet.formats import foreign

SIDE = 32
PIXELS = SIDE * SIDE * 3


@dataclass(frozen=True)
class Layout:
    """One of the two sets on disk; `label_bytes` precede the pixels, the last one counts."""

    folder: str
    files: dict[str, tuple[str, ...]]
    names_file: str
    num_classes: int
    label_bytes: int

    @property
    def record_bytes(self) -> int:
        return self.label_bytes + PIXELS


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin",
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        10,
        1,
    ),
    "cifar100": Layout(
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        "fine_label_names.txt",
        100,
        2,
    ),
}
# CIFAR-100's training images are 154 million.
MOST_BYTES = 1 << 30
PUBLISHED = {"train": 50_000, "test": 10_000}


def cifar_folder(root: Path, kind: str) -> Path:
    """The folder with the binary files, whether it lies in cifar/, cifar10/ or the root itself."""
    folder = LAYOUTS[kind].folder
    for parent in ("cifar", kind, "."):
        if (root / parent / folder).is_dir():
            return root / parent / folder
    return root / "cifar" / folder


def load_cifar(root: Path, kind: str, split: str) -> ClassificationSet:
    """`kind` "cifar10" or "cifar100", `split` "train" or "test".

    Raises:
        DataError: a file is missing, does not hold whole records, or has a label out of range.
    """
    layout = LAYOUTS[kind]
    folder = cifar_folder(root, kind)
    faults = Faults(f"{kind}_{split}", str(folder))
    names = _names(folder, layout)
    parts = [_records(folder / file, layout, faults) for file in layout.files[split]]
    faults.stop()
    records = np.concatenate(parts)
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    pixels = records[:, layout.label_bytes :].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    few = len(labels) < PUBLISHED[split]
    return ClassificationSet(
        name=f"{kind}_{split}",
        labels=labels,
        classes=names,
        images=np.ascontiguousarray(pixels),
        hash=hashlib.sha256(records.tobytes()).hexdigest(),
        counts={"images": len(labels), "classes": len(names)},
        notes=(
            (f"{len(labels):,} of the {PUBLISHED[split]:,} images of the published set",)
            if few
            else ()
        ),
    )


def _names(folder: Path, layout: Layout) -> tuple[str, ...]:
    path = folder / layout.names_file
    try:
        names = tuple(bounded_files.read_text(path).split())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error}"
        raise DataError(f"{path} cannot be read: {reason}. See datasets/README.md.") from None
    if len(names) != layout.num_classes:
        raise DataError(f"{path} has {len(names)} names, expected {layout.num_classes}.")
    return names


def _records(path: Path, layout: Layout, faults: Faults) -> np.ndarray:
    size = layout.record_bytes
    nothing = np.zeros((0, size), dtype=np.uint8)
    try:
        data = bounded_files.read_bytes(path, MOST_BYTES)
    except OSError as error:
        faults.add("files", f"{path} cannot be read: {error.strerror}")
        return nothing
    head = data[: foreign.HEAD_BYTES]
    if foreign.is_foreign(head, len(data)):
        description = foreign.describe(head, len(data), expected="CIFAR records")
        faults.add("files", f"{path} {description}")
        return nothing
    if len(data) % size:
        others = [k for k, other in LAYOUTS.items() if len(data) % other.record_bytes == 0]
        hint = f" (but of {others[0]}'s)" if others else ""
        faults.add(
            "files",
            f"{path.name} has {len(data):,} bytes, no whole number of records of {size:,}{hint}",
            fix="Fetch the binary version again; the python version has other files.",
        )
        return nothing
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
    for column in range(layout.label_bytes):
        last = layout.num_classes if column == layout.label_bytes - 1 else 20
        wrong = np.flatnonzero(records[:, column] >= last)
        if len(wrong):
            faults.add(
                "labels",
                f"{path.name}: record {wrong[0]} has label {records[wrong[0], column]}, expected 0 "
                f"to {last - 1}; {len(wrong):,} of {len(records):,} records are affected",
                fix="The file is damaged or of another set. Fetch it again.",
            )
    return records
