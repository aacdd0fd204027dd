"""A JSON array from a file, piece by piece: a results file of any size in bounded memory.

A file is read in blocks. Each is cut behind its last "}," and decoded on its own: where that
succeeds, the cut stood between two elements, outside of any text, as no other prefix of an array
can be closed by a bracket. Where it fails, element by element tells a cut at the wrong place from
a fault, and the fault is named with its line and column in the file, as `json` names it.

`msgspec`, where it is installed, decodes several times faster what has exactly the expected form;
everything else goes to `json`, so that both give the same.

Not for: values other than arrays (`arrays.read_json`), or what the elements mean.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resdet.bounded_files import BoundedGzip, open_file
from resdet.errors import DataError, ResdetError
from resdet.evaluation.inputs.arrays import (
    collector_paused,
    not_readable,
    unreadable_json,
)

# Large enough that the work for a piece is small beside its elements, small enough for the
# processor's cache.
BLOCK = 1 << 18
BOM = b"\xef\xbb\xbf"
# Of one element: a mask of run lengths has thousands.
MOST_BYTES = 256 << 20
_WHITESPACE = " \t\n\r"
# No word of JSON (-Infinity) or escape that a block's end cuts through is longer.
_LONGEST_WORD = 16

Quick = Callable[[bytes], Any]


class NotAnArray(Exception):
    """The file does not begin as an array in UTF-8; `arrays.read_json` knows what it is."""


def array_pieces(
    path: Path | str, unreadable: type[ResdetError], quick: Quick | None = None, block: int = BLOCK
) -> Iterator[Any]:
    """The elements of the array in a .json or .json.gz file, in order, a piece at a time.

    Args:
        path: of the file.
        unreadable: the error for a file that is not JSON.
        quick: makes something with a length of a small array, or raises ValueError or
            RecursionError for one that is not as it expects; None for none.
        block: bytes to read at a time.

    Yields:
        what `quick` makes of a piece; for one that it refuses, the list that `json` has.

    Raises:
        DataError: there is no such file.
        NotAnArray: it does not begin with a bracket; before the first piece.
        unreadable: it is not JSON; states where it breaks. Pieces before that were given.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe is read once, a folder never
        raise NotAnArray
    try:
        with _opened(path) as file:
            yield from _StreamReader(path, file, quick, block).pieces()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Give the path of a JSON file.") from None
    except (ValueError, OSError, EOFError, RecursionError, zlib.error) as error:
        raise unreadable_json(path, error, unreadable) from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    try:
        raw = open_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise not_readable(path, error) from None
    with raw:
        if raw.peek(2)[:2] != b"\x1f\x8b":
            yield raw
            return
        with BoundedGzip(raw, path.stat().st_size) as file:
            yield file


