"""The packages that were made on this machine: one JSON object a line, in a folder of the user.

A server counts uploads, and nobody else does; this counts packages, which is the nearest that can
be known without asking it. Lines are only ever added, each by one write, so that two commands at
once lose nothing; a line that a crash cut off is passed over.

Not for: what servers allow (`servers`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resdet import bounded_files
from resdet.printable import json_text
from resdet.submission.servers import TestSet


def ledger_path() -> Path:
    """$RESDET_LEDGER, or resdet/submissions.jsonl in the user's data folder."""
    if named := os.environ.get("RESDET_LEDGER"):
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "resdet" / "submissions.jsonl"


def note(entry: dict[str, Any], path: Path | None = None) -> Path:
    """Adds a package; gives the ledger's path.

    Raises:
        OSError: it cannot be written.
    """
    path = path or ledger_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json_text(entry) + "\n"
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = "\n" + line  # after a line that was cut off
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    return path


def read(path: Path | None = None) -> list[dict[str, Any]]:
    """All packages in the order in which they were made; none where there is no ledger."""
    try:
        lines = bounded_files.read_text(path or ledger_path()).splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
            json.dumps(entry, allow_nan=False)  # NaN, which is no JSON
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def count(
    entries: Sequence[dict[str, Any]], server: str, test_set: TestSet, day: str | None = None
) -> int:
    """Different packages for a test set, of one day (UTC, "2026-11-24") or ever."""
    return len(
        {
            str(entry.get("sha256"))
            for entry in entries
            if entry.get("server") == server
            and entry.get("set") == test_set.name
            and (day is None or str(entry.get("time", "")).startswith(day))
        }
    )
