"""Errors by hand."""

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2")

from resdet.errors import CheckFailed
from resdet.pretrain.scoring import errors_of, score
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


def test_top5_is_shown_where_five_guesses_can_be_wrong():
    """Of two classes "top-5 error 0.00 %" looked like a result."""
    errors = {"top1_error": 12.5, "top5_error": 0.0, "images": {"evaluated": 8}}
    assert in_words({**errors, "classes": 5}) == "top-1 error 12.50 % (1-crop, 8 images)"
    assert ", top-5 error 0.00 % (" in in_words({**errors, "classes": 6})
