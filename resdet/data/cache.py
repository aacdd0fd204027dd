"""Facts about files, kept in the user's cache folder and checked before use.

An entry is used only while size, time of change and inode of its file are what they were; a name
or a date alone decides nothing (`docs/faults.md` F10). Data folders are never written to (F69), and
a cache folder that cannot be written only costs time.

Not for: results that do not follow from the file alone; options are applied to what is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from resdet.errors import ResdetError
from resdet.run.folder import write_json

logger = logging.getLogger(__name__)

# Files changed within so many seconds are not kept: a second change could have the same time.
SETTLED_SECONDS = 2.0


def cache_folder() -> Path:
    """$RESDET_CACHE, or ~/.cache/resdet."""
    return Path(os.environ.get("RESDET_CACHE") or Path.home() / ".cache" / "resdet")


class FolderCache:
    """One value per file of one folder.

    Args:
        kind: what the values are; a folder of its own in the cache.
        version: of their form and of whatever made them; another version starts afresh.
        folder: whose files they are about.
        is_used: False reads and writes nothing, with the same results.
    """

    def __init__(self, kind: str, version: str, folder: str, *, is_used: bool = True):
        key = hashlib.sha1(os.path.abspath(folder).encode("utf-8", "surrogateescape")).hexdigest()
        self.path = cache_folder() / kind / f"{key}.json"
        self.head = {"version": version, "folder": os.path.abspath(folder)}
        self.is_used = is_used
        self.is_changed = False
        self.entries: dict[str, list[Any]] = self._read() if is_used else {}

    def _read(self) -> dict[str, list[Any]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if {k: content[k] for k in self.head} == self.head:
                return dict(content["files"])
            logger.info("%s is of another version and is made anew", self.path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.info("%s is not readable and is made anew (%s)", self.path, error)
        return {}

    def get(self, name: str, stat: os.stat_result) -> Any:
        """What is known about the file `name`, or None."""
        entry = self.entries.get(name)
        if entry is None or entry[:3] != [stat.st_size, stat.st_mtime_ns, stat.st_ino]:
            return None
        return entry[3]

    def put(self, name: str, stat: os.stat_result, value: Any) -> None:
        if time.time() - stat.st_mtime > SETTLED_SECONDS:
            self.entries[name] = [stat.st_size, stat.st_mtime_ns, stat.st_ino, value]
            self.is_changed = True

    def save(self) -> None:
        if not self.is_used or not self.is_changed:
            return
        try:
            write_json(self.path, {**self.head, "files": self.entries}, indent=None)
        except (OSError, ValueError, ResdetError) as error:
            logger.info(
                "%s cannot be written (%s); files are read again next time", self.path, error
            )
