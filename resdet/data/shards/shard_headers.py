"""The headers of a set's images that lie in shards or tables, before anything starts.

Not for: images that are files (`images.scan`).
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from resdet.data.checks.faults import Faults
from resdet.data.encoded import EncodedImages
from resdet.data.images.header import read_header
from resdet.data.images.reader import refusal, repairs
from resdet.data.images.scan import Progress
from resdet.data.options import DataOptions
from resdet.data.readers.class_folders import MAX_HEADERS
from resdet.errors import DataError

logger = logging.getLogger(__name__)


def check_headers(
    images: EncodedImages,
    classes: Sequence[str],
    labels: np.ndarray,
    faults: Faults,
    options: DataOptions,
) -> tuple[Counter[str], list[str]]:
    """What will be repaired in reading, counted, and notes; images that cannot be read are faults.

    Of more than `MAX_HEADERS` images none is looked at.
    """
    counts = Counter[str]()
    if len(images) > MAX_HEADERS:
        return counts, []
    progress = Progress("image headers", len(images), logger)
    for index in range(len(images)):
        progress.show(index)
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
        counts.update(repairs(facts, where, options))
    return counts, []
