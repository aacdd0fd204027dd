"""Decoding every image of a set, so that broken files are known before a training meets them.

A training reads headers alone before it starts; pixels that are missing show when they are read
(`docs/faults.md` F31). Here all are decoded as the trainers decode them, by several threads.

Not for: finding the files of a set (`catalog`), or what the headers tell (`images.scan`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from resdet.data import catalog
from resdet.data.encoded import EncodedImages
from resdet.data.images.reader import ImageReader
from resdet.data.images.scan import Progress
from resdet.data.names import flat_folder, is_labelled, split_path_name
from resdet.data.options import DataOptions
from resdet.errors import DataError

logger = logging.getLogger(__name__)

# Images of each thread between two looks at whether to end: a second or less.
_BETWEEN_LOOKS = 16


@dataclass
class Decoded:
    """What decoding a set gave.

    Attributes:
        images: in the set. done: looked at, fewer where it was ended.
        faults: by file, why it cannot be read; whole sentences that start with the file.
        repairs: what was fixed in reading, as `ImageReader.counts`.
    """

    images: int
    done: int = 0
    faults: dict[str, str] = field(default_factory=dict)
    repairs: Counter[str] = field(default_factory=Counter)


def images_of(name: str, options: DataOptions) -> Sequence[str] | EncodedImages:
    """The image files of a set of either kind, or its images in shards or tables; a set in memory
    has none.

    Raises:
        DataError: the set is missing, or its lists or annotations are broken.
    """
    if _is_classification(name):
        is_flat = flat_folder(name) is not None
        data = catalog.load_classification(name, options=options, needs_classes=not is_flat)
        return list(data.files) if data.encoded is None else data.encoded
    detection = catalog.load_detection(name, options=options)
    # A file may stand in several records.
    return list(dict.fromkeys(map(detection.file_of, range(len(detection)))))


def _is_classification(name: str) -> bool:
    is_folder = split_path_name(name) is None and Path(name).is_dir()
    return is_labelled(name) or flat_folder(name) is not None or is_folder


def decode_all(
    images: Sequence[str] | EncodedImages,
    options: DataOptions,
    *,
    workers: int,
    is_asked_to_end: Callable[[], bool] = lambda: False,
) -> Decoded:
    """Decodes these images; faulty files are collected, not raised.

    Args:
        workers: threads, each with one image in memory.
        is_asked_to_end: looked at now and then; ends the work with what is known by then.
    """
    result = Decoded(len(images))
    progress = Progress("decoded", len(images), logger)
    with ThreadPoolExecutor(workers) as pool:
        for part in _parts(_read(images), workers * _BETWEEN_LOOKS):
            found = pool.map(_decode(options), part)
            for (file, _), (fault, repairs) in zip(part, found, strict=True):
                result.done += 1
                result.repairs.update(repairs)
                if fault:
                    result.faults[file] = fault
                progress.show(result.done)
            if is_asked_to_end():
                break
    return result


# What messages call an image, and its bytes where it is no file, or why there are none.
_Image = tuple[str, bytes | DataError | None]


def _read(images: Sequence[str] | EncodedImages) -> Iterator[_Image]:
    """Bytes of images in shards are read here, by one thread; files by those that decode."""
    for number in range(len(images)):
        if isinstance(images, Sequence):
            yield images[number], None
            continue
        data: bytes | DataError
        try:
            data = images.read(number)
        except DataError as error:
            data = error
        yield images.where(number), data


def _decode(options: DataOptions) -> Callable[[_Image], tuple[str, Counter[str]]]:
    def decode(image: _Image) -> tuple[str, Counter[str]]:
        file, data = image
        if isinstance(data, DataError):
            return str(data), Counter()
        reader = ImageReader(options)
        try:
            reader.read(file) if data is None else reader.read(file, data)
        except DataError as error:
            return str(error), Counter()
        return "", reader.counts

    return decode


def _parts(images: Iterator[_Image], size: int) -> Iterator[list[_Image]]:
    rest = iter(images)
    while part := list(islice(rest, size)):
        yield part
