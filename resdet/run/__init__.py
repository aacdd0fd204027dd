"""The run folder: what is in it, who owns it, how it is written and read back (`folder`)."""

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
