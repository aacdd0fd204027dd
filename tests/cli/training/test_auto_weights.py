"""MODEL.WEIGHTS auto: whose weights, and what is typed where there are none."""

import argparse
import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from detectron2.utils import comm

from resdet.cli.main import main
from resdet.cli.training import auto_weights
from resdet.config import Config, resolve
from resdet.errors import ConfigError
from resdet.weights.addresses.fetch import DETECTRON2
from resdet.weights.addresses.public_weights import public_weights
from tests.support import tiny, trainings
from tests.support.starting_weights import (
    content_of_net,
    empty_caches,
    in_detectron2s_cache,
    pretrained,
)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    empty_caches(tmp_path, monkeypatch)


def settled(*opts: str, **flags) -> Config:
    config = resolve(None, ["MODEL.WEIGHTS", "auto", *opts])
    args = argparse.Namespace(**{"resume": False, "eval_only": False, "explain": False, **flags})
    auto_weights.settle(config, Path("runs/detector"), args)
    return config


def test_the_pretraining_run_comes_before_what_others_publish():
    in_detectron2s_cache("R-101.pkl")
    own = pretrained("imagenet_resnet101", "finished")
    config = settled("MODEL.NET.NAME", "resnet101")
    assert config.cfg.MODEL.WEIGHTS == str(own) == "runs/imagenet_resnet101/model.safetensors"
    assert config.derived["MODEL.WEIGHTS"] == "auto: trained here on ImageNet"


def test_else_the_public_weights_with_what_they_mean_for_the_papers_row(caplog):
    in_detectron2s_cache("R-101.pkl")
    caplog.set_level("INFO")
    config = settled("MODEL.NET.NAME", "resnet101")
    assert config.cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
    assert "He et al.'s own weights of the paper" in caplog.text
    assert "not the paper's row" in public_weights("resnet18").meaning
    assert public_weights("timm:convnext_tiny").address == "timm://convnext_tiny"


@pytest.mark.parametrize(
    ("opts", "is_same_net"),
    [
        (("vgg16", "MODEL.NET.DROPOUT", "0.0"), True),
        (("vgg16", "MODEL.NET.POOLED_SIZE", "5"), False),  # fc6 has other weights
        (("resnet101", "MODEL.NET.POOLED_SIZE", "7"), True),
        (("resnet101", "MODEL.NET.WIDTH", "0.5"), False),
        # What the family has anyway, typed.
        (("resnet101", "MODEL.NET.SHORTCUT", "B"), True),
        (("resnet101", "MODEL.NET.SHORTCUT", "C"), False),
        (("vgg16", "MODEL.NET.POOLS", "5"), True),
        (("vgg16", "MODEL.NET.FC_CHANNELS", "4096"), True),
        (("vgg16", "MODEL.NET.FC_CHANNELS", "64"), False),
    ],
)
def test_an_option_without_weights_leaves_the_net_its_public_weights(opts, is_same_net):
    cfg = resolve(None, ["MODEL.NET.NAME", *opts]).cfg
    assert auto_weights.public_of(cfg) == (public_weights(opts[0]) if is_same_net else None)


def test_addresses_are_those_that_detectron2_and_torchvision_have():
    from detectron2.utils.file_io import Detectron2Handler
    from torchvision import models

    assert DETECTRON2 == Detectron2Handler.S3_DETECTRON2_PREFIX
    for net in ("resnet18", "resnet34", "resnet152", "vgg11", "vgg13", "vgg16", "vgg19"):
        version = public_weights(net).address.removeprefix(f"torchvision://{net}/")
        assert version in models.get_model_weights(net).__members__


@pytest.mark.parametrize(
    ("opts", "state", "match"),
    [
        (["MODEL.NET.NAME", "resnet101"], "", r"runs/imagenet_resnet101 is not there\n.*R-101.pkl"),
        (["MODEL.NET.NAME", "resnet101"], "interrupted", "is interrupted: finish it with"),
        (["MODEL.NET.NAME", "resnet50", "MODEL.NET.WIDTH", "0.5"], "",
         "nobody publishes weights of a resnet50 with MODEL.NET.WIDTH 0.5"),
        (["MODEL.NET.NAME", "plain34"], "", "nobody publishes weights of a plain34 under"),
    ],
)  # fmt: skip
def test_with_neither_there_is_a_page_with_what_to_type(opts, state, match):
    if state:
        pretrained("imagenet_resnet101", state)
    with pytest.raises(ConfigError, match=match) as error:
        settled(*opts)
    page = str(error.value)
    words = " ".join((f"imagenet_{opts[1]}", *opts[2:]))
    assert f"python tools/pretrain_cls.py --config {words}\n" in page
    assert "MODEL.WEIGHTS FILE\n" in page and "TRANSFER.FROM_SCRATCH True" in page


