"""Small detectors whose predictions differ from region to region, for the tests of table 9."""

import torch

from tests.support import detectors

CASES = ["basic", "vgg", "resnet fpn", "resnet dc5"]


def images(number=2):
    generator = torch.Generator().manual_seed(1)
    sizes = [(96, 131), (113, 90)][:number]
    return [
        {"image": torch.randint(0, 256, (3, *s), generator=generator, dtype=torch.uint8),
         "height": s[0], "width": s[1]}
        for s in sizes
    ]  # fmt: skip


def detector(case, proposals=12):
    """Random, but with scores and boxes that spread as a trained detector's do."""
    if case in detectors.PRESETS:
        model = detectors.detector_on_standard_heads(case)
        model.proposal_generator.post_nms_topk[False] = proposals
    else:
        name, options = detectors.NETS[case]
        model = detectors.detector(name, options, proposals=proposals)
    livelier(model)
    return model


def livelier(model):
    """Predictors of new layers are almost silent: every class alike, every box its region."""
    heads = model.roi_heads
    with torch.no_grad():
        features = []
        hook = heads.box_predictor.register_forward_pre_hook(lambda _, x: features.append(x[0]))
        model(images(1))
        hook.remove()
        size = features[0].std() * features[0].shape[1] ** 0.5
        heads.box_predictor.cls_score.weight.normal_(std=2.0 / float(size))
        heads.box_predictor.bbox_pred.weight.normal_(std=1.5 / float(size))
    heads.box_predictor.test_score_thresh = 0.02
    heads.box_predictor.test_nms_thresh = 0.3


def same_to_the_bit(before, after):
    """Two lists of outputs of a detector."""
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        first, second = one["instances"], other["instances"]
        assert first.image_size == second.image_size
        assert torch.equal(first.pred_boxes.tensor, second.pred_boxes.tensor)
        assert torch.equal(first.scores, second.scores)
        assert torch.equal(first.pred_classes, second.pred_classes)
