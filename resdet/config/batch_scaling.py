"""A schedule that was made for one batch, and what another one makes of it (F34).

Not for: what a rate belongs to in a recipe (`transfer_recipes`).
"""

from __future__ import annotations

from typing import Any

from resdet.config.config import Config, set_key
from resdet.errors import ConfigError


def check_reference_batch(config: Config, *, scaled_to: int = 0) -> None:
    """Scales the schedule to IMS_PER_BATCH as set by SOLVER.SCALE_LR (F34).

    Args:
        scaled_to: the batch that the schedule was scaled to before, as in a run's own config; 0 =
            that of SOLVER.REFERENCE_BATCH.

    Raises:
        ConfigError: the batch differs from REFERENCE_BATCH and SCALE_LR is not set, or it is
            linear, and there is no such batch.
    """
    solver = config.cfg.SOLVER
    if solver.SCALE_LR == "linear" and not solver.REFERENCE_BATCH:
        raise ConfigError(
            "SOLVER.SCALE_LR is linear, and SOLVER.REFERENCE_BATCH 0: for which batch "
            f"SOLVER.BASE_LR {solver.BASE_LR:g} was made is not stated, so nothing follows "
            f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH}. Set SOLVER.REFERENCE_BATCH (16 for most "
            "of Detectron2's own configs), or leave SOLVER.SCALE_LR out."
        )
    reference = scaled_to or solver.REFERENCE_BATCH
    if reference <= 0 or reference == solver.IMS_PER_BATCH:
        return
    factor = solver.IMS_PER_BATCH / reference
    scaled = {
        "SOLVER.BASE_LR": solver.BASE_LR * factor,
        "SOLVER.MAX_ITER": max(1, round(solver.MAX_ITER / factor)),
        "SOLVER.STEPS": tuple(round(s / factor) for s in solver.STEPS),
        "SOLVER.WARMUP_ITERS": round(solver.WARMUP_ITERS / factor),
    }
    end = "BASE_LR_END"  # of Detectron2's main alone: the rate of a cosine's last step
    if rate := solver.get(end):
        scaled[f"SOLVER.{end}"] = rate * factor
    scaled |= _scaled_rpn_schedule(config.cfg, factor)
    if config.cfg.PRETRAIN.PLATEAU != "off":
        period = config.cfg.PRETRAIN.PLATEAU_PERIOD
        scaled["PRETRAIN.PLATEAU_PERIOD"] = max(1, round(period / factor))
    if config.cfg.SOLVER.EMA_DECAY > 0:
        # As torchvision: the share of new weights in an update grows with the batch.
        share = 1 - config.cfg.SOLVER.EMA_DECAY
        scaled["SOLVER.EMA_DECAY"] = max(0.0, 1 - share * factor)
    if solver.SCALE_LR == "linear":
        source = f"SOLVER.SCALE_LR linear, batch {solver.IMS_PER_BATCH} of {reference}"
        for key, value in scaled.items():
            if config.stated.get(key) != "command line":
                set_key(config.cfg, key, value)
                config.derived[key] = source
    elif solver.SCALE_LR != "keep":
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {solver.IMS_PER_BATCH}, but BASE_LR {solver.BASE_LR} "
            f"belongs to {reference}. Set SOLVER.SCALE_LR linear (BASE_LR "
            f"{scaled['SOLVER.BASE_LR']:g}, MAX_ITER {scaled['SOLVER.MAX_ITER']}) "
            "or SOLVER.SCALE_LR keep."
        )


def _scaled_rpn_schedule(cfg: Any, factor: float) -> dict[str, Any]:
    """What of SOLVER.RPN follows a batch that is `factor` times the reference, by the linear rule.

    What is off follows SOLVER's own.
    """
    rpn = cfg.SOLVER.RPN
    scaled: dict[str, Any] = {}
    if rpn.IMS_PER_BATCH:
        scaled["SOLVER.RPN.IMS_PER_BATCH"] = max(1, round(rpn.IMS_PER_BATCH * factor))
    if rpn.BASE_LR:
        scaled["SOLVER.RPN.BASE_LR"] = rpn.BASE_LR * factor
    if rpn.MAX_ITER:
        scaled["SOLVER.RPN.MAX_ITER"] = max(1, round(rpn.MAX_ITER / factor))
        scaled["SOLVER.RPN.STEPS"] = tuple(round(step / factor) for step in rpn.STEPS)
    return scaled
