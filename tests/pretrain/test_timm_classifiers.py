"""Transformers of timm as classifiers: trained as timm's own nets, and handed to a detector."""

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

from resdet import nets, weights
from resdet.detect.architecture.backbone import net_part
from resdet.detect.starting_weights import load_backbone
from resdet.errors import ConfigError
from resdet.nets import registry
from resdet.pretrain.file_scores import load_net
from resdet.pretrain.recipe.plan import plan_of_classifier
from resdet.run.folder import Run
from resdet.weights.resolve import WeightFile
from tests.support import children, tiny
from tests.support.detectors import config_of
from tests.support.pages import python_blocks
from tests.support.recipes import training_in

timm = pytest.importorskip("timm")

NET = {"MODEL.NET.STEM": None, "MODEL.NET.WIDTH": None, "SOLVER.MAX_ITER": 2,
       "SOLVER.OPTIMIZER": "AdamW", "SOLVER.BASE_LR": 1e-3}  # fmt: skip
VIT = {**NET, "MODEL.NET.NAME": "timm:test_vit", "PRETRAIN.CROP": 32, "PRETRAIN.TEST_SIDE": 36}
SQUARE = {**NET, "MODEL.NET.NAME": "timm:test_coatnet", "PRETRAIN.CROP": 64,
          "PRETRAIN.TEST_SIDE": 64}  # fmt: skip
SMALL = {**NET, "PRETRAIN.CROP": 32, "PRETRAIN.TEST_SIDE": 36, "MODEL.PIXEL_MEAN": [60.0] * 3,
         "MODEL.PIXEL_STD": [50.0] * 3}  # fmt: skip
PYRAMID = ("MODEL.BACKBONE.NAME", "build_net_fpn_backbone", "MODEL.ROI_HEADS.NAME",
           "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
           "MODEL.ROI_BOX_HEAD.NUM_FC", "1", "MODEL.WEIGHTS", "x",
           "MODEL.ANCHOR_GENERATOR.SIZES", "[[32],[64],[128],[256],[512]]")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("transformers")
    tiny.class_folders(place / "data")
    return place


def trained(place, name, keys):
    """The run's own file: tensors and card."""
    training_in(place, name, keys).train(resuming=False)
    return weights.load(place / name / "model.safetensors")


def test_a_vision_transformer_is_trained_and_is_timms_net_in_its_file(place):
    """The oracle is timm's model with the file's tensors: the same logits to the bit."""
    tensors, card = trained(place, "vit", {**VIT, "MODEL.NET.DROP_PATH": 0.3})
    assert (card.net, card.net_options) == ("timm:test_vit", {})
    theirs = timm.create_model("test_vit", num_classes=3, dynamic_img_size=True).eval()
    theirs.load_state_dict(tensors, strict=True)
    ours = nets.build(card.net, 3).eval()
    ours.load_state_dict(tensors)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
    off, _ = trained(place, "off", VIT)
    assert not all(torch.equal(off[name], tensor) for name, tensor in tensors.items())
    at_zero, _ = trained(place, "zero", {**VIT, "MODEL.NET.DROP_PATH": 0.0})
    assert all(torch.equal(off[name], tensor) for name, tensor in at_zero.items())
    model = build_model(config_of("MODEL.NET.NAME", card.net, *PYRAMID))
    received = load_backbone(model, tensors, "vit", ())
    assert received.expected == len(received.arrived) == len(tensors) - 4


def test_a_net_of_one_size_is_trained_at_another_and_detects_at_a_third(place):
    """CoAtNet, timm's at 160: built for crops of 64, its biases resampled for images of 96."""
    with pytest.raises(ConfigError, match=r"CROP is 64, but the net takes no .*\(160 is timm's\)"):
        training_in(place, "refused", SQUARE).plan(0)
    tensors, card = trained(place, "square", {**SQUARE, "MODEL.NET.IMAGE_SIZE": 64})
    assert card.net_options == {"image_size": 64}
    done = children.run_cli(
        "pretrain_cls", "--eval-only", "--output", "scored", "MODEL.WEIGHTS",
        "square/model.safetensors", "PRETRAIN.VAL", "data/val", "MODEL.DEVICE", "cpu", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = [Run.open(place / name).read("classification.json") for name in ("square", "scored")]
    errors = [[scores["top1_error"] for scores in run.values()] for run in runs]
    assert errors[0] == errors[1] and len(errors[0]) == 1
    net = nets.build(card.net, 3, **card.net_options)
    net.load_state_dict(tensors)
    sizes = (
        "MODEL.NET.IMAGE_SIZE",
        "96",
        "INPUT.MAX_SIZE_TRAIN",
        "96",
        "INPUT.MAX_SIZE_TEST",
        "96",
    )
    model = build_model(config_of("MODEL.NET.NAME", card.net, *PYRAMID, *sizes))
    received = load_backbone(model, tensors, "square", ())
    assert received.expected == len(received.arrived) and received.resampled
    shapes = {n: t.shape for n, t in net_part(model).state_dict().items()}
    assert all(shapes[name] != tensors[name].shape for name in received.resampled)


@pytest.mark.parametrize(
    ("name", "last"), [("timm:test_vit", "head"), ("squeezenet1_1", "classifier.1")]
)
def test_a_classifier_starts_from_one_of_other_classes(place, monkeypatch, name, last):
    """Its last layer, whatever it is called, begins anew; all else arrives."""
    monkeypatch.setattr(registry, "_BUILDERS", {})
    exec(python_blocks("own_net.md")[0], {"__name__": "own_net"})
    net = nets.build(name, 5)
    input_ = weights.Input("RGB", (60.0,) * 3, (50.0,) * 3)
    other = place / f"{last}.safetensors"
    weights.save(other, net.state_dict(), weights.Card(name, input_, classes=tuple("abcde")))
    training = training_in(
        place, f"from {last}", {**SMALL, "MODEL.NET.NAME": name, "MODEL.WEIGHTS": str(other)}
    )
    training.train(resuming=False)
    received = training.run.read("transfer.json")
    assert sorted(received["new"]) == [f"{last}.bias", f"{last}.weight"]
    assert received["arrived"] == len(net.state_dict()) - 2
    file = WeightFile(place / f"from {last}" / "model.safetensors")
    built, card = load_net(file)
    assert card.classes == ("blue", "green", "red")
    assert all(torch.equal(t, file.load()[0][n]) for n, t in built.state_dict().items())


def test_a_crop_that_a_net_of_ours_does_not_take_has_a_page():
    """VGG's five poolings leave nothing of 16 pixels."""
    cfg = config_of("MODEL.NET.NAME", "vgg11", "MODEL.WEIGHTS", "x", "PRETRAIN.CROP", "16")
    with pytest.raises(ConfigError, match=r"CROP is 16, but .*Set the side that vgg11 takes\."):
        plan_of_classifier(cfg, nets.build("vgg11", 3))
