"""Small detectors whose predictions differ from region to region, for the tests of table 9."""

import torch
from detectron2.modeling import build_model

from resdet.config import resolve
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.run.folder import Run
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


def run_folder(folder, config, *opts):
    """A finished run of a detector that was never trained, on the set of `tiny.voc_tree`."""
    always = ["TRANSFER.FROM_SCRATCH", "True", "DATALOADER.NUM_WORKERS", "0"]
    resolved = resolve(config, [*always, *opts])
    fill_from_weights_and_net(resolved, None)
    resolved.fill({"MODEL.ROI_HEADS.NUM_CLASSES": 2}, "the data sets")
    torch.manual_seed(len(opts))
    model = build_model(resolved.cfg).eval()
    livelier(model)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    run = Run.create(
        folder, kind="detection", config_text=resolved.to_yaml(), command=["made up"], seed=3
    )
    state = {"model": model.state_dict(), "classes": ["ape", "bee"], "run": run.info["id"]}
    torch.save(state, folder / "model_final.pth")
    run.update(state="finished", samples=4)
    return folder
