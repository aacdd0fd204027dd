"""Errors by hand, and BN statistics against the whole population."""

import itertools
import logging

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from resdet.errors import CheckFailed
from resdet.pretrain.scoring import errors_of, recompute_bn_statistics, score
from resdet.pretrain.set_scores import in_words


def test_top1_and_top5_by_hand():
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1]])
    assert errors_of(logits, torch.tensor([0, 4, 5])) == (2, 1)


def test_a_net_that_states_nothing_is_not_right_by_chance():
    """Equal logits are ordered by class; NaN is always wrong."""
    flat = torch.zeros(2, 10)
    assert errors_of(flat, torch.tensor([0, 9])) == (1, 1)
    assert errors_of(flat * float("nan"), torch.tensor([0, 9])) == (2, 2)


def test_an_image_seen_twice_gives_no_number():
    """F41."""
    batches = [(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), [0, 0])]
    with pytest.raises(CheckFailed, match="expected 2 images, saw 2, 1 twice"):
        score(nn.Linear(3, 2), batches, lambda x: x, 2, "set")


@pytest.mark.numeric
def test_recomputed_statistics_are_the_populations():
    """Mean and variance of all images together, not the mean of the batches' variances."""
    x = torch.randn(40, 3, 5, 5) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1) + 7
    x[20:] += 4  # batches differ, so that the two readings differ
    net = nn.Sequential(nn.BatchNorm2d(3))
    batches = [(part, None, []) for part in x.split(10)]
    assert recompute_bn_statistics(net, batches, lambda t: t, 4) == 1
    # float32: a mean of 1,000 numbers rounds by 1,000 * 6e-8 = 6e-5 of them at most, in any order.
    torch.testing.assert_close(net[0].running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    population = x.var((0, 2, 3), unbiased=False)
    # Squares are at most 25 times the variance: 25 * 6e-5 = 1.5e-3. Unbiased it differs by 4e-3.
    torch.testing.assert_close(net[0].running_var, population, rtol=2e-3, atol=0)


def test_recomputing_statistics_shows_how_far_it_is(monkeypatch, caplog):
    """51,200 images take minutes: a line at most every ten seconds, here of 6 s a batch."""
    clock = itertools.count(0, 6)
    monkeypatch.setattr("resdet.pretrain.scoring.time.monotonic", lambda: float(next(clock)))
    net = nn.Sequential(nn.BatchNorm2d(3))
    batches = [(torch.randn(2, 3, 4, 4), None, [])] * 6
    with caplog.at_level(logging.INFO, logger="resdet.pretrain"):
        recompute_bn_statistics(net, batches, lambda t: t, 6)
    lines = [r.getMessage() for r in caplog.records if r.name == "resdet.pretrain"]
    assert lines == [
        "statistics of norms: 2 of 6 batches, 6.000 s a batch, eta 24 s",
        "statistics of norms: 4 of 6 batches, 6.000 s a batch, eta 12 s",
    ]


def test_top5_is_shown_where_five_guesses_can_be_wrong():
    """Of two classes "top-5 error 0.00 %" looked like a result."""
    errors = {"top1_error": 12.5, "top5_error": 0.0, "images": {"evaluated": 8}}
    assert in_words({**errors, "classes": 5}) == "top-1 error 12.50 % (1-crop, 8 images)"
    assert ", top-5 error 0.00 % (" in in_words({**errors, "classes": 6})
