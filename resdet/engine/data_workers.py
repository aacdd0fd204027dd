"""Data workers of both trainers: how many processes read ahead, and how they behave.

What a batch holds does not depend on them: random numbers belong to samples (`resdet.data.order`).

Not for: what they read (`resdet.pretrain.image_loading`, `resdet.detect.loading`).
"""

from __future__ import annotations

import contextlib
import gc
import math
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from detectron2.utils import comm

from resdet.engine.machine_limits import is_full
from resdet.errors import DataError, TrainingStopped
from resdet.printable import show
from resdet.stop_signals import SIGNALS

# More are limited by memory and disk.
MOST_WORKERS = 16
# Images that each worker may have ready: a large one now and then must not stop the net.
_IMAGES_AHEAD = 16
# Not on macOS: there a signal to the group ends the workers, too, and the step is lost.
_CAN_WAIT = hasattr(signal, "sigwaitinfo")
# What torch's loader reports where a worker is gone, or has no handles or shared memory left: it
# has no error of its own for that.
_LOST_WORKER = (
    "DataLoader worker",
    "DataLoader timed out",
    "Too many open files",
    "shared memory",
    "ancdata",
)
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container (cgroup 2)."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="utf-8").split()
        return max(1, min(cores, math.floor(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup 2, or "max": no quota
        return cores


def num_workers(cfg: Any, *, images: int, in_memory: bool = False) -> int:
    """Workers of one process: DATALOADER.NUM_WORKERS, or what ENGINE.WORKERS auto makes of it.

    Args:
        images: in the set.
        in_memory: decoded images lie, or are kept, in this process; workers would copy them.
    """
    if cfg.ENGINE.WORKERS != "auto":
        return int(cfg.DATALOADER.NUM_WORKERS)
    if in_memory:
        return 0
    processes = comm.get_world_size()
    if cfg.MODEL.DEVICE.startswith("cuda"):
        processes = min(processes, max(1, torch.cuda.device_count()))
        for_net = 1
    else:
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        for_net = torch.get_num_threads()
    batches = math.ceil(images / cfg.SOLVER.IMS_PER_BATCH)
    spare = usable_cores() // processes - for_net
    return max(0, min(spare, batches, MOST_WORKERS))


def batches_ahead(share: int) -> int:
    """How many batches a worker has ready, where one has `share` images."""
    return max(2, math.ceil(_IMAGES_AHEAD / max(1, share)))


class Loader(torch.utils.data.DataLoader[Any]):
    """torch's, with workers that take signals from this process alone.

    A signal to the whole group (systemd, SLURM, Ctrl-C) is for the trainer, which ends after its
    step; without its workers it could not finish that.

    Args:
        share: images of one process in a batch.
        options: of torch's, but for those that are set here: one thread per worker, enough read
            ahead, pinned memory where a GPU is in use.
    """

    # ENGINE.WORKER_TIMEOUT, of every loader in this process: set once, as threads are.
    silent_seconds: ClassVar[float] = 0.0

    def __init__(self, dataset: Any, workers: int, share: int, **options: Any):
        if workers > 0:
            options["timeout"] = self.silent_seconds
            options["prefetch_factor"] = batches_ahead(share)
            options["worker_init_fn"] = start_worker
        super().__init__(
            dataset, num_workers=workers, pin_memory=torch.cuda.is_initialized(), **options
        )

    def __iter__(self) -> Any:
        if self.num_workers == 0 or not _CAN_WAIT:
            return super().__iter__()
        # Workers begin with these blocked, so that there is no moment in which one strikes.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        # What is there now is not looked at by a worker's garbage collector, which would write to
        # every object and so make the worker a copy of it.
        gc.freeze()
        try:
            return super().__iter__()
        finally:
            gc.unfreeze()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(worker: int) -> None:
    """What a worker does first."""
    torch.set_num_threads(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if _CAN_WAIT:
        threading.Thread(target=_end_with_the_trainer, daemon=True).start()
    if torch.utils.data.get_worker_info() is not None:
        # Threads of a worker hand its batches over. Where one cannot (no shared memory, no file
        # handles) Python prints why, and the trainer would wait for that batch for ever.
        multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_for)  # type: ignore[attr-defined]
        sys.excepthook = lambda kind, error, trace: _end_for(error)


def _end_for(error: BaseException, batch: Any = None) -> None:
    """Ends this worker, which the trainer notices."""
    show(f"a loader worker ends: {type(error).__name__}: {error}", error=True)
    sys.stderr.flush()
    os._exit(1)


def _end_with_the_trainer() -> None:
    """Ends this worker at a signal of its parent, as torch and Python send at their end."""
    while signal.sigwaitinfo(SIGNALS).si_pid != os.getppid():
        pass
    os._exit(0)


@contextlib.contextmanager
def no_word_of_workers() -> Iterator[None]:
    """Workers that end meanwhile raise nothing: torch's handler would, wherever the process is."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        # None is a handler that Python did not set.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def why_lost(error: Exception) -> str:
    """Why images could not be had, the error's own message alone; "" for an error of another kind.

    A worker of the loader puts its traceback before it.
    """
    if type(error) is EOFError and not str(error):
        # Of the connection over which a worker hands its tensors over; Python's has no words.
        return "a loader worker was gone while it handed images over"
    text = str(error)
    is_loaders = any(sign in text for sign in _LOST_WORKER)
    if not isinstance(error, DataError | OSError) and not is_loaders:
        return ""
    if "Original Traceback" in text:
        text = text.rpartition(f"{type(error).__name__}: ")[2]
    return text.strip() or type(error).__name__


@contextlib.contextmanager
def lost_images_stop() -> Iterator[None]:
    """Images that are lost while a trained net is measured end the training as others do.

    Raises:
        TrainingStopped: they could not be read.
    """
    try:
        yield
        return
    except (DataError, RuntimeError, OSError, EOFError) as error:
        why = why_lost(error)
        if not why or is_full(error) or _is_of_writing(error):
            raise
    raise TrainingStopped(
        f"the images to measure on could not be read: {why}\nThe training is in checkpoints/. "
        "Go on with --resume."
    )


def _is_of_writing(error: Exception) -> bool:
    """Whether it is `atomic_path` that failed, by its temporary file: images are never renamed."""
    return isinstance(error, OSError) and str(error.filename or "").endswith(".tmp")
