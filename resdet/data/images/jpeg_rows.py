"""The upper rows of a JPEG without the work for those below.

A JPEG is coded from top to bottom, so its first rows can be decoded alone by setting a
smaller height in its header: the decoder skips the rest. The rows are the same to the bit.

Only of files in which nothing can be missed by that: one baseline scan that goes on, without
another marker, to the end marker in the file's last two bytes.

Not for: files that are cut off (`jpeg_truncation`), or progressive ones, whose every scan is of
all rows.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import JpegImagePlugin

# Interpolating chroma looks this many rows on, before any DCT scale.
_ROWS_LOOKED_ON = 2
# With more rows than this share of all, scanning the file costs as much as it saves.
_WORTH_IT = 0.92
_BASELINE = (0xC0, 0xC1)
# Tables, comments and metadata of cameras; each has a length and no effect on the height.
_PASSED_OVER = (0xC4, 0xDB, 0xFE, *range(0xE0, 0xF0))
_SCAN = 0xDA
_END_MARKER = b"\xff\xd9"


def decode_only(
    picture: JpegImagePlugin.JpegImageFile, stream: io.BytesIO, rows: int, scale: int = 1
) -> None:
    """Has only the first `rows` rows of a JPEG decoded, where it may be so; the others stay black.

    Args:
        picture: opened from `stream`, not yet decoded.
        stream: the whole file; changed.
        rows: in pixels of the full size.
        scale: by how much it will be decoded smaller (1, 2, 4 or 8).
    """
    rows += _ROWS_LOOKED_ON * scale
    if rows > _WORTH_IT * picture.height or len(picture.tile) != 1:
        return
    place = _place_of_height(stream.getvalue())
    if place is None:
        return
    with stream.getbuffer() as data:
        data[place : place + 2] = rows.to_bytes(2, "big")
    name, _, *rest = picture.tile[0]
    picture.tile = [(name, (0, 0, picture.width, rows), *rest)]  # type: ignore[list-item]


def _place_of_height(data: bytes) -> int | None:
    """Where the height stands; None in a file that must be decoded whole."""
    place, components, position = None, 0, 2
    while data[position : position + 1] == b"\xff" and position + 10 < len(data):
        marker, body = data[position + 1], position + 4
        if marker in _BASELINE and place is None:
            place, components = body + 1, data[body + 5]
        elif marker == _SCAN:
            has_all = place is not None and data[body] == components
            start = position + 2 + int.from_bytes(data[position + 2 : body], "big")
            return place if has_all and _goes_to_the_end(data, start) else None
        elif marker not in _PASSED_OVER:
            return None
        position += 2 + int.from_bytes(data[position + 2 : body], "big")
    return None


def _goes_to_the_end(data: bytes, start: int) -> bool:
    """Whether no marker but the end marker comes from `start` on, and that is the end."""
    if start >= len(data) or not data.endswith(_END_MARKER):
        return False
    coded = np.frombuffer(data, np.uint8, offset=start)
    marks = np.flatnonzero(coded == 0xFF)
    # In the scan 0xff is followed by 0, or begins a marker.
    return not coded[marks[:-1] + 1].any()
