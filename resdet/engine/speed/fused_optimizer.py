"""torch's fused optimizer step, one key; off leaves the optimizer that Detectron2 built alone.

Fused, all parameters of a group are updated by one kernel: the same numbers within rounding.

Not for: which optimizer, or its rates (Detectron2's SOLVER keys).
"""

from __future__ import annotations

import logging

import torch

from resdet.errors import ConfigError

logger = logging.getLogger("resdet.engine.speed.fused_optimizer")

DEVICES = ("cpu", "cuda")
# Detectron2's main asks for the step over lists of tensors, which does not go with this one.
_FUSED = {"fused": True, "foreach": False}


def with_fused_step(optimizer: torch.optim.Optimizer, setting: str) -> torch.optim.Optimizer:
    """The optimizer for ENGINE.FUSED_OPTIMIZER: "off", "on", or "auto" (on where it can be).

    Checkpoints of either setting load: the state is the same, and the setting stays this one.

    Raises:
        ConfigError: "on", and this optimizer or its parameters have no fused step.
    """
    obstacle = _obstacle(optimizer)
    if setting == "on" and obstacle:
        raise ConfigError(
            f"ENGINE.FUSED_OPTIMIZER is on, but {obstacle}. Set it to off, or to auto, which then "
            "takes the usual step."
        )
    if setting == "auto" and obstacle:
        logger.info("ENGINE.FUSED_OPTIMIZER: %s; the usual step is taken", obstacle)
    fused = setting != "off" and not obstacle
    if fused:
        for group in optimizer.param_groups:
            group.update(_FUSED)
        # Built anew, so that torch makes its own checks of what fused goes with.
        defaults = {**optimizer.defaults, **_FUSED}
        optimizer = type(optimizer)(optimizer.param_groups, **defaults)
        _lay_out_momentum(optimizer)
    optimizer.register_load_state_dict_post_hook(_keep)
    return optimizer


def is_fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.defaults.get("fused"))


def _obstacle(optimizer: torch.optim.Optimizer) -> str:
    """Why there is no fused step; "" where there is one."""
    if not isinstance(optimizer, torch.optim.SGD):
        return f"the optimizer is {type(optimizer).__name__}, not SGD"
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    devices = sorted({p.device.type for p in parameters} - set(DEVICES))
    if devices:
        return f"parameters lie on {', '.join(devices)}, where torch has no fused step"
    if not all(p.is_floating_point() for p in parameters):
        return "not all parameters are floating-point numbers"
    if any(group["dampening"] for group in optimizer.param_groups):
        return "it has dampening, where a momentum that starts from zero is another one"
    return ""


def _keep(optimizer: torch.optim.Optimizer) -> None:
    """After a checkpoint: it brings the setting that it was saved with, which is not ours."""
    for group in optimizer.param_groups:
        group["fused"] = optimizer.defaults.get("fused")
        group["foreach"] = optimizer.defaults.get("foreach")
    if is_fused(optimizer):
        _lay_out_momentum(optimizer)


def _lay_out_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Every momentum in its parameter's memory layout, zero where there is none yet.

    The fused kernel walks through memory: with another layout it would add the momentum of one
    weight to another, and it takes no parameter whose first gradient comes later than the others'.
    Without dampening torch's own first momentum is what zeros become.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            state = optimizer.state[parameter]
            laid_out = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            if state.get("momentum_buffer") is not None:
                laid_out.copy_(state["momentum_buffer"])
            state["momentum_buffer"] = laid_out
