"""The rule of the plateau on hand-made curves, the warm-up that an error ends, and their state."""

import io
import random

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import ConstantParamScheduler, MultiStepParamScheduler

from resdet.pretrain.recipe.error_schedule import WINDOW, ErrorRule, ErrorSchedule, error_of_batch

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")


def make(rule, multiplier=None, rate=0.1):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
    multiplier = multiplier or ConstantParamScheduler(1.0)
    return optimizer, ErrorSchedule(optimizer, LRMultiplier(optimizer, multiplier, 1000), rule)


def plateau(**changes):
    values = {"plateau": "val", "threshold": 0.1, "patience": 2, "gamma": 0.1}
    return ErrorRule(**{**values, **changes})


def rates(errors, rule):
    """The rate after each measurement of the curve, as the next step has it."""
    optimizer, schedule = make(rule)
    found = []
    for done, error in enumerate(errors, 1):
        schedule.measure(error, done)
        schedule.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(
    ("errors", "drops_at"),
    [
        pytest.param([50, 40, 30, 20, 10, 5], [], id="falls all the time"),
        # The first is the lowest; two that are not lower are passed over, the third drops.
        pytest.param([50, 50, 50, 50, 50], [4], id="flat"),
        pytest.param([50, 50, 50, 50, 50, 50, 50], [4, 7], id="flat: counts anew after a drop"),
        # 49.91 is 0.09 below 50: within the threshold, so it does not count as lower.
        pytest.param([50, 49.95, 49.92, 49.91], [4], id="within the threshold"),
        pytest.param([50, 49.89, 49.78, 49.67], [], id="just beyond the threshold"),
        # Measured against the lowest, not against the one before.
        pytest.param([50, 40, 45, 44, 43], [5], id="against the lowest"),
        pytest.param([50, 51, 52, 49, 51, 52], [], id="a fall ends the count"),
        pytest.param([50, 51, 52, 49, 51, 52, 50], [7], id="and it begins anew"),
        pytest.param([50, 60, 60, 60, 45, 46, 46, 46], [4, 8], id="the lowest outlasts a drop"),
    ],
)
def test_the_rule_on_curves_worked_by_hand(errors, drops_at):
    """Threshold 0.1 points, patience 2: the third measurement in a row without a fall drops."""
    expected, rate = [], 0.1
    for done in range(1, len(errors) + 1):
        rate *= 0.1 if done in drops_at else 1
        expected.append(pytest.approx(rate, rel=1e-12))
    assert rates(errors, plateau()) == expected


def test_patience_0_drops_at_the_first_that_is_not_lower():
    assert rates([50, 50], plateau(patience=0)) == [0.1, pytest.approx(0.01)]


def test_decisions_are_kept_with_their_reasons():
    _, schedule = make(plateau(patience=0))
    for done, error in ((10, 50.0), (20, 50.0), (30, 20.0), (40, 30.0)):
        schedule.measure(error, done)
    assert schedule.decisions == [
        {"step": 20, "why": "plateau", "error": 50.0, "lowest": 50.0, "factor": 0.1},
        {"step": 40, "why": "plateau", "error": 30.0, "lowest": 20.0, "factor": 0.1 * 0.1},
    ]
    assert (schedule.drops, schedule.lowest) == (2, 20.0)


def test_the_factor_multiplies_the_schedule_of_the_steps():
    """Detectron2's multiplier and the drops do not overwrite each other."""
    steps = MultiStepParamScheduler([1.0, 0.5], milestones=[3], num_updates=1000)
    optimizer, schedule = make(plateau(patience=0), steps)
    found = []
    for done in range(1, 6):
        if done == 2:
            schedule.measure(50, 1), schedule.measure(50, done)
        schedule.step()
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([0.1, 0.01, 0.005, 0.005, 0.005])


def test_with_nothing_decided_the_rate_is_the_schedules_own_to_the_bit():
    steps = MultiStepParamScheduler([1.0, 0.1, 0.01], milestones=[3, 5], num_updates=1000)
    ours, schedule = make(plateau(), steps)
    theirs = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    plain = LRMultiplier(theirs, steps, 1000)
    for _ in range(8):
        schedule.step(), plain.step()
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"period": 5}, [5, 10, 15, 20]),
        ({"period": 5, "begin": 10}, [15, 20]),
        ({"period": 7}, [7, 14]),
        ({"period": 5, "plateau": "off", "warm_until": 1.0}, []),
        ({"period": 5, "warm_until": 1.0}, []),
    ],
)
def test_it_is_measured_every_period_after_the_warm_up(changes, due):
    _, schedule = make(plateau(**changes))
    assert [done for done in range(1, 21) if schedule.is_due(done)] == due


