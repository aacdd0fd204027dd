"""Files with the same bytes: twice in one set, or in training and test (`docs/faults.md` F5, F6).

Equal bytes have equal sizes, so only files whose size occurs elsewhere are read. Their SHA-1 is
kept (`cache`).

Not for: pictures that look the same.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from resdet import bounded_files
from resdet.data.cache import FolderCache
from resdet.data.records import DetectionSet
from resdet.errors import DataError, first_few

# Sets with more images are not searched for equal files inside: sizes would collide too often.
MAX_IMAGES = 20_000


class _Digests:
    """SHA-1 of files, by path."""

    def __init__(self, is_cache_used: bool):
        self.is_cache_used = is_cache_used
        self.caches: dict[str, FolderCache] = {}

    def of(self, path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in self.caches:
            self.caches[folder] = FolderCache("sha1", "1", folder, is_used=self.is_cache_used)
        stat = os.stat(path)
        known = self.caches[folder].get(name, stat)
        if known is None:
            known = hashlib.sha1(bounded_files.read_bytes(path)).hexdigest()
            self.caches[folder].put(name, stat, known)
        return str(known)

    def save(self) -> None:
        for cache in self.caches.values():
            cache.save()


def _by_size(files: Iterable[str]) -> dict[int, list[str]]:
    sizes: dict[int, list[str]] = defaultdict(list)
    for file in files:
        sizes[os.path.getsize(file)].append(file)
    return sizes


def equal_files(files: Sequence[str], *, cache: bool = True) -> list[list[str]]:
    """Groups of different files with the same bytes."""
    digests = _Digests(cache)
    groups: dict[str, list[str]] = defaultdict(list)
    for same_size in _by_size(dict.fromkeys(files)).values():
        if len(same_size) > 1:
            for file in same_size:
                groups[digests.of(file)].append(file)
    digests.save()
    return [group for group in groups.values() if len(group) > 1]


def overlap(
    train: Sequence[DetectionSet],
    test: Sequence[DetectionSet],
    *,
    cache: bool = True,
) -> None:
    """Refuses test images that are training images (F6).

    They are the same file, or files with the same bytes, or, between sets of one family (VOC 2007
    and 2012; COCO's), images with the same official id. Ids and names of users' own sets are
    no evidence: many tools count every folder from 1.

    Raises:
        DataError: states how many, by what, and which are the first.
    """
    files = [record["file_name"] for data in train for record in data.records]
    same_file = {os.path.realpath(file) for file in files}
    by_size = _by_size(files)
    digests = _Digests(cache)
    parts = []
    for data in test:
        ids = {
            record["image_id"]
            for other in train
            if family(other.name) == family(data.name) is not None
            for record in other.records
        }
        shared: dict[str, list[str]] = defaultdict(list)
        for record in data.records:
            path = record["file_name"]
            if os.path.realpath(path) in same_file:
                shared["same file"].append(path)
            elif _has_equal(path, by_size, digests):
                shared["same bytes"].append(path)
            elif record["image_id"] in ids:
                shared["same official id"].append(path)
        number = sum(map(len, shared.values()))
        if number:
            names = [os.path.basename(p) for paths in shared.values() for p in paths]
            parts.append(
                f"{number:,} of {len(data.records):,} test images of {data.name} are also training "
                f"images ({', '.join(f'{kind}: {len(p):,}' for kind, p in shared.items())}):\n"
                f"{first_few(names, 5)}"
            )
    digests.save()
    if parts:
        raise DataError(
            "\n".join(parts)
            + "\nThe AP would not mean anything. Take these images or their set out "
            "of DATASETS.TRAIN, or set EVAL.ALLOW_LEAK True; the report's title then states it."
        )


def _has_equal(path: str, by_size: dict[int, list[str]], digests: _Digests) -> bool:
    candidates = by_size.get(os.path.getsize(path), ())
    return bool(candidates) and digests.of(path) in {digests.of(c) for c in candidates}


def family(name: str) -> str | None:
    """Sets that share their official ids: "voc", "coco", or None."""
    kind, _, rest = name.partition("_")
    return kind if kind in ("voc", "coco") and rest[:4].isdigit() else None
