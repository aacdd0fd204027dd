"""A large COCO set as it was read, so that a second start reads neither its JSON nor its headers.

Kept in the user's cache folder and used only while the JSON file, every image and every folder that
holds them are as they were (size, time, inode), for the same options and the same code.

Not for: reading a set (`coco_reader`). Small sets are read anew at every start.
"""

from __future__ import annotations

import logging
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from resdet.data.records import DetectionSet
from resdet.data.serialized import PlainList

logger = logging.getLogger(__name__)

# Smaller sets take less than two seconds.
MIN_IMAGES = 10_000


class CocoCache:
    """What is kept of one JSON file with one image folder.

    Args:
        how: everything else that the set depends on, in words that JSON has.
    """

    def __init__(self, json_file: Path, image_root: Path, options: DataOptions, **how: Any):
        self.json_file = json_file
        self.image_root = image_root
        self.is_used = options.cache
        self.head = {
            "version": code_version(),
            "files": [_text(json_file), _text(image_root)],
            "how": repr((options, sorted(how.items()))),
        }
        self.began = time.time()
        self.path = path_of("coco", f"{json_file}\n{image_root}")

    def read(self, name: str) -> DetectionSet | None:
        """The set under this name; None where something may have changed."""
        found = read_arrays(self.path, self.head) if self.is_used else None
        if found is None:
            return None
        head, arrays = found
        try:
            records = PlainList.of(arrays["records"], arrays["ends"])
            files = [record["file_name"] for record in records]
            if not are_equal(self._watched(files), arrays["stats"]):
                return None
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            logger.info("%s is not readable and is made anew (%s)", self.path, error)
            return None
        about = head["set"]
        for key in ("classes", "category_ids", "evaluators", "notes"):
            about[key] = tuple(about[key])
        return DetectionSet(**about, name=name, records=records)

    def write(self, data: DetectionSet) -> DetectionSet:
        """Keeps a set that is large enough; gives it with records as they are kept."""
        if not self.is_used or len(data) < MIN_IMAGES:
            return data
        files = [record["file_name"] for record in data.records]
        try:
            stats = stats_of(self._watched(files))
        except OSError:
            return data
        records = PlainList(data.records)
        if are_settled(stats, self.began):
            about = {
                "classes": data.classes,
                "category_ids": data.category_ids,
                "evaluators": data.evaluators,
                "voc_year": data.voc_year,
                "annotated": data.annotated,
                "hash": data.hash,
                "counts": dict(data.counts),
                "sources": data.sources,
                "notes": data.notes,
            }
            packed, ends = records.parts()
            arrays = {"records": packed, "ends": ends, "stats": stats}
            write_arrays(self.path, {**self.head, "set": about}, arrays)
        return replace(data, records=records)

    def _watched(self, files: list[str]) -> list[str]:
        folders = dict.fromkeys(map(os.path.dirname, files))
        return [str(self.json_file), str(self.image_root), *folders, *files]


def _text(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "surrogateescape")
