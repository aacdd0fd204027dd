"""Steps and images that fit into a time, from what each backbone was measured to cost.

A row costs its trunk once for each image, and for each seed a training of the heads and a test, one
after the other; rows run side by side. Times are of as many threads as a row has (`cost`).

Not for: measuring (`cost`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resdet.errors import ConfigError
from resdet.rank.ranking_folder import RankPlan

# Less says little; a budget for less is refused.
FEWEST_STEPS, FEWEST_IMAGES, FEWEST_TEST = 50, 100, 50
# Seconds of each training beside steps and images: start, data, scoring.
PER_RUN, PER_ROW = 15.0, 20.0
# Of what steps and images were measured to take; the machine is shared by the rows.
SLACK = 1.25
# Of what the user asked for; the last also of all of COCO's images, or of very many steps.
SHARES_OF_STEPS = (0.75, 0.5, 0.33, 0.2, 0.1, 0.05, 0.02, 0.01)
SHARES_OF_IMAGES = (0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02, 0.01)
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "": 60}


@dataclass(frozen=True)
class RowCost:
    """Seconds: of the trunk on an image, of a step of the heads, of detecting on kept maps."""

    trunk: float
    step: float
    detect: float

    @classmethod
    def of(cls, cost: Mapping[str, Any]) -> RowCost:
        """From a row's cost.json."""
        trunk = float(cost["trunk_seconds"])
        return cls(trunk, float(cost["step_seconds"]), max(0.0, float(cost["ms"]) / 1000 - trunk))


def seconds_of(text: str) -> float:
    """15m, 90s, 1.5h; a number alone is minutes.

    Raises:
        ConfigError: anything else.

    Example:
        >>> seconds_of("15m"), seconds_of("2"), seconds_of("1h")
        (900.0, 120.0, 3600.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip().lower())
    if not found or not float(found[1]):
        raise ConfigError(f"--budget is {text!r}, expected a time such as 15m, 90s or 2h.")
    return float(found[1]) * _UNITS[found[2]]


def estimate(plan: RankPlan, rows: Sequence[RowCost], jobs: int) -> float:
    """Seconds until all rows are done, so many side by side: the first that is free takes the next.

    One row is never done in parts side by side, so that its own time is the least.
    """
    busy = [0.0] * max(1, jobs)
    for row in rows:
        busy[busy.index(min(busy))] += _row_seconds(plan, row)
    return max(busy)


def _row_seconds(plan: RankPlan, row: RowCost) -> float:
    images = (plan.images + plan.test_images) * row.trunk
    seed = plan.steps * row.step + plan.test_images * row.detect
    return PER_ROW + SLACK * images + plan.seeds * (PER_RUN + SLACK * seed)


def fitted(plan: RankPlan, rows: Sequence[RowCost], jobs: int) -> RankPlan:
    """The plan with as many steps and images as the budget has time for, at most as it has them.

    Steps become fewer first, down to 100; then training and test images, down to 400 and 200; then
    it is one seed; then the least.

    Raises:
        ConfigError: there is no time for the least that says something.
    """
    if not plan.budget:
        return plan
    least = replace(
        plan,
        steps=min(plan.steps, FEWEST_STEPS),
        images=min(plan.images, FEWEST_IMAGES),
        test_images=min(plan.test_images, FEWEST_TEST),
        seeds=1,
    )
    if (needed := estimate(least, rows, jobs)) > plan.budget:
        raise ConfigError(
            f"--budget is {plan.budget / 60:.1f} minutes, and the least that says something "
            f"({least.steps} steps on {least.images} images, {least.test_images} test images) "
            f"takes about {needed / 60:.1f} for {len(rows)} backbones. Give more time, or name "
            "fewer."
        )
    for shrink in _ways(plan):
        if estimate(shrink, rows, jobs) <= plan.budget:
            return shrink
    return least


def _ways(plan: RankPlan) -> list[RankPlan]:
    """Plans from the whole one to the least, each cheaper than the one before."""
    ways = [plan]
    for change in (
        *({"steps": max(100, round(plan.steps * share))} for share in SHARES_OF_STEPS),
        *(
            {
                "images": max(4 * FEWEST_IMAGES, round(plan.images * share)),
                "test_images": max(4 * FEWEST_TEST, round(plan.test_images * share)),
            }
            for share in SHARES_OF_IMAGES
        ),
        {"seeds": 1},
        {"images": 2 * FEWEST_IMAGES, "test_images": 2 * FEWEST_TEST},
        {"steps": FEWEST_STEPS},
    ):
        last = ways[-1]
        ways.append(replace(last, **{k: min(getattr(last, k), v) for k, v in change.items()}))
    return ways
