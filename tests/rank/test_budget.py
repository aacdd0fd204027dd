"""Steps and images that fit into a time, by hand."""

from dataclasses import replace

import pytest

from resdet.errors import ConfigError
from resdet.rank.budget import PER_ROW, PER_RUN, RowCost, estimate, fitted, seconds_of
from resdet.rank.ranking_folder import RankPlan

PLAN = RankPlan("a", "b", "a", "b", images=1000, test_images=500, size=320, steps=300, batch=8,
                seeds=2)  # fmt: skip
# Seconds: trunk on an image, a step, detecting on an image.
ROW = RowCost(0.02, 0.4, 0.05)


def test_the_estimate_by_hand():
    """1,500 images are 30 s; 300 steps 120 s and 500 images 25 s, twice; plus a quarter."""
    one = PER_ROW + 1.25 * 30 + 2 * (PER_RUN + 1.25 * (120 + 25))
    assert estimate(PLAN, [ROW], 1) == pytest.approx(one)
    assert estimate(PLAN, [ROW] * 4, 2) == pytest.approx(2 * one)
    assert estimate(PLAN, [ROW], 4) == pytest.approx(one)


def test_a_row_is_never_split_over_those_side_by_side():
    """Three equal rows of two at a time take two turns; nothing is done before its longest row."""
    one = estimate(PLAN, [ROW], 1)
    assert estimate(PLAN, [ROW] * 3, 2) == pytest.approx(2 * one)
    slow = RowCost(0.5, 0.4, 0.05)
    assert estimate(PLAN, [slow, ROW, ROW], 4) == pytest.approx(estimate(PLAN, [slow], 1))


@pytest.mark.parametrize(
    ("asked", "seconds", "steps", "images"),
    [
        ({"steps": 3000}, 700, 300, 1000),
        ({"images": 100_000, "test_images": 5000}, 300, 100, 2000),
    ],
)
def test_much_that_was_asked_for_is_not_cut_to_the_least_at_once(asked, seconds, steps, images):
    """3,000 steps on 1,000 images, or 300 on 100,000: much lies between a third and the least."""
    found = fitted(replace(PLAN, **asked, budget=seconds), [ROW] * 2, 2)
    assert (found.steps, found.images) == (steps, images)


def test_a_cost_file_is_read_by_parts():
    """Detecting on kept maps is the whole without the trunk."""
    found = RowCost.of({"trunk_seconds": 0.02, "step_seconds": 0.4, "ms": 70.0})
    assert (found.trunk, found.step, found.detect) == (0.02, 0.4, pytest.approx(0.05))


def test_without_a_budget_nothing_is_cut():
    assert fitted(PLAN, [ROW] * 10, 2) == PLAN


@pytest.mark.parametrize("minutes", [12, 16, 20, 30])
def test_what_fits_is_within_the_budget_and_steps_go_first(minutes):
    plan = replace(PLAN, budget=60.0 * minutes)
    found = fitted(plan, [ROW] * 4, 2)
    assert estimate(found, [ROW] * 4, 2) <= plan.budget
    if found.images < PLAN.images:
        assert found.steps == 100
    if found.seeds < PLAN.seeds:
        assert found.images == 400


def test_more_time_never_means_less_work():
    found = [fitted(replace(PLAN, budget=60.0 * m), [ROW] * 4, 2) for m in range(8, 40)]
    work = [estimate(plan, [ROW] * 4, 2) for plan in found]
    assert work == sorted(work)


def test_too_little_time_is_refused_with_what_it_takes():
    with pytest.raises(ConfigError, match=r"--budget is 1.0 minutes.*takes about \d"):
        fitted(replace(PLAN, budget=60.0), [ROW] * 10, 2)


@pytest.mark.parametrize("text", ["", "0", "soon", "-5m", "5 days"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ConfigError, match="expected a time such as 15m"):
        seconds_of(text)
