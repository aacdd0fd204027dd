"""What ends a training from outside, as a page: too little memory, a full disk, signals.

Not for: a checkpoint that fails (`checkpoint`), or checks before the start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch

from resdet.errors import ResdetError, TrainingStopped
from resdet.stop_signals import SIGNALS, are_sent_on

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Something else lies where a file belongs, or nobody may write there.
_BARRED = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS)
_FULL_SIGNS = ("No space left on device", "Disk quota exceeded", "File too large",
               "PytorchStreamWriter failed writing", "inline_container")  # fmt: skip
# torch's allocator for the CPU raises a plain RuntimeError.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class SignalCame(KeyboardInterrupt):
    """A signal, wherever the process was; passes by all that catches errors."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = signal.Signals(number)


@contextlib.contextmanager
def signals_raised() -> Iterator[None]:
    """Signals end the block by `SignalCame`, so that locks are given back and states are written.

    The loop and the evaluation, which end after a step or an image, take signals themselves
    meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def came(number: int, frame: Any) -> None:
        if are_sent_on():
            for one in SIGNALS:
                signal.signal(one, signal.SIG_IGN)
        raise SignalCame(number)

    before = {number: signal.signal(number, came) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def as_pages(folder: object) -> Iterator[None]:
    """Errors of memory, disk and places as TrainingStopped (exit code 3); checkpoints stay.

    Args:
        folder: the run folder, for the message.

    Raises:
        TrainingStopped: there is no memory or no disk left, or a file of the folder cannot be used.
    """
    try:
        yield
        return
    except Exception as error:
        page = _page(error, folder)
        if page is None:
            raise
    # Outside of the handler: the error keeps the memory, or the file, that it is about.
    raise TrainingStopped(page)


def is_full(error: BaseException) -> bool:
    """Whether a disk, or a user's share of it, is full."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    # torch's writer and safetensors have errors of their own.
    return not isinstance(error, ResdetError) and any(sign in str(error) for sign in _FULL_SIGNS)


def lacks_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU or of the machine is not enough."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    first = str(error).strip().partition("\n")[0]
    return any(sign in first for sign in _NO_MEMORY)


def _page(error: BaseException, folder: object) -> str | None:
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    if is_full(error):
        place = getattr(error, "filename", None) or folder
        return (
            f"no space is left on the disk of {place}: {text}. What is in {folder} is "
            "whole. Free space and run the same command with --resume."
        )
    if isinstance(error, ResdetError):
        return None
    if isinstance(error, OSError) and error.errno in _BARRED:
        return _page_of_place(error, folder)
    if not lacks_memory(error):
        return None
    return (
        f"the memory is not enough: {text}\n"
        "Less is needed with ENGINE.IMAGES_PER_PASS 1 (the same batch in parts), ENGINE.BF16 auto, "
        "smaller images (INPUT.MIN_SIZE_TRAIN, PRETRAIN.CROP) or a smaller SOLVER.IMS_PER_BATCH; "
        f"the first changes what is computed by rounding alone. The last checkpoint in {folder} "
        "stays as it is."
    )


def _page_of_place(error: OSError, folder: object) -> str | None:
    """Of a file in the run folder that cannot be opened or written; None for one elsewhere."""
    # Of a rename the second is where the file belongs.
    place = os.path.abspath(os.fsdecode(error.filename2 or error.filename or ""))
    root = os.path.abspath(str(folder))
    if place != root and not place.startswith(root + os.sep):
        return None
    return (
        f"{place} cannot be used: {error.strerror}. Move away what lies there, or make {folder} "
        "writable, and run the same command with --resume auto."
    )
