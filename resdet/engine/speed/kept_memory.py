"""Memory that a step has freed stays with the process for the next step, one key.

glibc gives large blocks back to the system as soon as they are freed, and the next step allocates
every page of them again. The numbers of a training are the same; the process does not shrink
between its steps.

Not for: what lives on a GPU, where torch keeps freed memory anyway.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h: no block is mapped on its own, and the heap's end is not given back.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def can_keep() -> bool:
    """Whether the C library has these settings: glibc does."""
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def keep_freed(setting: str) -> bool:
    """Applies ENGINE.KEEP_MEMORY, "off" or "auto" (on where it can be), to the whole process from
    now on; returns whether it is on."""
    if setting == "off" or not can_keep():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
