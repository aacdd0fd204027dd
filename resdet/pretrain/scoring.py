"""Top-1 and top-5 error of a classifier, and its final BN statistics.

Not for: multi-crop protocols; a number here is 1-crop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

from resdet import profile
from resdet.engine.evaluation import evaluating
from resdet.errors import CheckFailed
from resdet.pretrain.image_loading import Batch

logger = logging.getLogger("resdet.pretrain")

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


def recompute_bn_statistics(
    net: nn.Module, batches: Iterable[Batch], prepare: Prepare, num_batches: int
) -> int:
    """Means and variances of every BN layer over training images; gives the number of layers.

    The paper (appendix A) does so before it freezes them for detection. fvcore's precise BN gives
    the statistics of the whole population, not a moving average.
    """
    layers = len(get_bn_modules(net.train()))
    if layers:
        with profile.section("statistics of norms", "batch"):
            images = _with_progress(profile.stepwise(batches), num_batches)
            update_bn_stats(_Prepared(net, prepare), images, num_batches)
    return layers


def _with_progress(batches: Iterable[Batch], total: int) -> Iterator[torch.Tensor]:
    """The images of each batch, with a line with ETA at most every ten seconds."""
    start = last_line = time.monotonic()
    for done, (images, _, _) in enumerate(batches, 1):
        yield images
        now = time.monotonic()
        if now - last_line > 10:
            last_line = now
            seconds = (now - start) / done
            logger.info(
                "statistics of norms: %d of %d batches, %.3f s a batch, eta %.0f s",
                done,
                total,
                seconds,
                seconds * (total - done),
            )


class _Prepared(nn.Module):
    def __init__(self, net: nn.Module, prepare: Prepare):
        super().__init__()
        self.net = net
        self.prepare = prepare

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with profile.span("forward"):
            return self.net(self.prepare(images))
