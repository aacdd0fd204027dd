"""Files of others, opened so that none makes the reader wait for ever or fills the memory.

A pipe with a file's name is never written to, and a small archive may hold any number of zeros.

Not for: what the bytes mean.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO

# Unpacked, more than both is no data: annotations and results shrink to a tenth.
LEAST_UNPACKED, MOST_TIMES_PACKED = 256 << 20, 200
# A list of names or a card: ImageNet's 1.28 million paths are a tenth of it.
TEXT_BYTES = 512 << 20
# For the first byte of a pipe that somebody named: until then its program has started.
PATIENCE_SECONDS = 30.0
_BLOCK = 1 << 16
# A shell's <(…) and a - of other tools: streams that somebody gave to be read.
_STREAMS = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")


def open_file(path: Path | str) -> io.BufferedReader:
    """A regular file for reading in bytes.

    Raises:
        OSError: there is none, it is a folder, or a pipe, a socket or a device, which may never
            answer; a stream that the shell made for the command is read.
        ValueError: the path is none that a file can have.
    """
    # Without waiting, as a pipe that nobody writes to would have it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if str(path).startswith(_STREAMS):
        return open(path, "rb")
    handle = os.open(path, flags)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, no file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def sha256_of_file(path: Path | str) -> str:
    """Of a file of any size, as hexadecimal digits; raises as `open_file`."""
    digest = hashlib.sha256()
    with open_file(path) as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_bytes(path: Path | str, most: int | None = None) -> bytes:
    """All bytes of a regular file.

    Args:
        most: bytes that it may have; by default half of the machine's memory, as what is made of
            them takes as much again.

    Raises:
        OSError, ValueError: as `open_file`. OSError: it has more.
    """
    with open_file(path) as file:
        return _all_of(file, path, most)


def read_text(path: Path | str, *, encoding: str = "utf-8", most: int = TEXT_BYTES) -> str:
    """The text of a regular file.

    Raises:
        OSError, ValueError: as `read_bytes`. UnicodeDecodeError: it is not in this encoding.
    """
    return read_bytes(path, most).decode(encoding)


def read_given(path: Path | str) -> bytes:
    """As `read_bytes`, but a pipe that somebody named is read, too, once it is written to.

    Raises:
        OSError: as `read_bytes`; nobody writes to the pipe for `PATIENCE_SECONDS`.
    """
    path = Path(path)
    if not path.is_fifo() or str(path).startswith(_STREAMS):
        return read_bytes(path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not select.select([handle], [], [], PATIENCE_SECONDS)[0]:
            message = f"it is a pipe that nobody wrote to for {PATIENCE_SECONDS:g} s"
            raise OSError(errno.EAGAIN, message, str(path))
        os.set_blocking(handle, True)
        return _all_of(file, path, None)


def _all_of(file: BinaryIO, path: Path | str, most: int | None) -> bytes:
    most = _half_of_memory() if most is None else most
    size = os.fstat(file.fileno()).st_size
    # By its size, and whether there is more: of a pipe or a file of the system everything is.
    parts = [file.read(size + 1)] if size <= most else []
    number = len(parts[0]) if parts else size
    while size < number <= most and (part := file.read(_BLOCK)):
        parts.append(part)
        number += len(part)
    if max(size, number) > most:
        message = f"it has {max(size, number):,} bytes or more, and at most {most:,} are read"
        raise OSError(errno.EFBIG, message, str(path))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _half_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def unpacked(raw: bytes) -> bytes:
    """The content of a gzip, or the bytes themselves where they are none.

    Raises:
        ValueError: a small file would fill the memory. OSError, EOFError, zlib.error: damaged.
    """
    if raw[:2] != b"\x1f\x8b":
        return raw
    return BoundedGzip(io.BytesIO(raw), len(raw)).read()


class BoundedGzip(gzip.GzipFile):
    """A gzip that is read up to what data of its size hold.

    Args:
        file: at its beginning.
        size: of it, in bytes.
    """

    def __init__(self, file: BinaryIO | io.BufferedIOBase, size: int):
        super().__init__(fileobj=file, mode="rb")
        self._packed = size
        self._most = max(LEAST_UNPACKED, size * MOST_TIMES_PACKED)
        self._given = 0

    def read(self, size: int | None = -1) -> bytes:
        """Raises ValueError beyond the bound; else as a file's."""
        left = self._most + 1 - self._given
        asked = left if size is None or size < 0 else min(size, left)
        data = super().read(asked)
        self._given += len(data)
        if self._given > self._most:
            raise ValueError(
                f"{self._packed:,} bytes hold more than {self._most:,}, which no data of this "
                "kind do"
            )
        return data