def test_the_training_error_is_the_mean_since_the_last_measurement():
    _, schedule = make(plateau(plateau="train"))
    for error in (10.0, 20.0, 60.0):
        schedule.see(error, 1)
    assert schedule.train_error() == 30.0
    schedule.see(4.0, 2)
    assert schedule.train_error() == 4.0


@pytest.mark.parametrize("batch", [12, 96, 252])
def test_the_error_of_a_batch_is_one_number_whatever_its_shares(batch):
    """Wrong images over images, to the bit; a mean of the shares' percentages rounds apart."""
    generator, rounded_apart = random.Random(0), 0
    for _ in range(200):
        wrong = [generator.random() < 0.4 for _ in range(batch)]
        whole = 100.0 * sum(wrong) / batch
        for processes in (1, 2, 3, 4, 6, 12):
            shares = [wrong[rank::processes] for rank in range(processes)]
            errors = [100.0 * sum(share) / len(share) for share in shares]
            assert error_of_batch(errors, batch) == whole
            rounded_apart += sum(errors) / processes != whole
    assert rounded_apart or batch == 12


# -- warm-up -------------------------------------------------------------------------------------


def test_the_warm_up_ends_when_the_mean_of_the_last_100_steps_is_below_its_error():
    """Errors of 90 and then 70 %: the mean is below 80 once 51 of the last 100 are 70."""
    optimizer, schedule = make(ErrorRule(warm_until=80, warm_factor=0.1))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    ended = []
    for done in range(1, 301):
        if schedule.see(90.0 if done <= 120 else 70.0, done):
            ended.append(done)
        schedule.step()
        expected = 0.1 if ended else 0.01
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
    assert ended == [171]
    assert schedule.decisions == [{"step": 171, "why": "warm-up", "error": 79.8, "factor": 1.0}]


def test_the_warm_up_takes_a_whole_window():
    """One lucky batch at the start ends nothing."""
    _, schedule = make(ErrorRule(warm_until=80, warm_factor=0.1))
    assert [schedule.see(0.0, done) for done in range(1, WINDOW)] == [False] * (WINDOW - 1)
    assert schedule.see(0.0, WINDOW)


def test_steps_of_the_schedule_count_from_the_start():
    """He et al.: "the rest of the learning schedule is as done previously"."""
    steps = MultiStepParamScheduler([1.0, 0.1], milestones=[WINDOW + 1], num_updates=1000)
    optimizer, schedule = make(ErrorRule(warm_until=80, warm_factor=0.1), steps)
    for done in range(1, WINDOW + 1):
        schedule.see(0.0, done)
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


# -- its state -----------------------------------------------------------------------------------


def drive(optimizer, schedule, start, stop):
    """Feeds a made-up training; gives the rate of every step."""
    found = []
    for done in range(start + 1, stop + 1):
        schedule.see(95 - done * 0.3, done)
        if schedule.is_due(done):
            schedule.measure(schedule.train_error(), done)
        schedule.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("cut", [1, 49, 99, 100, 101, 150, 153, 199, 240])
def test_a_state_that_went_through_a_file_goes_on_to_the_bit(cut):
    """Cut in the warm-up, between measurements, at one, behind a drop; torch's strict loading."""
    rule = plateau(plateau="train", period=10, patience=1, threshold=8, warm_until=80,
                   warm_factor=0.1)  # fmt: skip
    optimizer, whole = make(rule)
    expected = drive(optimizer, whole, 0, 250)
    assert whole.drops >= 2 and not whole.is_warming

    optimizer, first = make(rule)
    begun = drive(optimizer, first, 0, cut)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": first.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    optimizer, second = make(rule)
    optimizer.load_state_dict(state["optimizer"])
    second.load_state_dict(state["schedule"])
    assert begun + drive(optimizer, second, cut, 250) == expected
    assert second.decisions == whole.decisions
    assert second.state_dict() == whole.state_dict()
