"""Bytes at an address: a path on this machine, or a URL that fsspec opens (s3://, https://, …).

Paths are read by the system alone; fsspec is imported when a URL is met. Each process opens its
own files and connections, also one that was forked while others were open.

Not for: what the bytes mean.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from resdet import bounded_files
from resdet.errors import DataError

logger = logging.getLogger(__name__)

# A process may have 1,024 files open, on many systems; ImageNet comes in as many shards.
MOST_OPEN = 128
# Seconds before a request is sent again, where an object store or a network fails for a moment.
WAITS = (1.0, 4.0)
_VERSIONS = (
    "ETag", "etag", "generation", "md5Hash", "version_id", "LastModified", "last_modified", "mtime",
    "updated", "created",
)  # fmt: skip

# Failures that asking again does not mend.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError)

Answer = TypeVar("Answer")


def is_remote(address: str) -> bool:
    """Whether it is a URL; file:// is a path."""
    return "://" in address and not address.startswith("file://")


def local_path(address: str) -> str:
    """The absolute path of an address that is no URL."""
    if address.startswith("file://"):
        address = url2pathname(urlsplit(address).path)
    return str(Path(address).expanduser().absolute())


def base_name(address: str) -> str:
    """The last part, as messages have it."""
    return address.rpartition("/")[2] or address


def folder_of(address: str) -> str:
    return address.rpartition("/")[0] if is_remote(address) else os.path.dirname(address)


def beside(address: str, name: str) -> str:
    """The address of another file in the same folder."""
    return f"{folder_of(address)}/{name}"


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path on it.

    Raises:
        DataError: fsspec, or its part for this kind of URL, is not installed.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise DataError(
            f'{address} needs the package fsspec. Run: pip install "resdet[remote]"'
        ) from None
    try:
        found: tuple[Any, str] = url_to_fs(address)
    except ImportError as error:
        raise DataError(
            f"{address} needs a package of fsspec that is not installed here: {error}"
        ) from None
    except ValueError as error:
        raise DataError(f"{address} cannot be opened by fsspec: {error}.") from None
    return found


def exists(address: str) -> bool:
    """Whether there is a file. Raises DataError where a store does not answer."""
    if not is_remote(address):
        return os.path.isfile(address)
    fs, path = file_system(address)
    return bool(_asked(address, lambda: fs.isfile(path)))


def listed(pattern: str) -> list[str]:
    """The addresses of files that match a pattern with *, ? or [], sorted."""
    if not is_remote(pattern):
        return sorted(p for p in glob.glob(pattern) if os.path.isfile(p))
    fs, path = file_system(pattern)
    found: Sequence[str] = _asked(pattern, lambda: fs.glob(path))
    return sorted(fs.unstrip_protocol(p) for p in found)


def read_whole(address: str) -> bytes:
    """All bytes of a small file.

    Raises:
        OSError: a path that cannot be read. DataError: a URL that cannot.
    """
    if not is_remote(address):
        return bounded_files.read_bytes(address)
    fs, path = file_system(address)
    return bytes(_asked(address, lambda: fs.cat_file(path)))


def stamps_of(addresses: Sequence[str]) -> np.ndarray:
    """(N, 3) int64: size, time of change in ns and inode of each file; of a URL size, a number for
    what the store has to tell versions apart (0 where it has nothing), and 0.

    Raises:
        OSError: a path is not there. DataError: a URL is not.
    """
    rows = np.zeros((len(addresses), 3), dtype=np.int64)
    for row, address in enumerate(addresses):
        rows[row] = _remote_stamp(address) if is_remote(address) else _stamp(os.stat(address))
    return rows


