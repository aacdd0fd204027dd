"""An index of class folders, so that a second start need not list a million files.

Kept in the user's cache folder and used only while the root and every class folder are as they
were: a file that came, went or was renamed changes its folder. Of up to `MAX_STATS` images each is
looked at as well (size, time, inode), of more only the first, middle and last of every class: one
that was written over in place, alone among a million, is not noticed at the start.

Not for: listing folders (`class_folders`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resdet.data.array_cache import (
    are_equal,
    are_settled,
    code_version,
    path_of,
    read_arrays,
    stats_of,
    write_arrays,
)
from resdet.data.options import DataOptions
from resdet.data.readers.listed_files import native
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
        self.is_used = options.cache
        reading = (options.exif, options.sixteen_bit, options.alpha_over, options.max_pixels)
        self.head = {
            "version": code_version(),
            "root": os.fsencode(root).decode("utf-8", "surrogateescape"),
            "reading": repr((reading, options.check_images)),
        }
        self.began = time.time()
        self.path = path_of("class_folders", str(root))

    def read(self) -> Indexed | None:
        """What was found the last time; None where something may have changed."""
        found = read_arrays(self.path, self.head) if self.is_used else None
        if found is None:
            return None
        head, arrays = found
        classes = tuple(head["classes"])
        files = TextList.of(arrays["files"], arrays["ends"])
        watched = [files[i] for i in _watched(arrays["labels"], len(classes))]
        if not are_equal(self._folders(classes), arrays["folder_stats"]):
            return None
        if not are_equal(watched, arrays["file_stats"]):
            return None
        return Indexed(
            classes, files, arrays["labels"], head["hash"], head["counts"], tuple(head["notes"])
        )

    def write(self, found: Indexed) -> None:
        if not self.is_used:
            return
        try:
            folders = stats_of(self._folders(found.classes))
            watched = _watched(found.labels, len(found.classes))
            files = stats_of([found.files[i] for i in watched])
        except OSError:
            return
        if not (are_settled(folders, self.began) and are_settled(files, self.began)):
            return
        head = {
            **self.head,
            "classes": list(found.classes),
            "hash": found.hash,
            "counts": dict(found.counts),
            "notes": list(found.notes),
        }
        text, ends = found.files.parts()
        write_arrays(
            self.path,
            head,
            {
                "files": text, "ends": ends, "labels": found.labels,
                "folder_stats": folders, "file_stats": files,
            },
        )  # fmt: skip

    def _folders(self, classes: Sequence[str]) -> list[str]:
        return [str(self.root), *(os.path.join(self.root, native(c)) for c in classes)]


def _watched(labels: np.ndarray, num_classes: int) -> Any:
    """Places of the files that are looked at: all of a small set, three of each class of others."""
    if len(labels) <= MAX_STATS:
        return range(len(labels))
    first = np.searchsorted(labels, np.arange(num_classes))
    last = np.searchsorted(labels, np.arange(num_classes), side="right") - 1
    return np.unique(np.concatenate([first, (first + last) // 2, last])).tolist()
