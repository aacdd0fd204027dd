"""Activation checkpointing of a net, one key: less memory, about a third more time a step.

Of each block only the input is kept; the backward pass computes the block again. Everything that
is random is drawn as before, and batch norm counts each batch once, so that the gradients are
the same, on a CPU to the bit. (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost";
torch's own, and timm's, add the batch to the moving averages a second time.)

Not for: the batch in parts (ENGINE.IMAGES_PER_PASS).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from resdet.errors import ConfigError


def recompute_blocks(stages: Iterable[nn.Module]) -> int:
    """Makes the backward pass compute the blocks of a net again; gives their number.

    A block is a child of a stage that is a sequence, else the stage itself. Names, parameters and
    results stay.

    Raises:
        ConfigError: there are no stages.
    """
    blocks = [block for stage in stages for block in _blocks(stage)]
    if not blocks:
        raise ConfigError(
            "ENGINE.ACTIVATION_CHECKPOINTING is on, but the net has no stages whose blocks could "
            "be computed again. Set it to off; ENGINE.IMAGES_PER_PASS saves memory, too."
        )
    for block in blocks:
        block.forward = functools.partial(_recomputed, block, block.forward)
    return len(blocks)


def _blocks(stage: nn.Module) -> list[nn.Module]:
    return list(stage.children()) if isinstance(stage, nn.Sequential) else [stage]


def _recomputed(block: nn.Module, forward: Any, *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), _statistics_kept(block)),
    )


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Leaves the statistics of live norms as they were: the first pass has counted the batch."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
