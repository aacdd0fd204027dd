"""The header of every image of a set, before anything starts.

Finds foreign and oversized files before any work is done (`docs/faults.md` F1, F16, F31, F32). Only
headers are read, by several threads, and their facts are kept (`cache`).

Not for: finding the files (`listed_files`), or decoding them (`reader`).
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import PIL

from resdet.data.cache import FolderCache
from resdet.data.images.header import ImageFacts
from resdet.data.images.reader import inspect, refusal, repairs
from resdet.data.options import DataOptions
from resdet.errors import DataError

logger = logging.getLogger(__name__)

VERSION = f"1 Pillow {PIL.__version__}"
SECONDS_PER_LINE = 10.0


@dataclass
class Headers:
    """The facts in the headers of a set.

    Attributes:
        facts: by path, of every image that can be read.
        faults: by path, why the others cannot; whole sentences that start with the path.
        counts: what will be fixed in reading, as `ImageReader.counts`.
    """

    facts: dict[str, ImageFacts] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def read_headers(files: Sequence[str], options: DataOptions) -> Headers:
    """The headers of these images; faulty files are collected, not raised."""
    caches = {
        folder: FolderCache("headers", VERSION, folder, is_used=options.cache)
        for folder in dict.fromkeys(os.path.dirname(file) for file in files)
    }
    headers = Headers()
    for file, found in _inspect_all(files, caches):
        if isinstance(found, str):
            headers.faults[file] = found
            continue
        why = refusal(found, options)
        if why is not None:
            headers.faults[file] = f"{file} {why}"
            continue
        headers.facts[file] = found
        headers.counts.update(repairs(found, file, options))
    for cache in caches.values():
        cache.save()
    return headers


def _inspect_all(
    files: Sequence[str], caches: dict[str, FolderCache]
) -> Iterable[tuple[str, ImageFacts | str]]:
    start = last_line = time.monotonic()
    workers = min(16, 4 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        answers = pool.map(lambda file: _inspect(file, caches[os.path.dirname(file)]), files)
        for done, answer in enumerate(zip(files, answers, strict=True), 1):
            yield answer
            now = time.monotonic()
            if now - last_line > SECONDS_PER_LINE:
                last_line = now
                left = (now - start) / done * (len(files) - done)
                logger.info("image headers: %d of %d, eta %.0f s", done, len(files), left)


def _inspect(file: str, cache: FolderCache) -> ImageFacts | str:
    try:
        stat = os.stat(file)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror} (is it a broken link?)."
    name = os.path.basename(file)
    known = cache.get(name, stat)
    if known is not None:
        return ImageFacts(*known)
    try:
        facts = inspect(file)
    except DataError as error:
        return str(error)
    cache.put(name, stat, list(facts))
    return facts
