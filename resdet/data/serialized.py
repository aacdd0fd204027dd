"""Records and names as bytes in one array, which forked workers share.

A list of Python objects is copied into every worker of a loader bit by bit: reading an object
changes its count of references, and the page of memory with it. Here an object exists only while
it is used. Detectron2 does the same (`DatasetFromList`); this takes a generator, so that what is
serialised need not be in memory as a whole.

Not for: objects that change; what is taken out is a copy.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np


class SerializedList(Sequence[Any]):
    """A sequence of picklable objects, read one at a time."""

    def __init__(self, items: Iterable[Any]):
        parts, ends = bytearray(), [0]
        for item in items:
            parts += pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
            ends.append(len(parts))
        self._bytes = bytes(parts)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> SerializedList: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return SerializedList(self[i] for i in range(*index.indices(len(self))))
        place = range(len(self))[index]  # raises IndexError, counts negative ones from the end
        start, end = self._ends[place], self._ends[place + 1]
        return pickle.loads(memoryview(self._bytes)[start:end])

    @property
    def nbytes(self) -> int:
        return len(self._bytes) + int(self._ends.nbytes)


class TextList(Sequence[str]):
    """A sequence of texts, such as paths of files, as UTF-8."""

    def __init__(self, items: Iterable[str]):
        parts, ends = bytearray(), [0]
        for item in items:
            parts += item.encode("utf-8", "surrogateescape")
            ends.append(len(parts))
        self._bytes = bytes(parts)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TextList: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return TextList(self[i] for i in range(*index.indices(len(self))))
        place = range(len(self))[index]
        text = self._bytes[int(self._ends[place]) : int(self._ends[place + 1])]
        return text.decode("utf-8", "surrogateescape")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]
