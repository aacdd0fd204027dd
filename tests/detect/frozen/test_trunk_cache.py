"""ENGINE.TRUNK_CACHE against a trunk that computes its maps whenever an image is seen."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from detectron2.modeling import build_model

import resdet.detect  # noqa: F401 registers
from resdet.cli.main import main
from resdet.config import get_cfg, resolve, set_key
from resdet.config.key_checks.dependent_keys import check_dependent
from resdet.detect.architecture.backbone import trunk_of
from resdet.detect.frozen.map_store import MapStore
from resdet.detect.frozen.trunk_maps import MAPS, TrunkMaps, refuse_what_trains, take_given_maps
from resdet.errors import ConfigError, RunError
from resdet.nets import registry
from resdet.run.folder import Run
from resdet.run.lock import held
from tests.support import children, tiny, trainings
from tests.support.detectors import config_of
from tests.support.pages import python_blocks

FROZEN = {
    "MODEL.BACKBONE.FREEZE_AT": 5,
    "MODEL.WEIGHTS": "net.safetensors",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "INPUT": {
        "MIN_SIZE_TRAIN": [96], "MAX_SIZE_TRAIN": 96, "MIN_SIZE_TEST": 96, "MAX_SIZE_TEST": 96,
        "RANDOM_FLIP": "none", "SQUARE_PAD": 96,
    },
    "SOLVER.MAX_ITER": 4,
    "SOLVER.CHECKPOINT_PERIOD": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Three runs of one config: off, with the cache, and one that finds the maps there."""
    root = tmp_path_factory.mktemp("frozen")
    tiny.voc_tree(root / "voc")
    trainings.net_to_hand_over(root / "net.safetensors")
    (root / "c.yaml").write_text(trainings.detector(trainings.PYRAMID, FROZEN))
    for name, keys in (
        ("off", ()),
        ("on", ("ENGINE.TRUNK_CACHE", "maps")),
        ("again", ("ENGINE.TRUNK_CACHE", "maps", "SOLVER.MAX_ITER", "2")),
    ):
        done = children.run_cli(
            "train_det", "--config", "c.yaml", "--output", name, *keys, cwd=root
        )
        assert done.returncode == 0, done.stderr
        (root / f"{name}.log").write_text(done.stderr + done.stdout)
    return root


def losses(run: Path) -> list[float]:
    return [row["total_loss"] for row in Run.open(run).metrics() if "total_loss" in row]


def detections(run: Path) -> list[dict]:
    path = next(run.glob("results/*/coco_instances_results.json"))
    return sorted(json.loads(path.read_text()), key=lambda r: (r["image_id"], -r["score"]))


def test_losses_and_detections_are_those_of_a_trunk_that_runs_each_time(place):
    """Maps of 16 images at once differ from those of two in the last bits of float32."""
    assert losses(place / "on") == pytest.approx(losses(place / "off"), rel=1e-4)
    on, off = detections(place / "on"), detections(place / "off")
    assert len(on) == len(off) > 0
    for mine, other in zip(on, off, strict=True):
        assert mine["score"] == pytest.approx(other["score"], abs=1e-4)


def test_the_whole_detector_is_in_the_file_and_its_trunk_is_as_it_came(place):
    """Loaded into the same model, on real pixels."""
    state, other = (
        torch.load(place / name / "model_final.pth", weights_only=True)["model"]
        for name in ("on", "off")
    )
    assert state.keys() == other.keys()
    for name in state:
        if "bottom_up" in name:
            assert torch.equal(state[name], other[name]), name


def test_maps_are_computed_once_for_all_runs(place):
    assert "maps of the trunk" in (place / "on.log").read_text()
    again = (place / "again.log").read_text()
    assert "maps of the trunk" not in again and "maps of 3 images are in" in again
    assert len(list((place / "maps").glob("*/index.json"))) == 2


