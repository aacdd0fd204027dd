"""The four steps before any is taken: what each one is and writes, and all of them together.

Not for: what is measured at the end, or a joint training (`resdet.detect.plan`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from resdet.detect.alternating.proposal_room import most_of_an_image, with_proposals
from resdet.detect.alternating.step_configs import (
    STEPS,
    AlternatingStep,
    config_of_step,
    shared_stages,
)
from resdet.detect.from_run import build
from resdet.engine.starts.start_checks import size_in_words
from resdet.engine.starts.start_estimate import Plan
from resdet.printable import counted
from resdet.run import layout


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """One step of an alternating training.

    Attributes:
        proposals: that an RPN step makes of a training image, at most; 0 for Fast R-CNN.
    """

    step: AlternatingStep
    plan: Plan
    proposals: int

    def lines(self) -> list[str]:
        """As printed before the start."""
        made = [f"proposals  of a training image at most {self.proposals:,}"]
        own = [*self.plan.lines(), *(made if self.proposals else [])]
        return [f"{self.step.title}:", *(f"  {line}" for line in own)]


def plans_of_steps(
    cfg: Any, images: Sequence[int] | None, images_source: str = ""
) -> list[StepPlan]:
    """The plans of all four; no model takes memory.

    Args:
        cfg: of the whole training, resolved, all facts filled in.
        images: of each training set; None = not known. images_source: as of `Plan`.
    """
    shared, folder = shared_stages(cfg), Path(cfg.OUTPUT_DIR) / layout.ALTERNATING
    plans = []
    for step in STEPS:
        node = config_of_step(
            cfg,
            step,
            folder / step.name,
            weights=str(folder / step.starts_from) if step.starts_from else cfg.MODEL.WEIGHTS,
            proposals=(),
            shared_stages=shared,
        )
        node.MODEL.DEVICE = "meta"
        with torch.device("meta"):
            model = build(node)
        plan = Plan.of_solver(
            node, model, images=sum(images) if images else None, images_source=images_source
        )
        made = most_of_an_image(node, model, as_in_training=True) if step.is_rpn else 0
        if step.is_rpn and images:
            disk = with_proposals(plan.disk, node, model, images, as_in_training=True)
            plan = dataclasses.replace(plan, disk=disk)
        plans.append(StepPlan(step, plan, made))
    return plans


def disk_of_steps(plans: Sequence[StepPlan], done: int = 0) -> int:
    """Bytes of all four at the time when they are most: what a step leaves stays.

    Args:
        done: the first so many have ended; what they leave counts, what they needed does not.
    """
    left, most = 0, 0
    for number, need in enumerate(planned.plan.disk for planned in plans):
        if number >= done:
            most = max(most, left + need.most)
        left += need.stays
    # The whole detector has the layers of one RPN and of one Fast R-CNN, and one backbone.
    return max(most, left + sum(planned.plan.disk.results for planned in plans[:2]))


def lines_of_steps(cfg: Any, images: Sequence[int] | None, images_source: str = "") -> list[str]:
    """Each step by itself, and their sum, as printed before the start."""
    plans = plans_of_steps(cfg, images, images_source)
    steps = sum(planned.plan.steps for planned in plans)
    seen = sum(planned.plan.steps * planned.plan.batch for planned in plans)
    proposals = "" if images else ", and the proposals of the training images"
    return [
        *(line for planned in plans for line in planned.lines()),
        "all four steps:",
        f"  length     {counted(steps, 'step')}, {counted(seen, 'image')}",
        f"  disk       about {size_in_words(disk_of_steps(plans))}{proposals}: what each step "
        "writes stays",
    ]