class _StreamReader:
    """Where in the file we are: `buffer` begins at an element, `offset` bytes into the text."""

    def __init__(self, path: Path, file: io.BufferedIOBase, quick: Quick | None, block: int):
        self.path = path
        self.file = file
        self.quick = quick
        self.block = block
        self.offset = 0
        self.buffer = b""
        self.ended = False  # nothing left to read
        self.closed = False  # the array's bracket was read
        self.after_comma = False

    def pieces(self) -> Iterator[Any]:
        self._open()
        while not self.closed:
            piece = self._whole_piece()
            if piece is None:
                piece = self._by_element()
            if len(piece):
                yield piece
            self._fill()
        self._expect_end()

    def _fill(self, size: int = 0) -> None:
        if not self.ended:
            data = self.file.read(max(self.block, size))
            self.ended = not data
            self.buffer += data

    def _open(self) -> None:
        while len(self.buffer) < 4 and not self.ended:
            self._fill()
        if self.buffer.startswith(BOM):
            self.buffer = self.buffer[len(BOM) :]
        if b"\0" in self.buffer[:4]:  # UTF-16 or UTF-32
            raise NotAnArray
        self._skip_space()
        if self.buffer[:1] != b"[":
            raise NotAnArray
        self._consume(1)
        self._fill()

    def _skip_space(self) -> None:
        """To the next character, or to the end."""
        while True:
            rest = self.buffer.lstrip(_WHITESPACE.encode())
            self._consume(len(self.buffer) - len(rest))
            if rest or self.ended:
                return
            self._fill()

    def _consume(self, count: int) -> None:
        self.offset += count
        self.buffer = self.buffer[count:]

    def _whole_piece(self) -> Any:
        """Everything in the buffer up to its last cut; None where it does not decode."""
        text, end = b"[" + self.buffer, len(self.buffer)
        if not self.ended:
            cut = self.buffer.rfind(b"},")
            if cut < 0:
                return None
            text, end = text[: cut + 2] + b"]", cut + 2
        for decode in (self._quickly, json.loads):
            try:
                with collector_paused():
                    piece = decode(text)
            except (ValueError, RecursionError):
                continue
            if not len(piece) and self.after_comma:
                return None
            self._consume(end)
            self.after_comma, self.closed = not self.ended, self.ended
            return piece
        return None

    def _quickly(self, text: bytes) -> Any:
        if self.quick is None:
            raise ValueError("there is no faster decoder")
        # It does not look into what it skips.
        if not text.isascii():
            text.decode("utf-8", "surrogatepass")
        return self.quick(text)

    def _by_element(self) -> list[Any]:
        """The elements that the buffer holds to their ends; reads on where it holds none.

        Raises:
            ValueError: there is a fault; its words and its place are those of `json.loads`.
        """
        while True:
            elements, taken = self._scan()
            if taken:
                self._consume(taken)
                return elements
            if len(self.buffer) > MOST_BYTES:
                raise ValueError(f"an element of more than {MOST_BYTES:,} bytes")
            # An element larger than the buffer: double it, so that it is not read again and again.
            self._fill(len(self.buffer))

    def _scan(self) -> tuple[list[Any], int]:
        """Whole elements at the buffer's start and their bytes; 0 where it ends too soon."""
        text = self._text()
        decode = json.JSONDecoder().raw_decode
        elements: list[Any] = []
        taken = at = 0
        while True:
            at = _skip(text, at)
            first = not self.after_comma
            if first and text[at : at + 1] == "]":
                self.closed, taken = True, at + 1
                break
            try:
                value, end = decode(text, at)
            except json.JSONDecodeError as error:
                if self._is_cut(text, error.pos, error.msg):
                    break
                raise ValueError(self._fault(text, taken)) from None
            at = _skip(text, end)
            if text[at : at + 1] not in {",", "]"}:
                if self._is_cut(text, at):
                    break
                raise ValueError(self._fault(text, taken))
            elements.append(value)
            self.after_comma = True
            taken = at = at + 1
            if text[at - 1] == "]":
                self.closed = True
                break
        return elements, len(text[:taken].encode("utf-8", "surrogatepass"))

    def _text(self) -> str:
        """The buffer, without a character that it holds in part."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        try:
            return decoder.decode(self.buffer, final=self.ended)
        except UnicodeDecodeError as error:
            start, end = self.offset + error.start, self.offset + error.end - 1
            which = f"byte 0x{self.buffer[error.start]:02x} in position {start}"
            if end > start:
                which = f"bytes in position {start}-{end}"
            raise ValueError(f"'utf-8' codec can't decode {which}: {error.reason}") from None

    def _is_cut(self, text: str, at: int, fault: str = "") -> bool:
        """May the fault at a place be that the element goes on behind the buffer?"""
        if self.ended:
            return False
        return fault.startswith("Unterminated") or len(text[at:].strip()) < _LONGEST_WORD

    def _fault(self, text: str, taken: int) -> str:
        """`json.loads`' error on the whole file, from the text behind the last good element."""
        before = "[0," if self.after_comma else "["
        try:
            json.loads(before + text[taken:])
        except json.JSONDecodeError as error:
            taken_bytes = len(text[:taken].encode("utf-8", "surrogatepass"))
            chars, lines, column = self._position(self.offset + taken_bytes)
            inside = text[taken : taken + max(0, error.pos - len(before))]
            char = chars + error.pos - len(before)
            column = column + error.pos - len(before)
            if "\n" in inside:
                column = len(inside) - inside.rfind("\n")
            line = lines + inside.count("\n")
            return f"{error.msg}: line {line} column {column} (char {char})"
        raise AssertionError("json reads what its scanner refused")

    def _position(self, offset: int) -> tuple[int, int, int]:
        """Characters before a byte of the text, its line and its column, both from 1."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        chars, lines, column = 0, 1, 1
        with _opened(self.path) as file:
            if file.read(len(BOM)) != BOM:
                file.seek(0)
            while offset > 0:
                text = decoder.decode(file.read(min(offset, BLOCK)))
                offset -= BLOCK
                chars += len(text)
                lines += text.count("\n")
                last = text.rfind("\n")
                column = len(text) - last if last >= 0 else column + len(text)
        return chars, lines, column

    def _expect_end(self) -> None:
        """Nothing but space behind the array."""
        self._skip_space()
        if self.buffer:
            chars, line, column = self._position(self.offset)
            raise ValueError(f"Extra data: line {line} column {column} (char {chars})")


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _WHITESPACE:
        at += 1
    return at
