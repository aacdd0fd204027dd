"""Files that are there whole or not at all: written beside their place, then renamed.

Not for: what lies in them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary sibling of `path`, moved over it when the block ends without an error.

    Raises:
        FileExistsError: there is a device, a pipe or a socket, which a file would replace for all.
    """
    path = Path(path)
    _refuse_device(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        # As any new file here; safetensors writes files that only their owner can read.
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_device(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except (OSError, ValueError):  # there is nothing, or nothing can be there: writing tells
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
        raise FileExistsError(errno.EEXIST, "it is a device, a pipe or a socket", str(path))


def write_text(path: Path | str, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
