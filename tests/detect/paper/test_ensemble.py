"""Ensembles: unions and averages by hand, the same model twice as the model itself."""

import copy

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.detect.paper.detector_parts import DetectorParts
from resdet.detect.paper.ensemble import average, in_order, union
from resdet.detect.paper.image_views import PYRAMID, VIEWS
from resdet.detect.paper.tester import ImprovedDetector, Improvements
from tests.support import improved


def test_a_proposal_of_an_earlier_member_is_not_taken_twice():
    """The first member's own stay, equal ones too: it alone must be what it was."""
    a, b, c = [0.0, 0, 5, 5], [1.0, 1, 6, 6], [2.0, 2, 7, 7]
    found = union([torch.tensor(x) for x in ([a, b, a], [c, a], [b, c, [2.0, 2, 7, 7.5]])])
    assert [block.tolist() for block in found] == [[a, b, a], [c], [[2, 2, 7, 7.5]]]
    alone, none = torch.tensor([a, a]), torch.zeros(0, 4)
    assert union([alone])[0] is alone
    assert [len(block) for block in union([none, alone])] == [0, 2]
    assert [len(block) for block in union([alone, none])] == [2, 0]


def test_scores_and_boxes_are_averaged_and_a_box_for_all_classes_stands_for_each():
    scores = [torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.5, 0.25]])]
    boxes = [torch.tensor([[0.0, 0, 4, 4, 8, 8, 12, 12]]), torch.tensor([[2.0, 2, 6, 6]])]
    mean = average(scores, boxes)
    assert mean[0].tolist() == [[0.375, 0.375, 0.25]]
    assert mean[1].tolist() == [[1, 1, 5, 5, 5, 5, 9, 9]]


def test_classes_of_a_member_are_put_in_the_first_ones_order():
    scores, boxes = torch.tensor([[0.1, 0.2, 0.3, 0.4]]), torch.arange(12.0)[None]
    found = in_order(scores, boxes, (2, 0, 1))
    torch.testing.assert_close(found[0], torch.tensor([[0.3, 0.1, 0.2, 0.4]]))
    assert found[1].tolist() == [[8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert in_order(scores, boxes, (0, 1, 2))[0] is scores
    # Of an image without proposals.
    found = in_order(torch.zeros(0, 4), torch.zeros(0, 12), (2, 0, 1))
    assert [tuple(part.shape) for part in found] == [(0, 4), (0, 12)]
    one_for_all = torch.arange(4.0)[None]
    assert in_order(scores, one_for_all, (2, 0, 1))[1] is one_for_all


def inputs(members, number=1):
    """Images without a pyramid, the same for each member."""
    return [{**given, VIEWS: [given] * members} for given in improved.images(number)]


def test_an_image_without_a_proposal_has_no_detection():
    """Two members with their classes in another order, every improvement of the test on."""
    models = [improved.detector("basic"), improved.detector("vgg")]
    for model in models:
        model.proposal_generator.post_nms_topk[False] = 0
    (given,) = inputs(2)
    given[VIEWS] = [{**view, PYRAMID: [view["image"]]} for view in given[VIEWS]]
    options, orders = Improvements(True, (96,)), [range(80), range(80)[::-1]]
    with torch.no_grad():
        (output,) = ImprovedDetector(models, options, orders=orders)([given])
    assert len(output["instances"]) == 0


@pytest.mark.parametrize("refined", [False, True], ids=["plain", "refined"])
@pytest.mark.parametrize("case", ["basic", "resnet fpn"])
def test_the_same_model_twice_is_the_model_to_the_bit(case, refined):
    """Equal proposals are taken once, and (x + x) / 2 is x in any float type."""
    model = improved.detector(case)
    options = Improvements(refinement=refined)
    with torch.no_grad():
        alone = ImprovedDetector([model], options)(inputs(1))
        twice = ImprovedDetector([model, copy.deepcopy(model)], options)(inputs(2))
    improved.same_to_the_bit(alone, twice)
    assert len(alone[0]["instances"]) > 3


def test_the_same_model_three_times_is_the_model_within_two_roundings():
    """x + x is exact, adding the third rounds once, dividing by 3 once more: 2^-24 each of size."""
    model = improved.detector("basic")
    with torch.no_grad():
        alone = ImprovedDetector([model], Improvements())(inputs(1))[0]["instances"]
        thrice = ImprovedDetector([model] * 3, Improvements())(inputs(3))[0]["instances"]
    assert torch.equal(alone.pred_classes, thrice.pred_classes)
    bound = {"rtol": 2 * 2**-24 * 1.01, "atol": 0.0}
    torch.testing.assert_close(thrice.scores, alone.scores, **bound)
    torch.testing.assert_close(thrice.pred_boxes.tensor, alone.pred_boxes.tensor, **bound)


def test_detectors_around_different_nets_propose_and_classify_together():
    """A ResNet and a VGG whose test size is another one: as their steps give it, one by one."""
    models = [improved.detector("basic"), improved.detector("vgg")]
    (given,) = improved.images(1)
    larger = torch.nn.functional.interpolate(given["image"][None].float(), size=(144, 200))[0]
    views = [given, {"image": larger}]
    parts = [DetectorParts(model) for model in models]
    with torch.no_grad():
        detector = ImprovedDetector(models, Improvements())
        output = detector([{**given, VIEWS: views}])[0]["instances"]
        maps = [p.maps(v["image"]) for p, v in zip(parts, views, strict=True)]
        factor = torch.tensor([131 / 200, 96 / 144, 131 / 200, 96 / 144])
        regions = torch.cat([parts[0].proposals(maps[0]), parts[1].proposals(maps[1]) * factor])
        first = parts[0].predict(parts[0].region_features(maps[0], regions), regions, (96, 131))
        second = parts[1].predict(
            parts[1].region_features(maps[1], regions / factor), regions, (96, 131)
        )
    best = ((first[0] + second[0]) / 2)[:, :-1].max()
    torch.testing.assert_close(output.scores.max(), best, rtol=1e-4, atol=1e-5)
    assert len(regions) == 24 and len(output) > 3