def test_a_run_of_another_net_is_not_taken(monkeypatch):
    """Its folder has the name, its net half the width: the card would make the detector's so."""
    monkeypatch.setattr(auto_weights, "public_weights", lambda net: None)
    half = ("MODEL.NET.WIDTH", "0.5")
    own = pretrained("imagenet_resnet50", "finished", *half)
    with pytest.raises(ConfigError, match=r"another net: MODEL\.NET\.WIDTH is 0\.5 there, 1\.0"):
        settled("MODEL.NET.NAME", "resnet50")
    assert str(own) == settled("MODEL.NET.NAME", "resnet50", *half).cfg.MODEL.WEIGHTS


def test_a_run_of_the_usual_net_is_taken_where_its_options_are_typed():
    own = pretrained("imagenet_resnet50", "finished")
    usual = ("MODEL.NET.NAME", "resnet50", "MODEL.NET.SHORTCUT", "B")
    assert str(own) == settled(*usual).cfg.MODEL.WEIGHTS


def test_anchors_typed_as_tuples_are_those_of_the_run():
    """Detectron2's own files have lists, papers' commands tuples; another size is another's."""
    own = pretrained("coco_r101", "finished", file="model_final.pth")
    opts = (
        *("MODEL.NET.NAME", "resnet101", "MODEL.BACKBONE.NAME", "build_net_backbone"),
        *("TRANSFER.HEADS", "by_name", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0.5, 1.0, 2.0]]"),
        *("MODEL.ANCHOR_GENERATOR.OFFSET", "0.5", "MODEL.ANCHOR_GENERATOR.SIZES"),
    )
    assert str(own) == settled(*opts, "((64, 128, 256, 512),)").cfg.MODEL.WEIGHTS
    with pytest.raises(ConfigError, match=r"another net: MODEL\.ANCHOR_GENERATOR\.SIZES is"):
        settled(*opts, "((32, 128, 256, 512),)")


def test_a_net_with_a_preset_of_its_shortcuts_has_that_run():
    own = pretrained("imagenet_resnet34_a", "finished")
    pretrained("imagenet_resnet34", "finished")
    shortcuts = ("MODEL.NET.NAME", "resnet34", "MODEL.NET.SHORTCUT")
    assert str(own) == settled(*shortcuts, "A").cfg.MODEL.WEIGHTS
    with pytest.raises(ConfigError, match="pretrain_cls.py --config imagenet_resnet34_c\n"):
        settled(*shortcuts, "C")


def test_without_a_net_there_is_nothing_to_look_for():
    with pytest.raises(ConfigError, match=r"MODEL\.NET\.NAME is empty"):
        settled()


def test_a_damaged_run_is_named_beside_what_else_is_missing():
    own = pretrained("imagenet_resnet101", "finished")
    (own.parent / "config.yaml").write_text("MODEL: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml is damaged") as error:
        settled("MODEL.NET.NAME", "resnet101")
    assert "R-101.pkl is not in the cache" in str(error.value)


@pytest.mark.parametrize("is_main", [True, False])
def test_of_several_processes_the_first_looks_for_all(is_main, monkeypatch):
    """Another machine may hold other files, or none."""
    asked = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "is_main_process", lambda: is_main)
    monkeypatch.setattr(comm, "all_gather", lambda mine: asked.append(mine) or [of_first, mine])
    of_first = ("runs/a.safetensors", "trained there")
    assert settled("MODEL.NET.NAME", "resnet101").cfg.MODEL.WEIGHTS == "runs/a.safetensors"
    assert isinstance(asked[0], ConfigError) == is_main
    of_first = ConfigError("nothing is there")
    with pytest.raises(ConfigError, match="nothing is there"):
        settled("MODEL.NET.NAME", "resnet101")


def test_random_weights_are_typed():
    config = settled("MODEL.NET.NAME", "resnet101", "TRANSFER.FROM_SCRATCH", "True")
    assert config.cfg.MODEL.WEIGHTS == ""


