"""Several processes: a model for all of them, and how many there are."""

from __future__ import annotations

from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def distributed(model: nn.Module) -> nn.Module:
    """The model in DistributedDataParallel where there are several processes, else itself."""
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    ids = [comm.get_local_rank()] if device.type == "cuda" else None
    # broadcast_buffers off: BN statistics are recomputed at the end, frozen ones never change.
    return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