def test_a_resumed_run_ends_with_the_same_weights(place):
    """After two steps and two more, with the maps that are there."""
    words = ("--config", "c.yaml", "--output", "parts", "ENGINE.TRUNK_CACHE", "maps")
    first = children.run_cli("train_det", *words, "SOLVER.MAX_ITER", "2", cwd=place)
    assert first.returncode == 0, first.stderr
    second = children.run_cli("train_det", *words[:4], "--resume", *words[4:], cwd=place)
    assert second.returncode == 0, second.stderr
    whole, parts = (
        torch.load(place / name / "model_final.pth", weights_only=True)["model"]
        for name in ("on", "parts")
    )
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


def frozen_model(tmp_path: Path, *opts: str):
    net = trainings.net_to_hand_over(tmp_path / "net.safetensors")
    return build_model(
        config_of(
            "MODEL.NET.NAME", "resnet18", "MODEL.NET.WIDTH", "0.125", "MODEL.WEIGHTS", str(net),
            "MODEL.BACKBONE.NAME", "build_net_fpn_backbone", "MODEL.ROI_HEADS.NAME",
            "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
            "MODEL.ROI_BOX_HEAD.NUM_FC", "1", "MODEL.ROI_BOX_HEAD.FC_DIM", "16",
            "MODEL.ANCHOR_GENERATOR.SIZES", "[[32],[64],[128],[256],[512]]", *opts,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("net", "key", "value"),
    [("resnet18", "MODEL.NET.NORM_EPS", 0.001), ("timm:test_maxvit", "MODEL.NET.IMAGE_SIZE", 96)],
)
def test_maps_of_a_net_with_another_option_have_another_place(net, key, value):
    """Neither is in a tensor that the two trunks would differ in."""
    maps = TrunkMaps.__new__(TrunkMaps)
    maps.cfg, maps._digest = get_cfg(), "one digest"
    maps.cfg.MODEL.NET.NAME, maps.cfg.ENGINE.TRUNK_CACHE = net, "maps"
    usual, about = maps._place([], "set")
    assert maps._place([], "set") == (usual, about)
    set_key(maps.cfg, key, value)
    other, _ = maps._place([], "set")
    assert other != usual


def test_maps_that_are_whole_are_read_while_another_run_holds_their_folder(tmp_path, monkeypatch):
    """As two seeds of one detector that start at the same moment."""
    maps = TrunkMaps.__new__(TrunkMaps)
    shapes = {"res4": (1, 2, 2)}
    monkeypatch.setattr(maps, "_place", lambda records, name: (tmp_path, {}))
    monkeypatch.setattr(maps, "_shapes", lambda: shapes)
    store = MapStore(tmp_path, {}, shapes, 2)
    with held(tmp_path / "lock.json", "now"):
        with pytest.raises(RunError, match="is in use by process"):
            maps._filled([{}, {}], "set")
        store.add({"res4": torch.ones(2, 1, 2, 2)})
        assert maps._filled([{}, {}], "set")[1]["res4"].sum() == 4


def test_maps_have_the_cells_that_a_net_of_ones_own_gives(tmp_path, monkeypatch):
    """SqueezeNet pads less: 5 cells of 96 pixels at stride 16 in C4, and 6 under a pyramid."""
    monkeypatch.setattr(registry, "_BUILDERS", {})
    exec(python_blocks("own_net.md")[0], {"__name__": "own_net"})
    keys = ("MODEL.NET.NAME", "squeezenet1_1", "MODEL.WEIGHTS", "x", "INPUT.SQUARE_PAD", "96",
            "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MAX_SIZE_TEST", "96")  # fmt: skip
    cfg = config_of(*keys, "MODEL.BACKBONE.FREEZE_AT", "4")
    model = build_model(cfg).eval()
    maps = TrunkMaps(cfg, model, None)
    assert maps._shapes() == {"features.10": (384, 5, 5)}
    assert model.backbone(torch.zeros(1, 3, 96, 96))["features.10"].shape[1:] == (384, 5, 5)
    fpn = ("MODEL.BACKBONE.NAME", "build_net_fpn_backbone", "MODEL.ROI_HEADS.NAME",
           "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
           "MODEL.ROI_BOX_HEAD.NUM_FC", "1")  # fmt: skip
    cfg = config_of(*keys, *fpn, "MODEL.BACKBONE.FREEZE_AT", "5")
    maps = TrunkMaps(cfg, build_model(cfg).eval(), None)
    assert maps._shapes() == {
        "features.4": (128, 24, 24), "features.7": (256, 12, 12), "features.12": (512, 6, 6),
    }  # fmt: skip


def test_a_batch_without_maps_runs_the_trunk_and_one_with_maps_does_not(tmp_path):
    model = frozen_model(tmp_path, "MODEL.BACKBONE.FREEZE_AT", "5").eval()
    trunk = trunk_of(model)
    image = torch.rand(3, 64, 64) * 255
    with torch.no_grad():
        maps = trunk(model.preprocess_image([{"image": image}]).tensor)
        off = model([{"image": image}])[0]["instances"].scores
        take_given_maps(model, trunk)
        take_given_maps(model, trunk)  # once is enough
        assert torch.equal(model([{"image": image}])[0]["instances"].scores, off)
        given = {"image": 0 * image, MAPS: {name: m[0] for name, m in maps.items()}}
        assert torch.equal(model([given])[0]["instances"].scores, off)
        blank = model([{"image": 0 * image}])[0]["instances"].scores
    assert blank.shape != off.shape or not torch.equal(blank, off)


@pytest.mark.parametrize(
    ("opts", "match"),
    [
        (("MODEL.BACKBONE.FREEZE_AT", "4"), "res5.* trains"),
        (("MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.NET.NORM", "BN"), "stem.* trains"),
    ],
)
def test_a_trunk_that_trains_is_refused(tmp_path, opts, match):
    with pytest.raises(ConfigError, match=match):
        refuse_what_trains(trunk_of(frozen_model(tmp_path, *opts)))


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (("ENGINE.TRUNK_CACHE", "x"), "with INPUT.SQUARE_PAD alone"),
        (("INPUT.SQUARE_PAD", "96"), "INPUT.MAX_SIZE_TRAIN is 1333, more than"),
        (("INPUT.SQUARE_PAD", "100"), "a multiple of 32"),
        (("INPUT.SQUARE_PAD", "96", "INPUT.MIN_SIZE_TEST", "0"), "INPUT.MIN_SIZE_TEST is 0"),
        (("INPUT.SQUARE_PAD", "2048", "ENGINE.TRUNK_CACHE", "x"), "RANDOM_FLIP is horizontal"),
        (
            ("INPUT.SQUARE_PAD", "2048", "TEST.SCALES", "(300, 600)"),
            "TEST.SCALES have images of several sizes",
        ),
    ],
)  # fmt: skip
def test_what_would_need_other_maps_is_refused(keys, match):
    with pytest.raises(ConfigError, match=match):
        check_dependent(resolve(None, ["MODEL.BACKBONE.NAME", "build_net_fpn_backbone", *keys]))


