"""Files of others, opened so that none makes the reader wait for ever or fills the memory.

A pipe with a file's name is never written to, and a small archive may hold any number of zeros.

Not for: what the bytes mean.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

# Unpacked, more than both is no data: annotations and results shrink to a tenth.
LEAST_UNPACKED, MOST_TIMES_PACKED = 256 << 20, 200
# A shell's <(…) and a - of other tools: streams that somebody gave to be read.
_STREAMS = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")


def open_file(path: Path | str) -> BinaryIO:
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


def read_bytes(path: Path | str) -> bytes:
    """All bytes of a regular file; raises as `open_file`."""
    with open_file(path) as file:
        return file.read()


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
