"""The run folder: `layout` names its files, `folder` reads and writes it and holds its lock."""

from resdet.run.folder import (
    KINDS,
    STATES,
    Run,
    atomic_path,
    read_json,
    utc_now,
    write_json,
    write_text,
)

__all__ = [
    "KINDS",
    "STATES",
    "Run",
    "atomic_path",
    "read_json",
    "utc_now",
    "write_json",
    "write_text",
]
