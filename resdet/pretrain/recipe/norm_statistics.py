"""Means and variances of every batch norm over training images, strict averages, on all processes.

He et al. 2015, appendix A, compute them after training and then freeze them for detection; their
release calls them strict averages over a large set. Each layer normalises a batch by the batch's
own statistics meanwhile, as in training; what is kept are mean and variance of all values that
reached the layer: batches count by their sizes, and processes are combined exactly. (A layer behind
another norm sees maps that depend on which images came together, so its statistics differ a little
between one process and several.)

Not for: the moving averages of training.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from resdet import profile
from resdet.engine.parallel import gathered

logger = logging.getLogger("resdet.pretrain.recipe.norm_statistics")

# Number of values per channel, their mean, and the sum of squared distances from it.
Moments = tuple[int, torch.Tensor, torch.Tensor]


def recompute_bn_statistics(
    net: nn.Module,
    batches: Iterable[Any],
    prepare: Callable[[torch.Tensor], torch.Tensor],
    number: int,
) -> tuple[int, int]:
    """Sets the running statistics of every live batch norm.

    Args:
        net: put into training mode.
        batches: this process's share, each with its images first; they end.
        prepare: images to the net's input.
        number: of these batches, for the lines with an ETA.

    Returns:
        How many norms, and over how many images of all processes.

    The variance is the population's, as torch normalises by in training.
    """
    net.train()
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0, 0
    moments: dict[nn.Module, Moments] = {}

    def take(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = _moments_of(inputs[0])
        moments[norm] = combined(moments[norm], values) if norm in moments else values

    handles = [norm.register_forward_pre_hook(take) for norm in norms]
    images_seen = 0
    try:
        with profile.section("statistics of norms", "batch"), torch.no_grad():
            for images in _with_progress(profile.stepwise(batches), number):
                images_seen += len(images)
                with profile.span("forward"):
                    net(prepare(images))
    finally:
        for handle in handles:
            handle.remove()
    own = [_on_cpu(moments[norm]) if norm in moments else None for norm in norms]
    everyone = gathered((images_seen, own))
    for norm, *parts in zip(norms, *(part for _, part in everyone), strict=True):
        found = [part for part in parts if part is not None]
        if found:  # else a layer that no image reached
            count, mean, squares = functools.reduce(combined, found)
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(squares / count)
    return len(norms), sum(seen for seen, _ in everyone)


def _with_progress(batches: Iterable[Any], total: int) -> Iterator[torch.Tensor]:
    """The images of each batch, with a line with ETA at most every ten seconds."""
    start = last_line = time.monotonic()
    for done, (images, *_) in enumerate(batches, 1):
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


def _moments_of(x: torch.Tensor) -> Moments:
    """Of (N, C, …) per channel, in double but for the sums within a batch."""
    dims = [d for d in range(x.dim()) if d != 1]
    count = x.numel() // x.shape[1]
    variance, mean = torch.var_mean(x.float(), dims, correction=0)
    return count, mean.double(), variance.double() * count


def combined(one: Moments, other: Moments) -> Moments:
    """The moments of both together (Chan, Golub, LeVeque 1979)."""
    (n, mean, squares), (m, other_mean, other_squares) = one, other
    distance = other_mean - mean
    total = n + m
    return (
        total,
        mean + distance * (m / total),
        squares + other_squares + distance.square() * (n * m / total),
    )


def _on_cpu(moments: Moments) -> Moments:
    count, mean, squares = moments
    return count, mean.cpu(), squares.cpu()
