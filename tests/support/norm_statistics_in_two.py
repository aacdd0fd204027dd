"""What two processes of torchrun make of a set's BN statistics; a script, printing JSON from each.

Not for: a whole training of two processes (`two_processes`).
"""

from __future__ import annotations

import json

import torch
from detectron2.utils import comm
from torch import nn

from resdet.engine.processes import disconnect
from resdet.pretrain.recipe.norm_statistics import recompute_bn_statistics


def main() -> None:
    torch.distributed.init_process_group("gloo")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, 5, 5, generator=generator)
    x = x * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) + 7
    x[20:] += 4
    mine = x[:33] if comm.get_rank() == 0 else x[33:]
    net = nn.Sequential(nn.BatchNorm2d(3))
    batches = [(part, None) for part in mine.split(8)]
    _, images = recompute_bn_statistics(net, batches, lambda t: t, len(batches))
    mean, variance = net[0].running_mean.tolist(), net[0].running_var.tolist()
    print(json.dumps({"images": images, "mean": mean, "variance": variance}), flush=True)


if __name__ == "__main__":
    main()
    disconnect()
