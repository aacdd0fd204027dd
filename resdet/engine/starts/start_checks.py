"""Whether this machine has the device, the disk and the shared memory that will be needed.

They would show late: a full disk at a checkpoint, shared memory as a loader that never answers.

Not for: a machine in general (`resdet doctor`), or what goes wrong all the same (`machine_limits`).
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from torch import nn

from resdet.config import Config
from resdet.engine.solver.optimizers import copies_in_checkpoint
from resdet.errors import ConfigError, RunError

SHARED_MEMORY = Path("/dev/shm")
# Log, metrics, results and pictures beside the checkpoints.
BESIDE_BYTES = 100 << 20
# More would slow down what closes every handle that it might have.
MOST_OPEN_FILES = 65_536


def settle_device(config: Config) -> None:
    """MODEL.DEVICE as stated, else a GPU or the CPU, as found here.

    Raises:
        ConfigError: a GPU was stated that is not there.
    """
    cfg, has_cuda = config.cfg, torch.cuda.is_available()
    if cfg.MODEL.DEVICE == "auto" or ("MODEL.DEVICE" not in config.stated and not has_cuda):
        config.stated.pop("MODEL.DEVICE", None)
        config.fill({"MODEL.DEVICE": "cuda" if has_cuda else "cpu"}, "the device found here")
    device = cfg.MODEL.DEVICE
    if not device.startswith("cuda"):
        return
    count = torch.cuda.device_count() if has_cuda else 0
    if not count:
        raise ConfigError(
            f"MODEL.DEVICE is {device}, but torch finds no GPU here. Set MODEL.DEVICE auto."
        )
    if (torch.device(device).index or 0) >= count:
        raise ConfigError(
            f"MODEL.DEVICE is {device}, but this machine has {count} "
            f"{'GPU' if count == 1 else 'GPUs'}, counted from 0. Set MODEL.DEVICE cuda."
        )


def require_equal_shares(batches: Mapping[str, int]) -> None:
    """Raises ConfigError where the processes cannot share a batch equally.

    Args:
        batches: key of the config to the images of a step.
    """
    world = comm.get_world_size()
    for key, batch in batches.items():
        if batch % world:
            raise ConfigError(
                f"{key} is {batch}, which {world} processes cannot share "
                "equally. Choose a multiple of their number (with the rate by the linear rule), or "
                "start fewer."
            )


def weight_bytes(model: nn.Module) -> int:
    """Of parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)


@dataclass(frozen=True)
class DiskNeed:
    """What a training writes, in bytes.

    Attributes:
        checkpoint: one of them. kept: how many stay.
        results: files of weights alone, and what lies beside them.
        proposals: files of proposals that stay. proposal_parts: of the largest, while it is made.
    """

    checkpoint: int
    kept: int
    results: int
    proposals: int = 0
    proposal_parts: int = 0

    @classmethod
    def of_training(cls, cfg: Any, model: nn.Module) -> DiskNeed:
        """The need of one model's training.

        Args:
            model: on "meta", it needs no memory.
        """
        weights = weight_bytes(model)
        # The best so far is one more file, and another while it is written.
        files = 3 if cfg.TEST.BEST_METRIC else 1
        return cls(
            checkpoint=copies_in_checkpoint(cfg) * weights,
            kept=max(cfg.ENGINE.KEEP_CHECKPOINTS, 2),
            results=files * weights + BESIDE_BYTES,
        )

    @property
    def most(self) -> int:
        """At the time when it is most."""
        return self.stays + max(self.checkpoint, self.proposal_parts)

    @property
    def stays(self) -> int:
        """What is there at the end."""
        return self.kept * self.checkpoint + self.results + self.proposals

    def __str__(self) -> str:
        proposals = ""
        if self.proposals:
            proposals = (
                f", at most {size_in_words(self.proposals)} of proposals and "
                f"{size_in_words(self.proposal_parts)} more while they are joined"
            )
        return (
            f"{self.kept} checkpoints of {size_in_words(self.checkpoint)}, one more while it is "
            f"written, and the result{proposals}"
        )


def require_disk(folder: Path, need: int, why: object, *, there: int = 0) -> None:
    """Room for what a training will write.

    Args:
        need: bytes. why: what they are, for the message.
        there: of them, on the disk already, where a training is resumed.

    Raises:
        RunError: the disk of `folder` has less; states both.
    """
    free = free_bytes(folder)
    if free < need - there:
        more = f", {size_in_words(there)} of it there already" if there else ""
        raise RunError(
            f"the disk of {folder} has {size_in_words(free)} free; this training needs about "
            f"{size_in_words(need)} ({why}){more}. Free space, or choose another --output."
        )


def free_bytes(folder: Path) -> int:
    """Of the disk that a folder is on, or that it will be on."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def bytes_in(folder: Path) -> int:
    """Of all files in a folder, which others may take away meanwhile; 0 where it is not there."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def require_shared_memory(workers: int, ahead: int, tensors: Sequence[int]) -> None:
    """Room for the batches that loader workers have ready; without it they wait for ever.

    Args:
        workers: of this machine's processes together.
        ahead: batches that each worker has ready.
        tensors: bytes of each tensor of one process's share of a batch; each is a file of whole
            pages.

    Raises:
        RunError: /dev/shm is smaller; states what to type.
    """
    if workers == 0 or not SHARED_MEMORY.is_dir():
        return
    batch = sum(math.ceil(size / mmap.PAGESIZE) * mmap.PAGESIZE for size in tensors)
    need, free = workers * (ahead + 1) * batch, shutil.disk_usage(SHARED_MEMORY).free
    if free < need:
        raise RunError(
            f"{SHARED_MEMORY} has {size_in_words(free)} free; {workers} loader workers may need "
            f"{size_in_words(need)} of it. Give the container more (docker run --shm-size=8g), or "
            "use fewer workers: DATALOADER.NUM_WORKERS 0."
        )


def raise_open_files() -> None:
    """Raises the limit of open files to the most that this user may have (F76).

    Loader workers, result files and event files add up; many systems begin with 1024.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        # A container may refuse what it states.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def processes_here(world_size: int) -> int:
    """Processes of this training on this machine: torchrun tells, or Detectron2's `launch`; all,
    where neither does."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"])
    try:
        return comm.get_local_size() if world_size > 1 else 1
    except AssertionError:  # no group of this machine
        return world_size


def size_in_words(number: float) -> str:
    """Bytes as "28 MB" or "1.5 GB", of 1024."""
    return f"{number / 2**30:.1f} GB" if number >= 2**30 else f"{number / 2**20:.0f} MB"
