"""Several processes: a model for all of them, and how many there are."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# What gloo and NCCL report where a process of the group is gone.
LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out",
             "Connection refused", "NCCL", "Socket closed")  # fmt: skip


def is_lost_peer(error: Exception) -> bool:
    """Whether an exchange failed because another process of the group is gone."""
    several = comm.get_world_size() > 1
    return several and any(sign in str(error) for sign in LOST_PEER)


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
