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

VERSION = f"2 Pillow {PIL.__version__}"
FIRST_LINE_SECONDS, SECONDS_PER_LINE = 2.0, 10.0


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
    """The facts of each file, or why there are none, in order.

    Threads read what is not known yet; asking them for the rest would take longer than a look.
    """
    progress = Progress("image headers", len(files), logger)
    answers: dict[int, ImageFacts | str] = {}
    for place, file in enumerate(files):
        if (known := _known(file, caches[os.path.dirname(file)])) is not None:
            answers[place] = known
        progress.show(len(answers))
    rest = [place for place in range(len(files)) if place not in answers]
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        inspected = pool.map(lambda p: _inspect(files[p], caches[os.path.dirname(files[p])]), rest)
        for place, answer in zip(rest, inspected, strict=True):
            answers[place] = answer
            progress.show(len(answers))
    return ((file, answers[place]) for place, file in enumerate(files))


def _known(file: str, cache: FolderCache) -> ImageFacts | str | None:
    """What the cache has of a file that is as it was; None where it must be opened."""
    try:
        stat = os.stat(file)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror} (is it a broken link?)."
    facts = cache.get(os.path.basename(file), stat)
    return None if facts is None else ImageFacts(*facts)


def _inspect(file: str, cache: FolderCache) -> ImageFacts | str:
    try:
        stat = os.stat(file)
        facts = inspect(file)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror} (is it a broken link?)."
    except DataError as error:
        return str(error)
    cache.put(os.path.basename(file), stat, list(facts))
    return facts


class Progress:
    """A line with what is done and an ETA, after `FIRST_LINE_SECONDS` and every `SECONDS_PER_LINE`.

    Args:
        what: things that are counted, such as "image headers".
        log: of the module whose work it is.
    """

    def __init__(self, what: str, total: int, log: logging.Logger):
        self.what = what
        self.total = total
        self.log = log
        self.start = time.monotonic()
        self.next_line = self.start + FIRST_LINE_SECONDS

    def show(self, done: int) -> None:
        now = time.monotonic()
        if now >= self.next_line and done:
            self.next_line = now + SECONDS_PER_LINE
            left = (now - self.start) / done * (self.total - done)
            self.log.info("%s: %d of %d, eta %.0f s", self.what, done, self.total, left)