def test_a_backbone_of_detectron2_reads_no_square(capsys):
    with pytest.raises(ConfigError, match="only backbones of MODEL.NET read"):
        check_dependent(resolve(None, ["INPUT.SQUARE_PAD", "2048"]))


@pytest.mark.parametrize("command", ["pretrain_cls", "train_loc"])
def test_other_commands_refuse_both_keys(command, capsys, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("INPUT: {SQUARE_PAD: 96}\n")
    assert main([command, "--config", str(config), "--output", str(tmp_path / "r")]) == 2
    assert "INPUT.SQUARE_PAD is read by" in capsys.readouterr().err


def test_images_are_padded_to_the_square(tmp_path):
    opts = ("INPUT.SQUARE_PAD", "96", "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MAX_SIZE_TEST", "96")
    model = frozen_model(tmp_path, *opts)
    images = [{"image": torch.zeros(3, 40, 96)}, {"image": torch.zeros(3, 70, 50)}]
    assert tuple(model.preprocess_image(images).tensor.shape) == (2, 3, 96, 96)
    assert tuple(frozen_model(tmp_path).preprocess_image(images).tensor.shape) == (2, 3, 96, 96)
    one = frozen_model(tmp_path).preprocess_image(images[:1]).tensor
    assert tuple(one.shape) == (1, 3, 64, 96)
