"""Images that are no files of their own: what a set asks of the shards or tables that hold them.

Not for: reading any (`shards`, `readers.hugging_face`), or decoding (`images.reader`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class EncodedImages(Protocol):
    """The bytes of N images, by number. Its memory is in arrays, which forked workers share."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """The bytes of one image, as its file would have them; raises DataError."""
        ...

    def size(self, index: int) -> int:
        """How many these are."""
        ...

    def name(self, index: int) -> str:
        """Its file's name among class folders, such as "n01440764_10026.JPEG"."""
        ...

    def where(self, index: int) -> str:
        """How messages call it, with its suffix at the end where it has one."""
        ...

    def chosen(self, places: Sequence[int]) -> EncodedImages:
        """So many of them, in this order."""
        ...
