"""Proposals of the short NMS against Detectron2's own."""

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling.proposal_generator import proposal_utils

from resdet.detect.fast import proposals
from tests.support import detectron2_main
from tests.support.detectors import NETS, detector


def problem(number, spread, seed=0):
    """Boxes about so far apart: the closer, the fewer NMS leaves. Scores with ties."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, number, 2, generator=generator) * spread
    boxes = torch.cat([corner, corner + 40 + torch.rand(2, number, 2, generator=generator)], 2)
    logits = torch.randn(2, number, generator=generator).mul(8).round() / 8
    boxes[0, 5] = torch.tensor([-90.0, -90.0, -50.0, -50.0])  # beyond the image: empty once clipped
    return boxes, logits


def recorded(monkeypatch):
    """How many boxes each call of Detectron2's function is to take, from here on."""
    asked = []
    monkeypatch.setattr(
        proposals,
        "find_top_rpn_proposals",
        lambda *a: (asked.append(a[4]), proposal_utils.find_top_rpn_proposals(*a))[1],
    )
    return asked


@pytest.fixture(params=["installed", "main"])
def whole(request, monkeypatch):
    """Detectron2's function: the installed one's, and that of main, which ranks by topk."""
    if request.param == "installed":
        return proposal_utils.find_top_rpn_proposals
    monkeypatch.setattr(proposals, "_RANKS_BY_TOPK", True)
    return detectron2_main.find_top_rpn_proposals


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("spread", "calls"), [(1200.0, 1), (85.0, 2), (5.0, 4)])
def test_short_nms_keeps_what_the_whole_one_keeps(spread, calls, training, whole, monkeypatch):
    """Many, some and too few boxes left: the answer needs one call, more, and all of them. Equal
    scores, a tenth of all, are ranked as Detectron2 ranks them."""
    rpn = detector(*NETS["basic"]).proposal_generator.train(training)
    rpn.pre_nms_topk = {True: 900, False: 900}
    rpn.post_nms_topk = {True: 100, False: 100}
    boxes, logits = problem(1500, spread)
    sizes = [(1500, 2500), (1400, 1300)]
    arguments = (rpn.nms_thresh, 900, 100, rpn.min_box_size, training)
    expected = whole([boxes], [logits], sizes, *arguments)
    asked = recorded(monkeypatch)
    found = proposals.top_proposals(rpn, [boxes], [logits], sizes)
    assert len(asked) == calls, asked
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.proposal_boxes.tensor, other.proposal_boxes.tensor)
        assert torch.equal(one.objectness_logits, other.objectness_logits)


def test_boxes_that_are_not_finite_stop_a_training_as_ever():
    """The box lies beyond the short part: it is looked for all the same."""
    rpn = detector(*NETS["basic"]).proposal_generator.train()
    boxes, logits = problem(9000, 20000.0)
    boxes[1, logits[1].argmin()] = float("inf")
    rpn.pre_nms_topk = {True: 9000}
    with pytest.raises(FloatingPointError, match="diverged"):
        # So large that nothing is clipped and the first boxes are enough.
        proposals.top_proposals(rpn, [boxes], [logits], [(30000, 30000)] * 2)


def test_levels_of_a_pyramid_are_ranked_together(monkeypatch):
    """Two levels: one call, of all boxes that may enter."""
    rpn = detector(*NETS["basic"]).proposal_generator.eval()
    first, second = problem(700, 500.0), problem(300, 500.0, seed=1)
    boxes, logits = [first[0], second[0]], [first[1], second[1]]
    sizes = [(600, 600)] * 2
    arguments = (rpn.nms_thresh, rpn.pre_nms_topk[False], rpn.post_nms_topk[False], 0.0, False)
    expected = proposal_utils.find_top_rpn_proposals(boxes, logits, sizes, *arguments)
    asked = recorded(monkeypatch)
    found = proposals.top_proposals(rpn, boxes, logits, sizes)
    assert asked == [700]
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.proposal_boxes.tensor, other.proposal_boxes.tensor)
