"""Arrays about a large set, kept in the user's cache folder as one file without objects.

    head      JSON: what the arrays are about, and everything that they depend on
    arrays    by name, any type but objects, so that reading runs nothing

Nothing is used before the files and folders that it came from were looked at (`docs/faults.md`
F10). A cache folder that cannot be written only costs time.

Not for: facts about single files (`cache`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from resdet.atomic import atomic_path
from resdet.data.cache import SETTLED_SECONDS, cache_folder
from resdet.formats import foreign

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
_HEAD, _NAMES, _STATS = "head", "arrays", "stats"


@functools.cache
def code_version() -> str:
    """Of all code that reads data: another version may make something else of the same files."""
    digest = hashlib.sha1()
    for package in (Path(__file__).parent, Path(foreign.__file__).parent):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.read_bytes())
    return f"{digest.hexdigest()[:12]}, Pillow {PIL.__version__}"


class ArrayCache:
    """Arrays about one set, of one way to read it.

    Args:
        kind: a folder of its own in the cache.
        what: they are about, such as the path of a folder.
        depends_on: what else they follow from, in words that JSON has; the code is added.
        is_used: False reads and writes nothing.
    """

    def __init__(self, kind: str, what: str, depends_on: Mapping[str, Any], *, is_used: bool):
        self.path = path_of(kind, what)
        self.is_used = is_used
        self._expected = {"version": code_version(), **depends_on}
        self._began = time.time()

    def read(self) -> tuple[dict[str, Any], Arrays] | None:
        """Head and arrays as they were written; the caller asks `is_current` of what they name."""
        return read_arrays(self.path, self._expected) if self.is_used else None

    def is_current(self, watched: Sequence[str], arrays: Arrays) -> bool:
        """Whether the files and folders given to `write` are as they were, and no others."""
        return are_equal(watched, arrays[_STATS])

    def write(self, watched: Sequence[str], head: Mapping[str, Any], arrays: Arrays) -> None:
        """Keeps them, unless one of the files and folders changed since this object was made."""
        if not self.is_used:
            return
        try:
            stats = stats_of(watched)
        except OSError:
            return
        if are_settled(stats, self._began):
            write_arrays(self.path, {**self._expected, **head}, {**arrays, _STATS: stats})


def path_of(kind: str, what: str) -> Path:
    """Where the arrays of `what`, such as the path of a folder, are kept."""
    key = hashlib.sha1(what.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / kind / f"{key}.npz"


def read_arrays(path: Path, expected: Mapping[str, Any]) -> tuple[dict[str, Any], Arrays] | None:
    """Head and arrays, if the head has all that is expected; None otherwise."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            head = json.loads(archive[_HEAD].tobytes())
            if {k: head[k] for k in expected} != expected:
                return None
            return head, {name: archive[name] for name in head[_NAMES]}
    except FileNotFoundError:
        return None
    # RuntimeError: a damaged head of the archive asks for a password, or for another packing.
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError,
            zipfile.BadZipFile) as error:  # fmt: skip
        logger.info("%s is not readable and is made anew (%s)", path, error)
        return None


def write_arrays(path: Path, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    try:
        text = np.frombuffer(json.dumps({**head, _NAMES: [*arrays]}).encode(), dtype=np.uint8)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **{_HEAD: text, **arrays})  # type: ignore[arg-type]
    except (OSError, ValueError) as error:
        logger.info("%s cannot be written (%s); files are read again next time", path, error)


def stats_of(paths: Sequence[str]) -> np.ndarray:
    """(N, 3) int64: size, time of change in ns and inode of each file or folder.

    Raises:
        OSError: one is not there.
    """
    rows = np.empty((len(paths), 3), dtype=np.int64)
    for row, path in enumerate(paths):
        stat = os.stat(path)
        rows[row] = stat.st_size, stat.st_mtime_ns, stat.st_ino & (2**63 - 1)
    return rows


def are_settled(stats: np.ndarray, before: float) -> bool:
    """Whether nothing changed while it was read, or so shortly before that a second change could
    have the same time.

    Args:
        before: `time.time()` as reading began; what was read may be older than `stats`.
    """
    latest = int(stats[:, 1].max(initial=0))
    return before - latest / 1e9 > SETTLED_SECONDS


def are_equal(paths: Sequence[str], stats: np.ndarray) -> bool:
    """Whether all these files and folders are as they were."""
    if len(paths) != len(stats):
        return False
    try:
        return bool((stats_of(paths) == stats).all())
    except OSError:
        return False
