"""A run folder belongs to one process at a time: lock.json (`docs/faults.md` F72).

On one host a process lives if its number does, has not ended, and started when the lock states,
since numbers come again: in a container each process is number 1. On another host it lives as long
as it touches the lock now and then.

Not for: the threads of one process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resdet.errors import RunError

try:
    from fcntl import LOCK_EX, flock

    CAN_LOCK = True
except ImportError:  # Windows
    CAN_LOCK = False

logger = logging.getLogger("resdet.run.lock")

STALE_SECONDS = 600.0
SIGN_OF_LIFE_SECONDS = 60.0
# Where the file system has no hard links, a lock is empty for a moment.
WRITTEN_SECONDS = 10.0
WAIT_SECONDS = 5.0
# A process that has ended keeps its number until its parent asks, for ever in a container whose
# first process does not.
ENDED = ("Z", "X")


@contextlib.contextmanager
def held(path: Path, since: str, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock file `path` for this process; that of a dead process is taken over.

    Args:
        since: the time now, for messages of others.
        wait: a process of another host is waited for until its lock is stale.

    Raises:
        RunError: another live process holds it; states which, where and since when.
    """
    pid = os.getpid()
    mine = {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "since": since}
    while not _create(path, json.dumps(mine)):
        text = _read(path)
        page, can_end = _live_owner(path, text)
        if page and wait and can_end:
            logger.info("%s Waiting for it, at most %.0f s.", page, STALE_SECONDS)
            time.sleep(WAIT_SECONDS)
        elif page:
            raise RunError(page)
        else:
            _take_away(path, text)
    ended, name = threading.Event(), os.fspath(path)
    threading.Thread(target=_touch, args=(path, ended), daemon=True).start()
    try:
        yield
    finally:
        # One call into the system first: a signal that raises can strike in any function of Python.
        try:  # noqa: SIM105
            os.unlink(name)
        except FileNotFoundError:
            pass
        ended.set()


def _create(path: Path, text: str) -> bool:
    """Makes the lock with its content, in one go; False where there is one."""
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        own.write_text(text, encoding="utf-8")
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError:  # no hard links here, as on some network and USB disks
        return _create_empty(path, text)
    finally:
        own.unlink(missing_ok=True)
    return True


def _create_empty(path: Path, text: str) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as f:
        f.write(text)
    return True


def _read(path: Path) -> str | None:
    """The text of the lock; None where it is gone."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _take_away(path: Path, text: str | None) -> None:
    """Removes the dead lock with this text; one that another process has made since stays.

    One process at a time: between reading and removing, another could remove it and a third make
    its own.
    """
    with _alone(path.with_name(f"{path.name}.guard")):
        if text is not None and _read(path) == text:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(guard: Path) -> Iterator[None]:
    """Holds the system's own lock on a file, which a process cannot take to its grave."""
    if not CAN_LOCK:
        yield
        return
    while True:
        handle = os.open(guard, os.O_CREAT | os.O_RDWR)
        try:
            flock(handle, LOCK_EX)
            # The one before may have removed the file that was waited for.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == guard.stat().st_ino:
                    yield
                    guard.unlink()
                    return
        finally:
            os.close(handle)


def _live_owner(path: Path, text: str | None) -> tuple[str, bool]:
    """A page where the lock holds, else ""; and whether waiting may help."""
    if text is None:
        return "", False
    with contextlib.suppress(FileNotFoundError):
        idle = time.time() - path.stat().st_mtime
        owner = _owner(text)
        if owner is None:
            if idle >= WRITTEN_SECONDS:
                return "", False
            return (
                f"{path.parent} is in use by a process that starts. Try again in "
                f"{WRITTEN_SECONDS:g} s."
            ), True
        here = owner["host"] == socket.gethostname()
        if _lives(owner["pid"], owner.get("started")) if here else idle < STALE_SECONDS:
            return (
                f"{path.parent} is in use by process {owner['pid']} on {owner['host']} since "
                f"{owner.get('since')}. Choose another --output, or wait for it. Where that "
                f"process is gone for certain, remove {path}."
            ), not here
    return "", False


def _owner(text: str) -> dict[str, Any] | None:
    try:
        owner = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(owner, dict) or type(owner.get("pid")) is not int:
        return None
    return owner if isinstance(owner.get("host"), str) and owner["pid"] > 0 else None


def _lives(pid: int, started: Any) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    if (_stat(pid) or "?")[0] in ENDED:
        return False
    now = _started(pid)
    return now is None or started is None or now == started


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None where the system does not tell."""
    try:
        return int(_stat(pid)[19])
    except (ValueError, IndexError):
        return None


def _stat(pid: int) -> list[str]:
    """What Linux tells of a process: its state first; empty where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The name of the program, in brackets, may hold blanks.
    return stat.rpartition(")")[2].split()


def _touch(path: Path, ended: threading.Event) -> None:
    """A sign of life now and then, for processes on other hosts."""
    while not ended.wait(SIGN_OF_LIFE_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
