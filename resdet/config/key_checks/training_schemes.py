"""What SOLVER.SCHEME goes with.

Not for: the keys themselves (`paper_keys`), or the steps (`resdet.detect.alternating`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_RPN_SCHEDULE = ("MAX_ITER", "STEPS", "BASE_LR", "IMS_PER_BATCH")


def of_schemes(cfg: Any, stated: Mapping[str, str]) -> Iterator[str]:
    """Faults of keys that the scheme of training does not read, or cannot be had with.

    Args:
        stated: dotted key to where it was stated.
    """
    rpn = cfg.SOLVER.RPN
    chosen = {name: getattr(rpn, name) for name in _RPN_SCHEDULE if getattr(rpn, name)}
    if cfg.SOLVER.SCHEME != "alternating":
        for name in chosen:
            where = stated.get(f"SOLVER.RPN.{name}", "default")
            yield (
                f"{where}: SOLVER.RPN.{name} is read with SOLVER.SCHEME alternating alone; this "
                f"training is {cfg.SOLVER.SCHEME}. Leave it out, or set the scheme."
            )
        return
    if "STEPS" in chosen and "MAX_ITER" not in chosen:
        yield (
            f"SOLVER.RPN.STEPS is {tuple(rpn.STEPS)}, and SOLVER.RPN.MAX_ITER is 0, with which an "
            "RPN step is as long as SOLVER.MAX_ITER. Set both, or none."
        )
    if "STEPS" in chosen and cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        yield (
            f"SOLVER.RPN.STEPS is {tuple(rpn.STEPS)}, and SOLVER.LR_SCHEDULER_NAME "
            f"{cfg.SOLVER.LR_SCHEDULER_NAME}, which has none. Leave it out."
        )
    needs = (
        ("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, "GeneralizedRCNN"),
        ("MODEL.PROPOSAL_GENERATOR.NAME", cfg.MODEL.PROPOSAL_GENERATOR.NAME, "RPN"),
        ("MODEL.LOAD_PROPOSALS", cfg.MODEL.LOAD_PROPOSALS, False),
        ("MODEL.MASK_ON", cfg.MODEL.MASK_ON, False),
        ("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, "build_net_backbone"),
        ("MODEL.ROI_HEADS.NAME", cfg.MODEL.ROI_HEADS.NAME, "RegionHeads"),
    )
    for key, value, expected in needs:
        if value != expected:
            yield (
                f"SOLVER.SCHEME is alternating, and {key} {value}: the four steps train the C4 "
                f"detector of a net of MODEL.NET, with {key} {expected}. Set that, or "
                "SOLVER.SCHEME joint."
            )
    for key, value in (
        ("EVAL_PERIOD", cfg.TEST.EVAL_PERIOD),
        ("BEST_METRIC", cfg.TEST.BEST_METRIC),
    ):
        if value:
            yield (
                f"SOLVER.SCHEME is alternating, and TEST.{key} {value}: there is no whole detector "
                f"to measure before the last step has ended. Leave TEST.{key} out."
            )
