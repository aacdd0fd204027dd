"""Pickles of arrays, read without running what they ask for.

A pickle is a program: it may name any function, and Python's own reader calls it. Detectron's and
Detectron2's `.pkl` files need a few names; this reader has harmless replacements of those and
refuses every other name (`docs/faults.md` F23). Arrays are built from the bytes in the
file, never from a size that the file claims.

Not for: torch files (`containers` reads them with torch's own weights-only reader).
"""

from __future__ import annotations

import codecs
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

# Values that a pickle refers back to; nets have some thousand.
MAX_PLACES = 1_000_000


class NotPlainError(Exception):
    """The pickle asks for something that is not data; `expected` is its full name."""

    def __init__(self, expected: str):
        super().__init__(expected)
        self.expected = expected


class _Array:
    """Stands for a numpy array until its state arrives: (version, shape, dtype, order, bytes)."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        dtype = _number(dtype)
        if isinstance(data, str):
            # Python 2 wrote its bytes as text; read back as latin-1 each is one character.
            data = data.encode("latin-1")
        if not isinstance(data, bytes):
            raise NotPlainError("a numpy array of Python objects")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(
                f"an array claims {shape} values of {dtype.itemsize} bytes, "
                f"but {len(data)} bytes are there"
            )
        array = np.frombuffer(data, dtype=dtype)
        self.value = array.reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    """numpy's empty array that its state then fills; here nothing is allocated."""
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """How protocol 5 writes an array in one piece."""
    if not isinstance(data, bytes | bytearray | pickle.PickleBuffer) or order not in ("C", "F"):
        raise NotPlainError("a numpy array without bytes")
    return np.frombuffer(bytes(data), dtype=_number(dtype)).reshape(shape, order=order)


class _Dtype:
    """Stands for numpy.dtype, for numbers only; its byte order arrives as state."""

    def __init__(self, code: Any, *_: Any):
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(text, str) or text.lstrip("<>|=")[:1] not in tuple("fiub"):
            raise NotPlainError(f"numpy.dtype({code!r})")
        self.value = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


def _number(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Dtype):
        raise NotPlainError("a numpy array of Python objects")
    return dtype.value


def _scalar(dtype: Any, data: Any) -> Any:
    raw = data.encode("latin-1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=_number(dtype))[0]


def _bytes(*content: Any) -> bytes:
    """Python 3 writes empty bytes for Python 2 as a call without arguments."""
    if content:
        raise NotPlainError("bytes(…)")
    return b""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise NotPlainError(f"_codecs.encode(…, {encoding!r})")
    return codecs.encode(text, encoding)


class Namespace:
    """Stands for argparse's, in which trainers keep their arguments; nothing reads it."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Call:
    """A function of ours that a pickle may call and cannot change: BUILD sets attributes."""

    __slots__ = ("function",)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "function", function)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise NotPlainError(f"a change of {self.function.__name__}")

    def __setstate__(self, state: Any) -> None:
        raise NotPlainError(f"a change of {self.function.__name__}")


# Module and name in the file to our replacement. numpy moved its inner module in 2.0.
_CORES = ("numpy.core", "numpy._core")
ALLOWED: dict[tuple[str, str], Any] = {
    **{(f"{core}.multiarray", "_reconstruct"): _Call(_reconstruct) for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Call(_scalar) for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _Call(_from_buffer) for core in _CORES},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("argparse", "Namespace"): Namespace,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _Call(_encode),
    ("__builtin__", "bytes"): _Call(_bytes),
    ("builtins", "bytes"): _Call(_bytes),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise NotPlainError(f"{module}.{name}")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise NotPlainError("a persistent object")


def load(stream: BinaryIO) -> Any:
    """What the pickle holds: dicts, lists, text, numbers and numpy arrays; tuples become lists.

    Python 2's pickles are read as latin-1, as Detectron's need.

    Raises:
        NotPlainError: it names anything else; nothing was called.
        ValueError: an array's bytes do not fit its shape.
        Exception: any error of the reader on a damaged pickle.
    """
    _refuse_far_places(stream)
    return _finished(_Unpickler(stream, encoding="latin1").load(), frozenset(), {})


def _refuse_far_places(stream: BinaryIO) -> None:
    """A memo is a list: one far place in it makes the reader allocate all before it."""
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name.startswith("EXT"):
            # A number in place of a name: what it stands for is not in the file.
            raise NotPlainError(f"extension {argument}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > MAX_PLACES:
            raise ValueError(f"it keeps a value at place {argument}, far beyond what it holds")
    stream.seek(start)


def _finished(value: Any, inside: frozenset[int], done: dict[int, Any]) -> Any:
    """Stand-ins replaced by their arrays, in containers at any depth, each container once."""
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without contents")
        return value.value
    if isinstance(value, dict | list | tuple):
        if id(value) in inside:
            raise ValueError("a container that holds itself")
        if id(value) not in done:
            inner = inside | {id(value)}
            done[id(value)] = (
                {_finished(k, inner, done): _finished(v, inner, done) for k, v in value.items()}
                if isinstance(value, dict)
                else [_finished(item, inner, done) for item in value]
            )
        return done[id(value)]
    return value
