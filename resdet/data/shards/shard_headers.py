"""The headers of a set's images that lie in shards or tables, before anything starts.

Not for: images that are files (`images.scan`).
"""

from __future__ import annotations

import io
import logging
from collections import Counter

from resdet.data.checks.faults import Faults
from resdet.data.checks.odd_images import odd_files_note, places_of_odd
from resdet.data.encoded import EncodedImages
from resdet.data.images.header import read_header
from resdet.data.images.reader import most_bytes, refusal, repairs
from resdet.data.images.scan import Progress
from resdet.data.options import DataOptions
from resdet.data.readers.class_folders import MAX_HEADERS
from resdet.errors import DataError

logger = logging.getLogger(__name__)


def refuse_huge(images: EncodedImages, faults: Faults, options: DataOptions) -> None:
    """Images of more bytes than a file may have are faults, so that none fills the memory."""
    most = most_bytes(options)
    for index in range(len(images)):
        if images.size(index) > most:
            faults.add(
                "images",
                f"{images.where(index)} has {images.size(index):,} bytes; an image has {most:,} at "
                "most",
                fix="Take it out, or raise INPUT.MAX_PIXELS.",
            )


def check_headers(
    images: EncodedImages, faults: Faults, options: DataOptions
) -> tuple[Counter[str], list[str]]:
    """What will be repaired in reading, counted, and notes; images that cannot be read are faults.

    Of more than `MAX_HEADERS` images only those are looked at that are known to be odd in ImageNet,
    and nothing is counted.
    """
    counts = Counter[str]()
    odd = places_of_odd(images.name(i) for i in range(len(images)))
    has_all = len(images) <= MAX_HEADERS
    looked_at = range(len(images)) if has_all else odd
    known = dict.fromkeys(odd)
    found = []
    progress = Progress("image headers", len(looked_at), logger)
    for done, index in enumerate(looked_at):
        progress.show(done)
        where = images.where(index)
        try:
            _, facts = read_header(io.BytesIO(images.read(index)), where)
        except DataError as error:
            faults.add("images", str(error))
            continue
        why = refusal(facts, options)
        if why is not None:
            faults.add("images", f"{where} {why}")
            continue
        if has_all:
            counts.update(repairs(facts, where, options))
        if index in known:
            found.append((images.name(index), facts))
    return counts, [*odd_files_note(found, options)]
