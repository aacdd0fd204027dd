"""A training goes on with the data that it began with: hashes in run.json, held against a resume.

Not for: what a hash covers (`resdet.data.records`), or whether two runs had the same data (report).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from resdet import bounded_files
from resdet.errors import DataError, RunError
from resdet.run.folder import Run

logger = logging.getLogger("resdet.engine.data_hashes")


# Of so many files the size counts, and so many are read whole; spread evenly over the set. Every
# process does it at every start, be the set a million files on a shared disk.
SIZED_FILES, READ_FILES = 8_192, 64


def hash_of_files(count: int, name_of: Callable[[int], str]) -> str:
    """SHA-256 over the sizes of files, in their order, and the content of a few of them.

    Their names are in a set's own hash. A file that is not there counts as one of another size.

    Args:
        count: of the files in the set.
        name_of: the path of one, by its place.
    """

    def read(place: int) -> bytes:
        return bounded_files.read_bytes(name_of(place))

    return hash_of_contents(count, lambda place: os.stat(name_of(place)).st_size, read)


def hash_of_contents(
    count: int, size_of: Callable[[int], int], read: Callable[[int], bytes]
) -> str:
    """The same of images that are no files, such as those in shards; one that cannot be read
    counts as one of another size.

    Args:
        size_of, read: bytes of one, by its place.
    """
    digest = hashlib.sha256()
    sized = _spread(count, SIZED_FILES)
    whole = {sized[i] for i in _spread(len(sized), READ_FILES)}
    for place in sized:
        try:
            digest.update(f"{size_of(place)}\n".encode())
            if place in whole:
                digest.update(hashlib.sha256(read(place)).digest())
        except (OSError, DataError):
            digest.update(b"none\n")
    return digest.hexdigest()


def _spread(count: int, most: int) -> list[int]:
    """At most so many of `count` places, from the first to the last; all where there are fewer."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def hold_against(run: Run, sets: Sequence[Mapping[str, Any]], *, changed_allowed: bool) -> None:
    """Compares the training sets with those of run.json, if a training wrote some.

    Args:
        sets: "name", "hash", "images" (their number) and "files" (`hash_of_files`) of each;
            "mask_hash" where masks train.
        changed_allowed: ENGINE.ALLOW_CHANGED_DATA: a difference is a warning, and is recorded.

    Raises:
        RunError: a set is not what it was.
    """
    before = run.info.get("train_sets")
    if not before:
        return
    was, now = ({s["name"]: s for s in side} for side in (before, sets))
    changes = [_change(name, was.get(name), now.get(name)) for name in {**was, **now}]
    changes = [text for text in changes if text]
    if not changes:
        return
    if not changed_allowed:
        raise RunError(
            f"resume of {run.path}: {'; '.join(changes)}. Images, sizes or annotations are not "
            "those that the training began with. Restore them, start a new run with another "
            "--output, or go on all the same: ENGINE.ALLOW_CHANGED_DATA True."
        )
    logger.warning("%s: %s", run.path, "; ".join(changes))
    run.update(data_changes=[*run.info.get("data_changes", []), *changes])


def _change(name: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    if before is None or now is None:
        return f"{name} was {'not there' if before is None else 'there'} at the start"
    if before["hash"] == now["hash"]:
        if before.get("mask_hash", "") != now.get("mask_hash", ""):
            return f"{name} has the same boxes, but other masks"
        # "files" is newer than some runs.
        if before.get("files", now.get("files")) == now.get("files"):
            return ""
        return f"{name} has the same names and annotations, but other image files"
    if before["images"] != now["images"]:
        return f"{name} had {before['images']:,} images, and has {now['images']:,}"
    return f"{name} has the hash {now['hash'][:12]}, it had {before['hash'][:12]}"
