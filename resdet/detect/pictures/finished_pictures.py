"""Finished pictures of a folder, kept in files while the rest is detected on.

They lie in <output>.parts. The same command goes on from them; those of other weights, keys or
files are removed, and a picture that was changed since is detected on again.

Not for: when a part is written (`resdet.run.finished_parts`), or the file of all
(`picture_results`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resdet.errors import RunError
from resdet.run import layout
from resdet.run.finished_parts import FinishedParts, fingerprint_in, whole_parts
from resdet.run.folder import read_json, write_json

logger = logging.getLogger("resdet.detect.pictures")

# At most so many pictures or seconds are lost by a kill.
PART_PICTURES = 100
PART_SECONDS = 30.0
NUMBER = (int, float)
SHAPE = {
    "pictures": [
        {
            "path": str, "bytes": int, "modified": int, "width": int, "height": int,
            "fixed": [str], "refused": str,
            "detections": [{"category_id": int, "bbox": [NUMBER], "score": NUMBER}],
        }
    ]
}  # fmt: skip


class FinishedPictures(FinishedParts):
    """Pictures that are finished, by their paths; each entry is of `SHAPE`.

    Attributes:
        entries: path to what is known of it, those of earlier attempts too.
    """

    def __init__(self, folder: Path, pictures: int, entries: Mapping[str, dict[str, Any]]):
        super().__init__(folder, "what was given", pictures, entries, 1)
        self.entries = dict(entries)
        self._new: list[dict[str, Any]] = []
        self._next = len(entries)

    @classmethod
    def open(
        cls, folder: Path, paths: Sequence[Path], fingerprint: Mapping[str, Any]
    ) -> FinishedPictures:
        """What earlier attempts of the same command have finished."""
        entries: dict[str, dict[str, Any]] = {}
        if fingerprint_in(folder) == fingerprint:
            asked = {str(path): path for path in paths}
            for part in whole_parts(folder, layout.PART_FILES, _part_in):
                for entry in part["pictures"]:
                    path = asked.get(entry["path"])
                    if path is not None and stamp_of(path) == _stamp_in(entry):
                        entries[entry["path"]] = entry
            logger.info("%d of %d pictures are there already", len(entries), len(paths))
        elif folder.exists():
            logger.warning("%s: finished pictures of something else are removed", folder)
            shutil.rmtree(folder)
        write_json(folder / layout.FINGERPRINT, dict(fingerprint))
        return cls(folder, len(paths), entries)

    @staticmethod
    def remove(folder: Path) -> None:
        """When the file of all is written."""
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, entry: dict[str, Any]) -> None:
        """One more; raises Interrupted and TrainingStopped as `FinishedParts` does."""
        self.done.add(entry["path"])
        self.entries[entry["path"]] = entry
        self._new.append(entry)
        self._after_add(PART_PICTURES, PART_SECONDS)

    def _unwritten(self) -> int:
        return len(self._new)

    def _next_part(self) -> Path:
        path = self.folder / layout.part_name(self._next)
        while path.exists():  # of an attempt of which some pictures are changed or no longer asked
            self._next += 1
            path = self.folder / layout.part_name(self._next)
        return path

    def _write_part(self, path: Path, seconds: float) -> None:
        write_json(path, {"pictures": self._new}, indent=None)
        self._next += len(self._new)
        self._new = []


def stamp_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change of a file, by which another one is told; (0, 0) of none."""
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_size, facts.st_mtime_ns


def _stamp_in(entry: Mapping[str, Any]) -> tuple[int, int]:
    return entry["bytes"], entry["modified"]


def _part_in(path: Path) -> dict[str, Any] | None:
    try:
        return dict(read_json(path, SHAPE))
    except RunError:
        return None
