"""Data workers of both trainers: how many processes read ahead, and how they behave.

What a batch holds does not depend on them: random numbers belong to samples (`resdet.data.order`).

Not for: what they read (`resdet.pretrain.image_loading`, `resdet.detect.loading`).
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm

# More are limited by memory and disk.
MOST_WORKERS = 16
# Images that each worker may have ready: a large one now and then must not stop the net.
_IMAGES_AHEAD = 16
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


def loader_options(
    workers: int, batch_size: int, init: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Arguments of a `DataLoader`: one thread per worker, enough read ahead.

    Args:
        batch_size: of one process.
        init: called in each worker with its number.
    """
    if workers == 0:
        return {"num_workers": 0}
    return {
        "num_workers": workers,
        "prefetch_factor": max(2, math.ceil(_IMAGES_AHEAD / max(1, batch_size))),
        "worker_init_fn": _WorkerStart(init),
    }


class _WorkerStart:
    """What a worker does first; a class, as it may have to be pickled."""

    def __init__(self, init: Callable[[int], None] | None):
        self.init = init

    def __call__(self, worker: int) -> None:
        torch.set_num_threads(1)
        if "cv2" in sys.modules:
            sys.modules["cv2"].setNumThreads(1)
        if self.init is not None:
            self.init(worker)
