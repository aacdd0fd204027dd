"""Records and names as bytes in one array, which forked workers share.

A list of Python objects is copied into every worker of a loader bit by bit: reading an object
changes its count of references, and the page of memory with it. Here an object exists only while
it is used. Detectron2 does the same (`DatasetFromList`); this takes a generator, so that what is
serialised need not be in memory as a whole.

Not for: objects that change; what is taken out is a copy.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self


class SerializedList(Sequence[Any]):
    """A sequence of picklable objects, read one at a time."""

    def __init__(self, items: Iterable[Any]):
        parts, ends = bytearray(), [0]
        for item in items:
            parts += self._packed(item)
            ends.append(len(parts))
        self._bytes: bytes | memoryview = bytes(parts)
        self._ends = np.array(ends, dtype=np.int64)

    @classmethod
    def of(cls, data: np.ndarray, ends: np.ndarray) -> Self:
        """The list of these `parts`."""
        made = cls(())
        made._bytes, made._ends = data.data, ends
        return made

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """All items as uint8, and where each begins and ends: (N + 1,) int64."""
        return np.frombuffer(self._bytes, dtype=np.uint8), self._ends

    def __reduce__(self) -> Any:
        # A memoryview cannot be pickled, as a worker that is spawned would need.
        return type(self).of, self.parts()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(self[i] for i in range(*index.indices(len(self))))
        place = range(len(self))[index]  # raises IndexError, counts negative ones from the end
        start, end = self._ends[place], self._ends[place + 1]
        return self._unpacked(memoryview(self._bytes)[start:end])

    @staticmethod
    def _packed(item: Any) -> bytes:
        return pickle.dumps(item, pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def _unpacked(data: memoryview) -> Any:
        return pickle.loads(data)


class PlainList(SerializedList):
    """A sequence of texts, numbers, None, and lists, tuples and dicts of these: what `of` gets may
    come from a file, and nothing in it is executed."""

    @staticmethod
    def _unpacked(data: memoryview) -> Any:
        return _PlainUnpickler(io.BytesIO(data)).load()


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


class Chosen(Sequence[Any]):
    """Some items of a list, which stays as it is."""

    def __init__(self, items: SerializedList, places: Iterable[int]):
        self._items = items
        self._places = np.fromiter(places, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Chosen(self._items, self._places[index])
        return self._items[int(self._places[index])]


class TextList(SerializedList):
    """A sequence of texts, such as paths of files, as UTF-8: a third of what pickles would take."""

    @staticmethod
    def _packed(item: Any) -> bytes:
        return str(item).encode("utf-8", "surrogateescape")

    @staticmethod
    def _unpacked(data: memoryview) -> Any:
        return bytes(data).decode("utf-8", "surrogateescape")
