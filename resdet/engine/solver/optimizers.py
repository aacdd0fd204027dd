"""The optimizer of both trainers: Detectron2's SGD, or AdamW, with rates that fall with depth.

SOLVER.OPTIMIZER SGD and SOLVER.LAYER_DECAY 1 are Detectron2's `build_optimizer` itself. With a
decay d the rate of a stage that has n stages of the net above it is d^(n + 1) times BASE_LR; what
is not the net's own (RPN, predictors, a pyramid, a classifier's last layer) keeps BASE_LR. (Clark
et al. 2020, ELECTRA, appendix A, by layers; ConvNeXt's and BEiT's recipes by groups of blocks.)

Not for: the schedule of the rate, or torch's fused step (`resdet.engine.speed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.solver import build_optimizer as stock_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

ADAMW = "AdamW"


def build_optimizer(
    cfg: Any,
    model: nn.Module,
    stages: Sequence[nn.Module],
    embeddings: Sequence[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """The optimizer over all parameters that need a gradient.

    Args:
        stages: of the net in `model`, from the images on; none may share a parameter.
        embeddings: its position embeddings and tokens, of SOLVER.WEIGHT_DECAY_EMBED.
    """
    solver = cfg.SOLVER
    decay_of_embeddings = solver.WEIGHT_DECAY_EMBED if embeddings else None
    if solver.OPTIMIZER == "SGD" and solver.LAYER_DECAY == 1 and decay_of_embeddings is None:
        return stock_optimizer(cfg, model)
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    if decay_of_embeddings is not None:
        groups = _with_decay(groups, embeddings, decay_of_embeddings)
    groups = _by_factor(groups, rate_factors(stages, solver.LAYER_DECAY))
    if solver.OPTIMIZER == ADAMW:
        return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(
            groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY
        )
    return maybe_add_gradient_clipping(cfg, torch.optim.SGD)(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
    )


def copies_in_checkpoint(cfg: Any) -> int:
    """Numbers as many as the weights: these, one or two moments, and their average."""
    return 2 + (cfg.SOLVER.OPTIMIZER == ADAMW) + (cfg.SOLVER.EMA_DECAY > 0)


def rate_factors(stages: Sequence[nn.Module], decay: float) -> dict[nn.Parameter, float]:
    """What BASE_LR is multiplied by, of the parameters of stages; those of others have 1.

    Stages without parameters (dropout, pooling) do not count.
    """
    layers = [parameters for stage in stages if (parameters := list(stage.parameters()))]
    return {
        parameter: decay**above
        for above, parameters in enumerate(reversed(layers), start=1)
        for parameter in parameters
    }


def _with_decay(
    groups: Sequence[Mapping[str, Any]], parameters: Sequence[nn.Parameter], decay: float
) -> list[dict[str, Any]]:
    """The groups, and of each the given parameters as one more, which has its own decay."""
    taken, parted = set(parameters), list[dict[str, Any]]()
    for group in groups:
        for inside in (False, True):
            own = [p for p in group["params"] if (p in taken) is inside]
            new = {**group, "params": own}
            if inside:
                new["weight_decay"] = decay
            parted += [new] if own else []
    return parted


def _by_factor(
    groups: Sequence[Mapping[str, Any]], factors: Mapping[nn.Parameter, float]
) -> list[dict[str, Any]]:
    """Each group parted by the factors on its rate, the highest first: the first group's rate is
    what the log shows."""
    parted: dict[tuple[float, int], dict[str, Any]] = {}
    for number, group in enumerate(groups):
        for parameter in group["params"]:
            factor = factors.get(parameter, 1.0)
            new = {**group, "params": [], "lr": group["lr"] * factor}
            parted.setdefault((-factor, number), new)["params"].append(parameter)
    return [parted[key] for key in sorted(parted)]
