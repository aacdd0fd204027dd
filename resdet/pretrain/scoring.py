"""Top-1 and top-5 error of a classifier.

Not for: multi-crop protocols; a number here is 1-crop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from detectron2.utils import comm
from torch import nn

from resdet import profile
from resdet.engine.evaluation import evaluating
from resdet.errors import CheckFailed
from resdet.pretrain.image_loading import Batch

Prepare = Callable[[torch.Tensor], torch.Tensor]


def errors_of(logits: torch.Tensor, labels: torch.Tensor) -> tuple[int, int]:
    """How many of N images are wrong at top-1 and at top-5; logits (N, K), labels (N,).

    With fewer than five classes top-5 counts all of them.
    """
    rank = rank_of(logits, labels)
    return int((rank >= 1).sum()), int((rank >= 5).sum())


def rank_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How many classes are ahead of the right one: (N,), 0 or above; the host does not wait.

    Equal logits are ordered by class, so a net with constant logits is not right by chance.
    """
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    ahead = (logits > own) | ((logits == own) & (classes[None] < labels[:, None]))
    # A NaN is greater than nothing and would count as right.
    return ahead.sum(1) + torch.isnan(own[:, 0]) * logits.shape[1]


def score(
    net: nn.Module, batches: Iterable[Batch], prepare: Prepare, expected: int, name: str
) -> dict[str, Any]:
    """Errors in percent over all processes, with the count of images.

    Raises:
        CheckFailed: an image was seen twice or never; no number then.
    """
    wrong1 = wrong5 = 0
    seen: list[int] = []
    with profile.section("scoring", "batch"), evaluating(net), torch.no_grad():
        for images, labels, indices in profile.stepwise(batches):
            with profile.span("forward"):
                logits = net(prepare(images)).float().cpu()
            first, fifth = errors_of(logits, labels)
            wrong1, wrong5 = wrong1 + first, wrong5 + fifth
            seen += indices
    gathered = comm.all_gather((wrong1, wrong5, seen))
    every = sorted(i for _, _, part in gathered for i in part)
    if every != list(range(expected)):
        raise CheckFailed(
            f"{name}: expected {expected} images, saw {len(every)}, {len(every) - len(set(every))} "
            "twice. No error rate is given."
        )
    return {
        "data_set": name,
        "protocol": "1-crop",
        "top1_error": 100.0 * sum(g[0] for g in gathered) / expected,
        "top5_error": 100.0 * sum(g[1] for g in gathered) / expected,
        "images": {"expected": expected, "evaluated": len(every), "missing": 0},
    }
