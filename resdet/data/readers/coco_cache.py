"""A large COCO set as it was read, so that a second start reads neither its JSON nor its headers.

Kept in the user's cache folder and used only while the JSON file, every image and every folder that
holds them are as they were (size, time, inode), for the same options and the same code.

Not for: reading a set (`coco_reader`). Small sets are read anew at every start.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resdet.data.array_cache import ArrayCache
from resdet.data.options import DataOptions
from resdet.data.readers.listed_files import portable
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
        depends_on = {
            "files": [portable(str(json_file)), portable(str(image_root))],
            "how": repr((options, sorted(how.items()))),
        }
        what = f"{json_file}\n{image_root}"
        self.cache = ArrayCache("coco", what, depends_on, is_used=options.cache)

    def read(self, name: str) -> DetectionSet | None:
        """The set under this name; None where something may have changed."""
        found = self.cache.read()
        if found is None:
            return None
        head, arrays = found
        try:
            records = PlainList.of(arrays["records"], arrays["ends"])
            if not self.cache.is_current(self._watched(records), arrays):
                return None
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            logger.info("%s is not readable and is made anew (%s)", self.cache.path, error)
            return None
        about = head["set"]
        for key in ("classes", "category_ids", "evaluators", "notes"):
            about[key] = tuple(about[key])
        return DetectionSet(**about, name=name, records=records)

    def write(self, data: DetectionSet) -> DetectionSet:
        """Keeps a set that is large enough; gives it with records as they are kept."""
        if not self.cache.is_used or len(data) < MIN_IMAGES:
            return data
        records = PlainList(data.records)
        about = {
            "classes": data.classes,
            "category_ids": data.category_ids,
            "evaluators": data.evaluators,
            "voc_year": data.voc_year,
            "annotated": data.annotated,
            "hash": data.hash,
            "has_masks": data.has_masks,
            "mask_hash": data.mask_hash,
            "counts": dict(data.counts),
            "sources": data.sources,
            "notes": data.notes,
        }
        packed, ends = records.parts()
        watched = self._watched(data.records)
        self.cache.write(watched, {"set": about}, {"records": packed, "ends": ends})
        return replace(data, records=records)

    def _watched(self, records: Sequence[dict[str, Any]]) -> list[str]:
        files = [record["file_name"] for record in records]
        folders = dict.fromkeys(map(os.path.dirname, files))
        return [str(self.json_file), str(self.image_root), *folders, *files]
