"""Stand-ins for the parts in which Detectron2's main (commit 02b5c4e, June 2026) is not as 0.6.

Main is on no package index, so tests on 0.6 put these in the place of its own. A test run with
main itself on the path (`RESDET_PYTHON`) needs none of them, and passes with them.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2 import solver
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.proposal_generator import proposal_utils


def find_top_rpn_proposals(boxes: Any, logits: Any, sizes: Any, *rest: Any) -> Any:
    """Ranks by `topk`, whose order of equal scores depends on how many it takes; 0.6 sorts.

    One level only. 0.6's own sort may move equal scores once more, so it is given their ranks.
    """
    threshold, most, *others = rest
    best = [scores.topk(min(most, scores.shape[1]), dim=1) for scores in logits]
    chosen = [
        level.gather(1, order[..., None].expand(-1, -1, 4))
        for level, (_, order) in zip(boxes, best, strict=True)
    ]
    ((scores, _),) = best
    ranks = [torch.arange(scores.shape[1], 0, -1).float().expand_as(scores)]
    made = proposal_utils.find_top_rpn_proposals(chosen, ranks, sizes, threshold, most, *others)
    for image, values in zip(made, scores, strict=True):
        image.objectness_logits = values[scores.shape[1] - image.objectness_logits.long()]
    return made


CONVERT = FrozenBatchNorm2d.convert_frozen_batchnorm


def convert_frozen_batchnorm(module: torch.nn.Module) -> torch.nn.Module:
    """Keeps `num_batches_tracked`, a buffer, in what it converts; 0.6 drops it."""
    made = CONVERT(module)
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        made.register_buffer("num_batches_tracked", module.num_batches_tracked)
    return made


def build_optimizer(cfg: Any, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Asks for torch's step over lists of tensors (`foreach`); 0.6 leaves the choice to torch."""
    made = solver.build_optimizer(cfg, model)
    for options in (made.defaults, *made.param_groups):
        options["foreach"] = True
    return made
