"""MODEL.WEIGHTS auto: whose weights, and what is typed where there are none."""

import argparse
import hashlib
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet import nets, weights
from resdet.cli.main import main
from resdet.cli.training import auto_weights
from resdet.config import Config, resolve
from resdet.errors import ConfigError
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights import Card, Input
from resdet.weights.addresses.fetch import DETECTRON2
from resdet.weights.addresses.public_weights import public_weights
from tests.support import tiny, trainings


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder to type in, empty caches, no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "iopath"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))


def settled(*opts: str, **flags) -> Config:
    config = resolve(None, ["MODEL.WEIGHTS", "auto", *opts])
    args = argparse.Namespace(**{"resume": False, "eval_only": False, "explain": False, **flags})
    auto_weights.settle(config, Path("runs/detector"), args)
    return config


def pretrained(net: str, state: str) -> Path:
    """The run folder of `pretrain_cls --config imagenet_NET`."""
    run = Run.create(
        f"runs/imagenet_{net}", kind="classification", config_text="", command=[], seed=0
    )
    (run.path / layout.CLASSIFIER).write_bytes(b"a model")
    run.update(state=state)
    return run.path / layout.CLASSIFIER


def in_detectron2s_cache(name: str, content: bytes = b"weights") -> None:
    path = Path("iopath/detectron2/ImageNetPretrained/MSRA") / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_the_pretraining_run_comes_before_what_others_publish():
    in_detectron2s_cache("R-101.pkl")
    own = pretrained("resnet101", "finished")
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
        pretrained("resnet101", state)
    with pytest.raises(ConfigError, match=match) as error:
        settled(*opts)
    page = str(error.value)
    assert f"python tools/pretrain_cls.py --config imagenet_{opts[1]}\n" in page
    assert "MODEL.WEIGHTS FILE\n" in page and "TRANSFER.FROM_SCRATCH True" in page


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


def test_missing_data_is_told_before_anything_is_fetched(capsys, monkeypatch):
    monkeypatch.setattr(auto_weights, "fetch", lambda address: pytest.fail("it was fetched"))
    assert main(["train_det", "--config", "voc07_r101", "MODEL.WEIGHTS", "auto"]) == 2
    assert "voc_2007_trainval is not there" in capsys.readouterr().err


def test_a_page_to_read_needs_none(caplog):
    config = settled("MODEL.NET.NAME", "resnet101", explain=True)
    assert (config.cfg.MODEL.WEIGHTS, config.cfg.TRANSFER.FROM_SCRATCH) == ("", True)
    assert "Explained as from random weights" in caplog.text


def test_another_value_stays():
    config = resolve(None, ["MODEL.WEIGHTS", "a.pth"])
    auto_weights.settle(config, Path("runs/detector"), argparse.Namespace())
    assert config.cfg.MODEL.WEIGHTS == "a.pth"


def test_a_run_goes_on_with_what_it_began_with(capsys):
    """Public weights at the start; a pretraining run that came in between changes nothing."""
    torch.manual_seed(0)
    net = nets.build("resnet50")
    net(torch.randn(2, 3, 64, 64))  # which gives its norms statistics
    Path("w").mkdir()
    card = Card("resnet50", Input("BGR", (103.5, 116.3, 123.7), (1.0, 1.0, 1.0)),
                net_options={"stride_in_1x1": True})  # fmt: skip
    weights.save("w/model.safetensors", net.state_dict(), card)
    content = Path("w/model.safetensors").read_bytes()
    in_detectron2s_cache("R-50.pkl", content)  # by its first bytes one of ours
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
    pretrained("resnet50", "finished")
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
