"""An index of class folders, so that a second start need not list a million files.

Kept in the user's cache folder and used only while the root and every class folder are as they
were: a file that came, went or was renamed changes its folder. Of up to `MAX_STATS` images each is
looked at as well (size, time, inode), of more only the first, middle and last of every class: one
that was written over in place, alone among a million, is not noticed at the start.

Not for: listing folders (`class_folders`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resdet.data.array_cache import ArrayCache
from resdet.data.options import DataOptions
from resdet.data.readers.listed_files import native, portable
from resdet.data.serialized import TextList

MAX_STATS = 60_000


class Indexed(NamedTuple):
    """What the index has of a set; as `ClassificationSet` has it."""

    classes: tuple[str, ...]
    files: TextList
    labels: np.ndarray
    hash: str
    counts: dict[str, int]
    notes: tuple[str, ...]


class FolderIndex:
    """The index of one root, read by one set of options."""

    def __init__(self, root: Path, options: DataOptions):
        self.root = root
        reading = (options.exif, options.sixteen_bit, options.alpha_over, options.max_pixels)
        depends_on = {
            "root": portable(str(root)),
            "reading": repr((reading, options.check_images)),
        }
        self.cache = ArrayCache("class_folders", str(root), depends_on, is_used=options.cache)

    def read(self) -> Indexed | None:
        """What was found the last time; None where something may have changed."""
        found = self.cache.read()
        if found is None:
            return None
        head, arrays = found
        indexed = Indexed(
            tuple(head["classes"]),
            TextList.of(arrays["files"], arrays["ends"]),
            arrays["labels"],
            head["hash"],
            head["counts"],
            tuple(head["notes"]),
        )
        return indexed if self.cache.is_current(self._watched(indexed), arrays) else None

    def write(self, found: Indexed) -> None:
        head = {
            "classes": list(found.classes),
            "hash": found.hash,
            "counts": dict(found.counts),
            "notes": list(found.notes),
        }
        text, ends = found.files.parts()
        arrays = {"files": text, "ends": ends, "labels": found.labels}
        self.cache.write(self._watched(found), head, arrays)

    def _watched(self, found: Indexed) -> list[str]:
        folders = (os.path.join(self.root, native(name)) for name in found.classes)
        places = _watched_files(found.labels, len(found.classes))
        return [str(self.root), *folders, *(found.files[i] for i in places)]


def _watched_files(labels: np.ndarray, num_classes: int) -> Any:
    """Places of the files that are looked at: all of a small set, three of each class of others."""
    if len(labels) <= MAX_STATS:
        return range(len(labels))
    first = np.searchsorted(labels, np.arange(num_classes))
    last = np.searchsorted(labels, np.arange(num_classes), side="right") - 1
    return np.unique(np.concatenate([first, (first + last) // 2, last])).tolist()
