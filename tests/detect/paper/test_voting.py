"""Box voting, by hand."""

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.detect.paper.voting import vote


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).view(-1, 4)


def test_a_kept_box_is_the_mean_of_those_that_overlap_it_by_half_weighted_by_score():
    """IoU of the kept box with the candidates: 1, 0.8, 0.5 exactly, 1/7; the last does not vote.

    y1 = (0.9 * 10 + 0.3 * 8 + 0.6 * 5) / 1.8 = 8.
    """
    kept = boxes([0, 0, 10, 10])
    candidates = boxes([0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [5, 5, 15, 15])
    scores = torch.tensor([0.9, 0.3, 0.6, 0.8])
    classes = torch.zeros(4, dtype=torch.long)
    voted = vote(kept, classes[:1], candidates, scores, classes)
    torch.testing.assert_close(voted, boxes([0, 0, 10, 8]))


def test_other_classes_do_not_vote():
    kept = boxes([0, 0, 10, 10], [0, 0, 10, 9])
    scores, classes = torch.tensor([0.5, 0.4]), torch.tensor([2, 7])
    assert torch.equal(vote(kept, classes, kept, scores, classes), kept)


def test_a_score_below_zero_has_no_weight_and_without_weight_a_box_stays():
    """As with the scores of SVMs: max(0, score)."""
    kept = boxes([0, 0, 10, 10])
    classes = torch.zeros(2, dtype=torch.long)
    candidates = boxes([0, 0, 10, 10], [0, 0, 10, 8])
    for scores, expected in (((0.5, -3.0), 10), ((-1.0, 0.25), 8), ((-1.0, -1.0), 10)):
        voted = vote(kept, classes[:1], candidates, torch.tensor(scores), classes)
        assert voted.tolist() == [[0, 0, 10, expected]]


def test_a_box_without_area_stays():
    kept = boxes([4, 4, 4, 9])
    classes = torch.zeros(1, dtype=torch.long)
    assert torch.equal(vote(kept, classes, kept, torch.ones(1), classes), kept)


def test_nothing_kept_and_nothing_to_vote():
    none, scores = boxes(), torch.zeros(0)
    classes = torch.zeros(0, dtype=torch.long)
    assert vote(none, classes, none, scores, classes).shape == (0, 4)