def _stamp(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino & (2**63 - 1)


def _remote_stamp(address: str) -> tuple[int, int, int]:
    fs, path = file_system(address)
    facts: dict[str, Any] = _asked(address, lambda: fs.info(path))
    if facts.get("size") is None:
        raise DataError(
            f"{address}: its server does not tell its size, so that no part of it can be read. "
            "Copy it here, or to a store that answers requests for ranges."
        )
    told = "\n".join(f"{key}={facts[key]}" for key in _VERSIONS if facts.get(key))
    version = int.from_bytes(hashlib.sha1(told.encode()).digest()[:7], "big") if told else 0
    return int(facts["size"]), version, 0


def _asked(address: str, ask: Callable[[], Answer]) -> Answer:
    """An answer of a store, asked for again where it may be a moment's failure."""
    for wait in (*WAITS, None):
        try:
            return ask()
        except _FINAL as error:
            raise DataError(
                f"{address} cannot be read ({type(error).__name__}: {error}). Is the address "
                "right, and may you read it?"
            ) from None
        except MemoryError:
            raise
        except Exception as error:  # each store has errors of its own
            if wait is None:
                raise DataError(
                    f"{address} cannot be read, asked {len(WAITS) + 1} times "
                    f"({type(error).__name__}: {error})."
                ) from None
            logger.info("%s: %s: %s; asked again", address, type(error).__name__, error)
            time.sleep(wait)
    raise AssertionError("the last failure is raised")


class Handles:
    """Reads parts of files that are as they were; keeps the last ones open, in each process.

    Args:
        stamps: (N, 3) of `stamps_of`: what is opened is compared with it.
    """

    def __init__(self, addresses: Sequence[str], stamps: np.ndarray):
        self.addresses = addresses
        self.stamps = stamps
        self._open: OrderedDict[int, BinaryIO | tuple[Any, str]] = OrderedDict()
        self._process = os.getpid()

    def __reduce__(self) -> Any:
        # Open files do not go to a worker that is spawned.
        return Handles, (self.addresses, self.stamps)

    def read(self, number: int, start: int, length: int) -> bytes:
        """Bytes of file `number`; fewer than `length` where it ends.

        Raises:
            DataError: it is not there, or not what it was.
        """
        handle = self._handle(number)
        address = self.addresses[number]
        if not isinstance(handle, tuple):
            try:
                return os.pread(handle.fileno(), length, start)
            except OSError as error:
                raise DataError(f"{address} cannot be read: {error.strerror}.") from None
        fs, path = handle
        end = min(start + length, int(self.stamps[number, 0]))
        if end <= start:
            return b""
        data: bytes = _asked(address, functools.partial(fs.cat_file, path, start=start, end=end))
        if len(data) > length:
            raise DataError(
                f"{address}: {length:,} bytes were asked for and {len(data):,} came: its server "
                "does not answer requests for ranges. Copy it here."
            )
        return data

    def _handle(self, number: int) -> BinaryIO | tuple[Any, str]:
        if self._process != os.getpid():
            # A connection is its process's own. Files opened before the fork are left to it.
            self._open, self._process = OrderedDict(), os.getpid()
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        handle = self._opened(number)
        self._open[number] = handle
        if len(self._open) > MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            if not isinstance(oldest, tuple):
                oldest.close()
        return handle

    def _opened(self, number: int) -> BinaryIO | tuple[Any, str]:
        address = self.addresses[number]
        if is_remote(address):
            if _remote_stamp(address) != tuple(self.stamps[number].tolist()):
                raise _changed(address)
            return file_system(address)
        try:
            file = bounded_files.open_file(address)
        except OSError as error:
            raise DataError(
                f"{address} cannot be read: {error.strerror or error}. It was there at the start: "
                "put it back, and go on with --resume."
            ) from None
        if _stamp(os.fstat(file.fileno())) != tuple(self.stamps[number].tolist()):
            file.close()
            raise _changed(address)
        return file


def _changed(address: str) -> DataError:
    return DataError(
        f"{address} changed since its index was made: its size, time or version is another. "
        "Start again: shards are then read anew, and a resume compares them with those before."
    )
