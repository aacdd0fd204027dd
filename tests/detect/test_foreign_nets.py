"""Nets of timm and of a user's own, from a file with a card to detections; the tutorial's code."""

import json
import re

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet import nets, weights
from resdet.config import net_options, resolve
from resdet.detect.architecture import derived_keys
from resdet.detect.architecture.backbone import build_net, net_part
from resdet.detect.architecture.norms import FrozenBatchNormAct2d
from resdet.detect.starting_weights import page_of_no_detector
from resdet.errors import ConfigError
from resdet.nets import registry
from resdet.run.folder import Run
from resdet.weights import Card, Input
from resdet.weights.resolve import WeightFile
from tests.support import children, tiny, trainings
from tests.support.detectors import config_of
from tests.support.pages import python_blocks

CONFIG = trainings.detector(trainings.HANDED_OVER, {"MODEL.NET": None})
BLOCKS = python_blocks("own_net.md")


@pytest.fixture
def place(tmp_path):
    tiny.voc_tree(tmp_path / "voc")
    (tmp_path / "c.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def python(*words, cwd):
    done = children.python(*words, cwd=cwd, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done


def cfg_of(name, *opts):
    return config_of("MODEL.NET.NAME", name, *opts)


@pytest.mark.parametrize("name", ["test_resnet", "regnetx_002", "convnext_atto"])
def test_a_detector_holds_every_tensor_of_the_net_but_the_last_layers(name):
    """The oracle is timm's own state dict."""
    timm = pytest.importorskip("timm")
    model = build_model(cfg_of(f"timm:{name}", "MODEL.WEIGHTS", "x"))
    theirs = timm.create_model(name, pretrained=False)
    expected = {n for n in theirs.state_dict() if not n.endswith("num_batches_tracked")}
    last = {n for n in expected if n.startswith(("fc.", "head.fc."))}
    assert len(last) == 2
    assert set(net_part(model).state_dict()) == expected - last
    detector = set(model.state_dict())
    trunk = {f"backbone.{n}" for n in expected} & detector
    tail = {f"roi_heads.{n}" for n in expected} & detector
    assert len(trunk) + len(tail) == len(expected) - 2 and trunk and tail


def test_activations_inside_norms_survive_freezing():
    """regnetx_002 has an activation in two of three norms of a block, and in the stem's."""
    pytest.importorskip("timm")
    model = build_model(cfg_of("timm:regnetx_002", "MODEL.WEIGHTS", "x"))
    frozen = [m for m in model.modules() if isinstance(m, FrozenBatchNormAct2d)]
    active = [m for m in frozen if isinstance(m.act, torch.nn.ReLU)]
    # 13 blocks (1, 1, 4, 7) of two each, and the stem.
    assert len(active) == 2 * 13 + 1


def test_freeze_at_counts_the_stages_that_timm_declares():
    """2 of ResNet: act1 (conv1, bn1, act1) and layer1 (maxpool, layer1): stem and res2."""
    pytest.importorskip("timm")
    model = build_model(cfg_of("timm:test_resnet", "MODEL.WEIGHTS", "x"))
    trained = {
        n.split(".")[1] for n, p in model.named_parameters() if p.requires_grad and n[0] == "b"
    }
    assert trained == {"layer2", "layer3"}
    with pytest.raises(ConfigError, match=r"has 4 stages \(act1, layer1, layer2, layer3\)"):
        build_model(
            cfg_of("timm:test_resnet", "MODEL.WEIGHTS", "x", "MODEL.BACKBONE.FREEZE_AT", "5")
        )


def test_options_of_our_families_do_not_reach_foreign_nets_unless_set():
    """Width and stride rule are given to our nets alone; what a user sets is refused by timm."""
    pytest.importorskip("timm")
    assert net_options(resolve(None, ["MODEL.NET.NAME", "timm:test_resnet"]).cfg) == {}
    assert net_options(resolve(None, ["MODEL.NET.NAME", "mine"]).cfg) == {}
    own = net_options(resolve(None, ["MODEL.NET.NAME", "resnet50"]).cfg)
    assert own == {"width": 1.0, "stride_in_1x1": True}
    assert net_options(resolve(None, ["MODEL.NET.NAME", "vgg16_bn"]).cfg) == {"width": 1.0}
    with pytest.raises(ConfigError, match="MODEL.NET: timm:test_resnet cannot be built with width"):
        cfg_of("timm:test_resnet", "MODEL.NET.WIDTH", "0.5")
    with pytest.raises(ConfigError, match="cannot be built with .*stride_in_1x1=False"):
        cfg_of("timm:test_resnet", "MODEL.NET.STRIDE_IN_1X1", "False")
    cfg = cfg_of("timm:test_resnet", "MODEL.NET.POOLED_SIZE", "8")
    assert cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION == 8


def test_a_net_without_a_tail_is_refused_for_c4_with_a_word_on_fpn():
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="EfficientNet, which cannot be split .* with an FPN"):
        cfg_of("timm:test_efficientnet")


def test_a_card_with_an_option_that_no_key_holds_is_refused():
    card = Card("timm:x", Input("RGB", (1.0,) * 3, (1.0,) * 3), {"drop_path_rate": 0.1})
    with pytest.raises(ConfigError, match="has the net option drop_path_rate, which no key"):
        derived_keys.of_card(card)


def test_a_registered_net_that_breaks_a_promise_is_refused_by_its_fault(monkeypatch):
    monkeypatch.setattr(registry, "_BUILDERS", {"mine": lambda num_classes: torch.nn.ReLU()})
    cfg = resolve(None, ["MODEL.NET.NAME", "mine"]).cfg
    with pytest.raises(ConfigError, match=r"MODEL.NET: ReLU is no net .*\n?stages\(\) is missing"):
        build_net(cfg)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_a_file_of_timms_tensors_trains_and_scores(place, name):
    """Every tensor counted: those of timm's state dict without counters and the last layer."""
    timm = pytest.importorskip("timm")
    from resdet.weights.cards import card_of_timm

    net = nets.build(f"timm:{name}", 5).train()
    net(torch.randn(4, 3, 64, 64))
    saved = weights.save(place / "net.safetensors", net.model.state_dict(), card_of_timm(net))
    done = children.run_cli(
        "train_det", "--config", "c.yaml", "--output", "run", "MODEL.WEIGHTS", "net.safetensors",
        cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run = Run.open(place / "run")
    state = timm.create_model(name, pretrained=False, num_classes=5).state_dict()
    expected = [n for n in state if not n.endswith("num_batches_tracked") and ".fc." not in f".{n}"]
    transfer = run.read("transfer.json")
    assert (transfer["expected"], transfer["arrived"], transfer["new"]) == (
        len(expected), len(expected), [],
    )  # fmt: skip
    assert len(transfer["left_over"]) == 2
    assert run.state == "finished" and f"NAME: timm:{name}" in run.config_text
    assert f"- {saved.input.mean[0]}" in run.config_text
    (results,) = run.result_sets()
    scored = json.loads((run.results(results) / "images.json").read_text(encoding="utf-8"))
    assert len(scored["evaluated"]) == 3


def test_a_classifier_of_timms_is_told_how_it_is_scored(tmp_path):
    """Its last layer is called head.fc; the page of --eval-only on what is no detector."""
    pytest.importorskip("timm")
    from resdet.weights.cards import card_of_timm

    net = nets.build("timm:test_convnext", 5)
    for left_out in ((), ("head.fc.",)):
        path = tmp_path / f"{len(left_out)}.safetensors"
        state = {n: t for n, t in net.state_dict().items() if not n.startswith(left_out or " ")}
        weights.save(path, state, card_of_timm(net))
        page = page_of_no_detector(WeightFile(path), tmp_path / "none")
        assert ("without its last layer" in page) == bool(left_out)
        assert ("pretrain_cls --eval-only MODEL.WEIGHTS" in page) != bool(left_out)


PYRAMID = (
    "MODEL.BACKBONE.NAME", "build_net_fpn_backbone", "MODEL.ROI_HEADS.NAME", "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", "1",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ANCHOR_GENERATOR.SIZES", "[[16],[32],[64],[128],[256]]",
)  # fmt: skip


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_a_pyramid_stands_on_any_net_that_runs_layer_by_layer(place, name):
    """With a tail or without: what is behind the last stage is left over, all else arrives."""
    pytest.importorskip("timm")
    from resdet.weights.cards import card_of_timm

    net = nets.build(f"timm:{name}", 5).train()
    net(torch.randn(4, 3, 64, 64))
    weights.save(place / "net.safetensors", net.state_dict(), card_of_timm(net))
    done = children.run_cli(
        "train_det", "--config", "c.yaml", "--output", "run", *PYRAMID,
        "MODEL.WEIGHTS", "net.safetensors", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    transfer = Run.open(place / "run").read("transfer.json")
    behind = ("classifier.", "conv_head.", "bn2.", "norm_head.", "head.")
    tensors = [n for n in net.state_dict() if not n.endswith("num_batches_tracked")]
    assert transfer["arrived"] == len([n for n in tensors if not n.startswith(behind)])
    assert transfer["left_over"] == sorted(n for n in tensors if n.startswith(behind))
    assert transfer["left_over"]


def test_the_tutorials_net_trains_a_detector_as_the_page_states(place):
    """The page's own blocks, with random weights in place of a download.

    SqueezeNet 1.1 has 26 convolutions with a bias each (Iandola et al. 2016): 52 tensors, two of
    them the classifier's.
    """
    net, check, card, _ = BLOCKS
    (place / "own_net.py").write_text(net, encoding="utf-8")
    import torchvision

    torch.manual_seed(0)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, place / "squeezenet1_1.pth")
    python("-c", check + card, cwd=place)
    python(
        "own_net.py", "train_det", "--config", "c.yaml", "--output", "run",
        "MODEL.NET.NAME", "squeezenet1_1", "MODEL.WEIGHTS", "squeezenet1_1.safetensors",
        cwd=place,
    )  # fmt: skip
    run = Run.open(place / "run")
    transfer = run.read("transfer.json")
    assert (transfer["expected"], transfer["arrived"]) == (50, 50)
    assert transfer["left_over"] == ["classifier.1.bias", "classifier.1.weight"]
    assert run.state == "finished"


def test_the_tutorials_net_scores_what_its_weights_are_known_to_score(place, shared_data):
    """36 of 60: the figure of the sample data's own README, found there with torchvision."""
    folder = shared_data / "weights"
    lines = (shared_data / "imagenet_sample" / "synsets.txt").read_text(encoding="utf-8")
    synsets = [re.search(r"n\d{8}", line)[0] for line in lines.splitlines() if line.strip()]
    assert len(synsets) == 1000
    net, _, card, score = BLOCKS
    (place / "own_net.py").write_text(net, encoding="utf-8")
    (place / "squeezenet1_1.pth").symlink_to(folder / "squeezenet1_1-onnxzoo.pth")
    (place / "synsets.json").write_text(json.dumps(synsets), encoding="utf-8")
    ask = (
        "import json; names = json.load(open('synsets.json'))\n"
        f"print(*top1({str(shared_data / 'imagenet_sample')!r}, names))"
    )
    done = python("-c", card + score + ask, cwd=place)
    assert done.stdout.split() == ["36", "60"]
