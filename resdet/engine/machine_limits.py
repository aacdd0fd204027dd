"""What ends a training from outside, as a page: memory that is not enough, a disk that is full.

Not for: a checkpoint that fails (`checkpoint`), or checks before the start.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import torch

from resdet.errors import TrainingStopped

FULL = (errno.ENOSPC, errno.EDQUOT)
# torch's allocator for the CPU raises a plain RuntimeError.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@contextlib.contextmanager
def as_pages(folder: object) -> Iterator[None]:
    """Errors of memory and disk as TrainingStopped (exit code 3); the last checkpoint stays.

    Args:
        folder: the run folder, for the message.

    Raises:
        TrainingStopped: there is no memory or no disk left.
    """
    try:
        yield
        return
    except (MemoryError, OSError, RuntimeError) as error:
        page = _page(error, folder)
        if page is None:
            raise
    # Outside of the handler: the error keeps the memory, or the file, that it is about.
    raise TrainingStopped(page)


def _page(error: BaseException, folder: object) -> str | None:
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    if isinstance(error, OSError) and error.errno in FULL:
        place = error.filename or folder
        return (
            f"no space is left on the disk of {place}: {error.strerror}. What is in {folder} is "
            "whole. Free space and run the same command with --resume."
        )
    lacks_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in text for sign in _NO_MEMORY
    )
    if not lacks_memory:
        return None
    return (
        f"the memory is not enough: {text}\n"
        "Less is needed with ENGINE.IMAGES_PER_PASS 1 (the same batch in parts), ENGINE.BF16 auto, "
        "smaller images (INPUT.MIN_SIZE_TRAIN, PRETRAIN.CROP) or a smaller SOLVER.IMS_PER_BATCH; "
        f"the first changes what is computed by rounding alone. The last checkpoint in {folder} "
        "stays as it is."
    )