def test_a_preset_that_may_start_from_nothing_does_not_answer_who_types_auto(tmp_path):
    """Who types FROM_SCRATCH, too, has random weights; so has a file that states both."""
    in_detectron2s_cache("R-101.pkl")
    args = argparse.Namespace(resume=False, eval_only=False, explain=False)
    preset = tmp_path / "preset.yaml"
    preset.write_text("MODEL: {NET: {NAME: resnet101}}\nTRANSFER: {FROM_SCRATCH: true}\n")
    typed = resolve(preset, ["MODEL.WEIGHTS", "auto"])
    auto_weights.settle(typed, Path("runs/detector"), args)
    assert typed.cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
    both = resolve(preset, ["MODEL.WEIGHTS", "auto", "TRANSFER.FROM_SCRATCH", "True"])
    auto_weights.settle(both, Path("runs/detector"), args)
    assert both.cfg.MODEL.WEIGHTS == ""
    preset.write_text(
        "MODEL: {WEIGHTS: auto, NET: {NAME: resnet101}}\nTRANSFER: {FROM_SCRATCH: true}\n"
    )
    stated = resolve(preset)
    auto_weights.settle(stated, Path("runs/detector"), args)
    assert stated.cfg.MODEL.WEIGHTS == ""


@pytest.mark.parametrize(
    ("command", "preset", "absent"),
    [
        ("train_det", "voc07_r101", "voc_2007_trainval is not there"),
        ("train_loc", "imagenet_loc_r101", "ilsvrc_loc_train is not there"),
    ],
)
def test_missing_data_is_told_before_anything_is_fetched(
    capsys, monkeypatch, command, preset, absent
):
    monkeypatch.setattr(auto_weights, "fetch", lambda address: pytest.fail("it was fetched"))
    assert main([command, "--config", preset, "MODEL.WEIGHTS", "auto"]) == 2
    assert absent in capsys.readouterr().err


def test_a_page_to_read_needs_none(caplog):
    """It is of the weights that a training would take; where none can be, there is no page."""
    config = settled("MODEL.NET.NAME", "resnet101", explain=True)
    assert config.cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-101.pkl"
    assert config.derived["MODEL.WEIGHTS"] == "auto: not here yet"
    assert "A training takes detectron2://ImageNetPretrained/MSRA/R-101.pkl: He et" in caplog.text
    config = settled("MODEL.NET.NAME", "plain34", explain=True)
    assert config.cfg.MODEL.WEIGHTS == "runs/imagenet_plain34/model.safetensors"
    assert "First: python tools/pretrain_cls.py --config imagenet_plain34\n" in caplog.text
    with pytest.raises(ConfigError, match="no preset pretrains a cifar_plain20 under that name"):
        settled("MODEL.NET.NAME", "cifar_plain20", explain=True)


def test_another_value_stays():
    config = resolve(None, ["MODEL.WEIGHTS", "a.pth"])
    auto_weights.settle(config, Path("runs/detector"), argparse.Namespace())
    assert config.cfg.MODEL.WEIGHTS == "a.pth"


def test_a_run_goes_on_with_what_it_began_with(capsys):
    """Public weights at the start; a pretraining run that came in between changes nothing."""
    content = content_of_net("resnet50")
    in_detectron2s_cache("R-50.pkl", content)
    tiny.voc_tree(Path("voc"))
    keys = {"MODEL.NET.NAME": "resnet50", "MODEL.WEIGHTS": "auto", "SOLVER.MAX_ITER": 1,
            "SOLVER.BASE_LR": 1e-9}  # fmt: skip
    Path("c.yaml").write_text(trainings.detector(keys), encoding="utf-8")
    words = ["train_det", "--config", "c.yaml", "--output", "run"]
    assert main(words) == 0
    address = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert address == resolve("run/config.yaml").cfg.MODEL.WEIGHTS
    source = json.loads(Path("run/card.json").read_text("utf-8"))["source"]
    assert source["address"] == address
    assert source["sha256"] == hashlib.sha256(content).hexdigest()
    pretrained("imagenet_resnet50", "finished")
    capsys.readouterr()
    assert main([*words, "--resume", "SOLVER.MAX_ITER", "2"]) == 0
    assert address == resolve("run/config.yaml").cfg.MODEL.WEIGHTS
    assert main([*words, "--eval-only"]) == 0


def test_a_classifier_has_no_auto(capsys):
    assert main(["pretrain_cls", "--config", "cifar10_resnet20", "MODEL.WEIGHTS", "auto"]) == 2
    assert "what a detector starts from (train_det, train_loc)" in capsys.readouterr().err


def test_two_addresses_are_scored_into_two_folders():
    from resdet.cli.training.pretrain_cls import _name_of

    addresses = [f"torchvision://{net}/IMAGENET1K_V1" for net in ("resnet18", "resnet34")]
    assert len({_name_of(address) for address in addresses}) == 2
    assert _name_of("nets/r50.pth") == "r50"
