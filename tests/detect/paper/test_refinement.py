"""Box refinement: its regions by hand, the whole against Detectron2 run region by region."""

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.structures import Boxes, Instances

from resdet.config import get_cfg
from resdet.detect.detecting_form import check_form, form_for_detecting
from resdet.detect.fast.fast_detector import fast
from resdet.detect.paper.refinement import candidates, refined_regions
from resdet.detect.paper.tester import ImprovedDetector, Improvements
from resdet.errors import ConfigError
from tests.support import improved

REFINED = Improvements(refinement=True)


def test_a_region_becomes_the_clipped_box_of_its_best_class():
    """Two classes and background, an image of 50 x 100; background's 0.9 chooses nothing."""
    scores = torch.tensor([[0.2, 0.7, 0.1], [0.06, 0.04, 0.9], [0.1, 0.8, 0.1]])
    boxes = torch.tensor(
        [
            [1.0, 1, 9, 9, 20, 5, 130, 45],
            [3, 4, 30, 40, 7, 7, 9, 9],
            [1, 1, 2, 2, 0, 0, float("inf"), 5],
        ]
    )
    expected = torch.tensor([[20.0, 5, 100, 45], [3, 4, 30, 40]])
    assert torch.equal(refined_regions(scores, boxes, (50, 100)), expected)


def test_without_boxes_of_classes_there_is_one_for_all():
    scores, boxes = torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([[3.0, 4, 30, 40]])
    assert torch.equal(refined_regions(scores, boxes, (50, 100)), boxes)
    assert [t.tolist() for t in candidates(scores, boxes, (50, 100), 0.5)] == [
        [[3, 4, 30, 40]],
        [pytest.approx(0.7)],
        [1],
    ]


def test_no_region_has_no_refined_one():
    assert refined_regions(torch.zeros(0, 3), torch.zeros(0, 8), (50, 100)).shape == (0, 4)


@pytest.mark.parametrize(
    ("case", "is_fast"),
    [*((case, False) for case in improved.CASES), ("basic", True), ("vgg fpn", True)],
)
def test_the_steps_one_by_one_are_the_detector_to_the_bit(case, is_fast):
    """Nothing improved: maps, proposals, regions and predictions are those of the one call."""
    model = improved.detector(case)
    model = fast(model) if is_fast else model
    batch = improved.images(2)
    with torch.no_grad():
        steps = ImprovedDetector([model], Improvements())(batch)
        improved.same_to_the_bit([model([given])[0] for given in batch], steps)
    assert min(len(o["instances"]) for o in steps) > 5


def test_off_is_the_model_itself():
    cfg, model = get_cfg(), improved.detector("basic")
    assert form_for_detecting(model, cfg) is model
    cfg.TEST.BOX_REFINEMENT = "on"
    form = form_for_detecting(model, cfg)
    assert isinstance(form, ImprovedDetector) and form.models[0] is model


@pytest.mark.parametrize("case", improved.CASES)
def test_both_rounds_are_what_detectron2_gives_region_by_region(case):
    """Stock's own inference with one given region at a time; NMS and votes in plain numpy."""
    model = improved.detector(case, proposals=8)
    given = improved.images(1)[0]
    del given["height"], given["width"]  # the boxes stay in pixels of the image as it is
    with torch.no_grad():
        output = ImprovedDetector([model], REFINED)([given])[0]["instances"]
        expected = by_hand(model, given)
    assert len(expected) == len(output) > 3
    np.testing.assert_array_equal([c for c, _, _ in expected], output.pred_classes)
    np.testing.assert_allclose([s for _, s, _ in expected], output.scores, atol=1e-4)
    np.testing.assert_allclose([b for _, _, b in expected], output.pred_boxes.tensor, atol=0.02)
    plain = model([given])[0]["instances"]
    assert len(plain) != len(output) or not torch.allclose(
        plain.pred_boxes.tensor, output.pred_boxes.tensor, atol=0.5
    )


def by_hand(model, given):
    """[(class, score, box)] by falling score."""
    size = tuple(given["image"].shape[-2:])
    images = model.preprocess_image([given])
    maps = model.backbone(images.tensor)
    regions = model.proposal_generator(images, maps, None)[0][0]
    first = [one_region(model, maps, box, size) for box in regions.proposal_boxes.tensor]
    second = []
    for scores, boxes in first:
        best = boxes[scores.argmax()]
        clipped = best.clip(min=0).clip(max=[size[1], size[0], size[1], size[0]])
        second.append(one_region(model, maps, torch.tensor(clipped), size))
    threshold = model.roi_heads.box_predictor.test_score_thresh
    found = [
        (label, score, box)
        for scores, boxes in [*first, *second]
        for label, (score, box) in enumerate(zip(scores, boxes, strict=True))
        if score > threshold
    ]
    found.sort(key=lambda d: -d[1])
    kept = []
    for label, score, box in found:
        if all(c != label or iou(box, b) <= 0.3 for c, _, b in kept):
            kept.append((label, score, box))
    result = []
    for label, score, box in kept[:100]:
        voters = [(s, b) for c, s, b in found if c == label and iou(box, b) >= 0.5]
        mean = sum(s * b for s, b in voters) / sum(s for s, _ in voters)
        result.append((label, score, mean))
    return result


def one_region(model, maps, box, size):
    """Scores (K,) and clipped boxes (K, 4) of one region, by Detectron2's own inference."""
    predictor = model.roi_heads.box_predictor
    kept = predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image
    predictor.test_score_thresh, predictor.test_nms_thresh = -1.0, 1.0
    predictor.test_topk_per_image = -1
    region = Instances(size, proposal_boxes=Boxes(box[None]), objectness_logits=torch.ones(1))
    (output,), _ = model.roi_heads(None, maps, [region])
    (predictor.test_score_thresh, predictor.test_nms_thresh,
     predictor.test_topk_per_image) = kept  # fmt: skip
    order = output.pred_classes.argsort()
    return output.scores[order].numpy(), output.pred_boxes.tensor[order].numpy()


def iou(a, b):
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inside = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return inside / (areas - inside) if inside else 0.0


def test_images_are_tested_one_at_a_time():
    cfg = get_cfg()
    cfg.TEST.BOX_REFINEMENT, cfg.TEST.IMS_PER_BATCH = "on", 2
    with pytest.raises(ConfigError, match="IMS_PER_BATCH is 2, but with TEST.BOX_REFINEMENT"):
        Improvements.of_config(cfg)


def test_heads_that_predict_in_another_way_are_refused_before_a_training():
    cfg, model = get_cfg(), improved.detector("resnet fpn")
    model.roi_heads.__class__ = CascadeROIHeads
    check_form(model, cfg)
    cfg.TEST.BOX_REFINEMENT = "on"
    with pytest.raises(ConfigError, match="is CascadeROIHeads, .* Res5ROIHeads, StandardROIHeads"):
        check_form(model, cfg)


def test_an_rpn_alone_is_refused_by_its_name():
    cfg, model = get_cfg(), improved.detector("basic")
    cfg.TEST.BOX_REFINEMENT = "on"
    with pytest.raises(ConfigError, match="META_ARCHITECTURE is StandardRPNHead, which classifies"):
        check_form(model.proposal_generator.rpn_head, cfg)
