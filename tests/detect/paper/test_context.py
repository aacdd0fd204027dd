"""Global context: each region's feature with the whole image's behind it, trained and tested."""

import copy
import functools

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from resdet import weights
from resdet.config import resolve
from resdet.detect import starting_weights
from resdet.detect.architecture.model import fill_from_weights_and_net
from resdet.detect.fast.fast_detector import fast
from resdet.detect.fast.fast_training import speed_up
from resdet.detect.paper.tester import ImprovedDetector, Improvements
from resdet.engine.speed.precision import Precision
from resdet.errors import ConfigError, WeightsError
from tests.support import detectors, improved

SMALL = ["MODEL.WEIGHTS", "given here", "MODEL.NET.WIDTH", "0.125",
         "MODEL.RPN.POST_NMS_TOPK_TEST", "12", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20",
         "MODEL.ROI_HEADS.NUM_CLASSES", "5"]  # fmt: skip


def detector(*more, context="True", name="resnet18"):
    cfg = detectors.config_of(
        "MODEL.NET.NAME", name, *SMALL, "MODEL.REGION_HEADS.CONTEXT", context, *more
    )
    model = detectors.with_frozen_norms(cfg)
    improved.livelier(model)
    return model


def batch():
    found = improved.images(2)
    for number, record in enumerate(found):
        objects = Instances((record["height"], record["width"]))
        objects.gt_boxes = Boxes(torch.tensor([[10.0, 20.0, 70.0, 80.0], [40.0, 5.0, 85.0, 60.0]]))
        objects.gt_classes = torch.tensor([number, 3])
        record["instances"] = objects
    return found


def test_the_predictors_alone_are_wider():
    with_it, without = detector(), detector(context="False")
    shapes = [{n: tuple(t.shape) for n, t in m.state_dict().items()} for m in (with_it, without)]
    assert list(shapes[0]) == list(shapes[1])
    wider = {n: (s, shapes[1][n]) for n, s in shapes[0].items() if s != shapes[1][n]}
    assert wider == {
        "roi_heads.box_predictor.cls_score.weight": ((6, 128), (6, 64)),
        "roi_heads.box_predictor.bbox_pred.weight": ((20, 128), (20, 64)),
    }


@pytest.mark.parametrize("how", ["by name", "as it is"])
@pytest.mark.parametrize(
    ("here", "advice"),
    [("True", "CONTEXT is True, and the file was trained without it: set it False, or take"),
     ("False", "The file was trained with MODEL.REGION_HEADS.CONTEXT True, which is False here")],
    ids=["with it", "without"],
)  # fmt: skip
def test_a_detector_of_the_other_kind_is_refused_by_that_key(here, advice, how):
    """Rows of half or twice the length cannot be copied, by name neither."""
    other = "False" if here == "True" else "True"
    tensors, names = detector(context=other).state_dict(), ("a", "b", "c", "d", "e")
    fit = None
    if how == "by name":
        fit = functools.partial(
            weights.fit_heads, file_classes=names, classes=names[::-1], how="by_name", where="x.pth"
        )
    with pytest.raises(WeightsError, match=f"(?s)cls_score.weight: .*{advice}") as error:
        starting_weights.load_detector(detector(context=here), tensors, "x.pth", fit)
    assert "Nothing was loaded" in str(error.value)


def test_on_a_constant_map_a_region_and_the_image_have_one_feature():
    """Pooling the same value everywhere gives it everywhere."""
    heads = detector().roi_heads
    shared = {"res4": torch.full((1, 32, 12, 16), 0.75)}
    boxes = [Boxes(torch.tensor([[20.0, 30, 90, 100], [100, 60, 200, 150]]))]
    with torch.no_grad():
        x = heads.predictor_input(shared, boxes, [(192, 256)])
    assert x.shape == (2, 128)
    torch.testing.assert_close(x[:, :64], x[:, 64:])
    assert x.std() > 0


def test_behind_each_region_stands_the_feature_of_its_own_image():
    """Two images of one batch, padded to one size: the box is the image's, without padding."""
    model = detector()
    heads, given = model.roi_heads, improved.images(2)
    boxes = [Boxes(torch.tensor([[5.0, 5, 60, 70]])), Boxes(torch.tensor([[9.0, 2, 40, 80]] * 2))]
    with torch.no_grad():
        images = model.preprocess_image(given)
        maps = model.backbone(images.tensor)
        x = heads.predictor_input(maps, boxes, images.image_sizes)
        whole = [Boxes(torch.tensor([[0.0, 0, w, h]])) for h, w in images.image_sizes]
        of_images = heads.region_features(maps, whole)
        of_regions = heads.region_features(maps, boxes)
    torch.testing.assert_close(x[:, :64], of_regions)
    torch.testing.assert_close(x[:, 64:], of_images[[0, 1, 1]])
    assert images.image_sizes == [(96, 131), (113, 90)]


def test_an_image_without_proposals_has_no_row():
    heads, shared = detector().roi_heads, {"res4": torch.rand(1, 32, 6, 8)}
    x = heads.predictor_input(shared, [Boxes(torch.zeros(0, 4))], [(96, 128)])
    assert x.shape == (0, 128)


def test_the_whole_is_trained_end_to_end():
    """A gradient reaches cells of the map that no region covers."""
    heads = detector().roi_heads
    shared = torch.rand(1, 32, 12, 16, requires_grad=True)
    boxes = [Boxes(torch.tensor([[16.0, 16, 64, 64]]))]
    x = heads.predictor_input({"res4": shared}, boxes, [(192, 256)])
    x.sum().backward()
    assert shared.grad[0, :, 9:, 9:].abs().sum() > 0


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_the_fast_forms_give_the_same_within_rounding(name):
    """Losses in training, scores and boxes in test; the context goes through the regions' way."""
    more = ("MODEL.NET.FC_CHANNELS", "32") if name == "vgg11" else ()
    model = detector(*more, name=name)
    with torch.no_grad():
        expected = model(improved.images(1))[0]["instances"]
        found = fast(model)(improved.images(1))[0]["instances"]
    assert len(found) == len(expected) > 3
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-3)
    quick = copy.deepcopy(model)
    speed_up(quick, Precision(channels_last=True))
    assert list(quick.state_dict()) == list(model.state_dict())
    losses = []
    for one in (model, quick):
        torch.manual_seed(0)
        with EventStorage():
            losses.append(one.train()(batch()))
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_the_steps_one_by_one_are_the_detector_to_the_bit():
    model = detector()
    with torch.no_grad():
        steps = ImprovedDetector([model], Improvements())(improved.images(1))
        improved.same_to_the_bit(model(improved.images(1)), steps)
        refined = ImprovedDetector([model], Improvements(refinement=True))(improved.images(1))
    assert len(refined[0]["instances"]) > 3


@pytest.mark.parametrize("heads", ["StandardROIHeads", "Res5ROIHeads"])
def test_region_heads_that_have_none_are_refused(heads):
    config = resolve(
        None,
        ["MODEL.NET.NAME", "resnet18", "MODEL.BACKBONE.NAME", "build_net_backbone",
         "MODEL.ROI_HEADS.NAME", heads, "MODEL.REGION_HEADS.CONTEXT", "True"],
    )  # fmt: skip
    with pytest.raises(ConfigError, match=rf"CONTEXT is True, but MODEL.ROI_HEADS.NAME is {heads}"):
        fill_from_weights_and_net(config, None)
