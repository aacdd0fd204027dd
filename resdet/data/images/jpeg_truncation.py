"""What is missing from a JPEG that ends too early: pixels, or nothing but its end marker.

libjpeg fills what is missing with grey and only warns, so a file cut in half must never be
"repaired" by adding an end marker (`docs/faults.md` F31). Two tests decide:

- Behind the last pixel a decoder skips what it finds; before it, it takes it for pixels. So only
  a complete picture decodes to the same with different bytes put in before the end.
- A file cut exactly between two scans passes that test, but its scan headers show that
  coefficients never came.

Not for: files that have their end marker.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import JpegImagePlugin

END_MARKER = b"\xff\xd9"
# Two fillings, as the missing bytes could by chance be like one of them.
_FILLINGS = (b"\x5a" * 256, b"\xa5\x13" * 128)
_ALL_COEFFICIENTS = (1 << 64) - 1
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def first_missing_row(data: bytes) -> int | None:
    """The first row, from 1, that is not in the file; None where only the end marker is missing.

    Exact to a row of blocks (8 or 16 pixels). 1 where it cannot be told.
    """
    # Half a marker at the end is no pixel, and would join with what is put behind it.
    data = data.removesuffix(b"\xff")
    try:
        decoded = [_decode(data + filling + END_MARKER) for filling in (b"", *_FILLINGS)]
    except Exception:  # a decoder of foreign bytes raises anything
        return 1
    rows = [
        np.flatnonzero((decoded[0] != other).any(axis=tuple(range(1, other.ndim))))
        for other in decoded[1:]
    ]
    differing = [int(found[0]) + 1 for found in rows if len(found)]
    if differing:
        return min(differing)
    return None if _all_scans_came(data) else 1


def _decode(data: bytes) -> np.ndarray:
    picture = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    picture.load()
    return np.asarray(picture)


def _all_scans_came(data: bytes) -> bool:
    """Whether the scan headers declare every coefficient of every component in full precision."""
    came: dict[int, int] = {}
    position = 2
    while (found := _NEXT_MARKER.search(data, position)) is not None:
        marker = found[0][1]
        start = found.end() + 2
        length = int.from_bytes(data[found.end() : start], "big")
        body = data[start : start + length - 2]
        if marker in (0xC0, 0xC1, 0xC2):
            came = {body[6 + 3 * i]: 0 for i in range(body[5])}
        elif marker == 0xDA:
            first, last, precision = body[-3], body[-2], body[-1] & 15
            if precision == 0:
                mask = ((1 << (last - first + 1)) - 1) << first
                for i in range(body[0]):
                    came[body[1 + 2 * i]] |= mask
        position = start + length - 2
    return bool(came) and all(mask == _ALL_COEFFICIENTS for mask in came.values())
