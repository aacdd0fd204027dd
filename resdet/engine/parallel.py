"""Several processes: how they find each other, and a model for all of them."""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import TypeVar

import torch
from detectron2.utils import comm
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.nn.parallel import DistributedDataParallel

# What gloo and NCCL report where a process of the group is gone.
LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out",
             "Connection refused", "NCCL", "Socket closed")  # fmt: skip


POLL_SECONDS = 0.02


def connect(backend: str, timeout: timedelta) -> None:
    """`init_process_group` for the processes of torchrun, those that it has restarted too.

    The store of torchrun outlives them. torch 2.14 keeps the addresses of every attempt there
    under the same names, so that with `--max-restarts` a process is given those of killed ones: it
    is refused, or waits. Here each attempt has names of its own.

    Raises:
        RuntimeError: a process did not come in time, or cannot be reached.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        torch.distributed.init_process_group(backend, timeout=timeout)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # torch's stubs leave it out of the public names.
    store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=False, timeout=timeout
    )
    own = PrefixStore(attempt_of(store, rank, size, timeout), store)
    torch.distributed.init_process_group(
        backend, store=own, rank=rank, world_size=size, timeout=timeout
    )


def attempt_of(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """One name for all processes that live now; the first one makes it.

    torchrun's own count of restarts is no such name: its agents count each for itself. What dead
    processes have asked or answered does no harm: they confirm nothing.

    Raises:
        RuntimeError: a process did not come in time.
    """
    own = f"resdet/{uuid.uuid4().hex}"
    if rank > 0:
        store.set(f"resdet/asks/{rank}", own)
        name = bytes(store.get(own)).decode()
        store.set(f"{name}/{rank}", "has it")
        return name
    missing, until = set(range(1, size)), time.monotonic() + timeout.total_seconds()
    while missing:
        for other in sorted(missing):
            asks = f"resdet/asks/{other}"
            if store.check([f"{own}/{other}"]):
                missing.remove(other)
            elif store.check([asks]):
                store.set(bytes(store.get(asks)).decode(), own)
        if missing and time.monotonic() > until:
            raise RuntimeError(f"processes {sorted(missing)} did not come within {timeout}")
        time.sleep(POLL_SECONDS if missing else 0.0)
    return own


def is_lost_peer(error: Exception) -> bool:
    """Whether an exchange failed because another process of the group is gone."""
    several = comm.get_world_size() > 1
    return several and any(sign in str(error) for sign in LOST_PEER)


T = TypeVar("T")


def gathered(value: T) -> list[T]:
    """The value of each process, in the order of ranks; tensors on the CPU."""
    return [value] if comm.get_world_size() == 1 else list(comm.all_gather(value))


def distributed(model: nn.Module) -> nn.Module:
    """The model in DistributedDataParallel where there are several processes, else itself."""
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    # Not comm.get_local_rank(): under torchrun there is no group that it could ask.
    ids = [device.index or 0] if device.type == "cuda" else None
    # broadcast_buffers off: each process keeps its own BN statistics until `average_buffers`.
    return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)


def average_buffers(model: nn.Module) -> None:
    """Means over the processes of all statistics, so that every process measures one net.

    Live batch norm sees only its own process's images; nothing changes for one process.
    """
    if comm.get_world_size() == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if not buffers:
        return
    # One exchange, in double: the mean of equal numbers, as of frozen statistics, is theirs to the
    # bit, which a third of a float32's sum is not.
    every = torch.cat([buffer.flatten().double() for buffer in buffers])
    torch.distributed.all_reduce(every)
    every /= comm.get_world_size()
    for buffer, mean in zip(buffers, every.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))
