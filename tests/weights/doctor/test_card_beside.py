"""The card beside a file: asked for once, of these very tensors, and never against the file."""

import json

import pytest
import torch

from resdet import nets, weights
from resdet.cli.main import run_command
from resdet.errors import WeightsError
from resdet.weights import Input
from resdet.weights.cards import path_beside
from resdet.weights.doctor.diagnosis import inspect
from tests.support.trained_nets import resnet18


@pytest.mark.parametrize(
    "text",
    [
        "x", "[" * 100_000, '{"version": 1}', "\u00e9",
        '{"version": 1, "net": 5, "classes": [], "input": {"color_order": "RGB", '
        '"mean": [1, 1, 1], "std": [1, 1, 1]}}',
        '{"version": 1, "net": "resnet18", "classes": [], "input": {"color_order": "RGB", '
        '"mean": ["a", "b", "c"], "std": [1, 1, 1]}}',
        '{"version": 1, "net": "resnet18", "classes": [], "input": {"color_order": "RGB", '
        '"mean": [1, 1, 1], "std": [NaN, 1, 1]}}',
    ],
)  # fmt: skip
def test_a_card_that_is_none_is_refused_by_name(file, text):
    path = file(resnet18().state_dict())
    path_beside(path).write_text(text, encoding="latin-1")
    with pytest.raises(WeightsError, match=r"x\.pth\.card\.json"):
        weights.load(path)
    assert not inspect(path).loadable


def test_what_nobody_knows_is_asked_for_once(file, capsys):
    """F19, F20: Detectron2's names tell neither input nor stride rule; the card then does."""
    with torch.device("meta"):
        state = nets.build("resnet50", 5).state_dict()
    torch.manual_seed(0)
    state = {n: torch.rand(t.shape) if t.is_floating_point() else torch.tensor(3)
             for n, t in state.items()}  # fmt: skip
    path = file({"model": state})
    with pytest.raises(WeightsError, match="do not tell how its input must look and its stride"):
        weights.load(path)
    flags = ["--color", "BGR", "--mean", "103.53", "116.28", "123.675", "--std", "1", "1", "1"]
    assert run_command("convert_weights", ["card", str(path), *flags]) == 2
    assert "give --stride" in capsys.readouterr().err
    assert run_command("convert_weights", ["card", str(path), *flags, "--stride", "1x1"]) == 0
    _, card = weights.load(path)
    assert card.input == Input("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
    assert card.net_options["stride_in_1x1"] is True and card.verified
    report = inspect(path)
    assert (report.stride_rule, report.input.color_order) == ("1x1", "BGR")


def test_a_card_of_other_tensors_is_refused_with_both(file):
    path = file(resnet18(0).state_dict())
    assert run_command("convert_weights", ["card", str(path)]) == 0
    weights.load(path)
    file(resnet18(1).state_dict())
    with pytest.raises(WeightsError, match=r"is the card of other tensors .*the file has"):
        weights.load(path)


def test_a_card_that_contradicts_the_file_is_refused_with_both(file):
    path = file(resnet18().state_dict())
    run_command("convert_weights", ["card", str(path)])
    assert run_command("convert_weights", ["card", str(path)]) == 2  # kept for good
    card = json.loads(path_beside(path).read_text())
    path_beside(path).write_text(json.dumps({**card, "net": "resnet34"}))
    with pytest.raises(WeightsError, match="has net=resnet34, but x.pth holds a resnet18"):
        weights.load(path)


def test_timms_record_beside_its_file_is_the_card(tmp_path):
    """timm's folder on the hub: model.safetensors and config.json with pretrained_cfg."""
    from safetensors.torch import save_file

    save_file(resnet18().state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    record = {"architecture": "resnet18", "num_classes": 10,
              "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
                                 "input_size": [3, 288, 288]}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(record))
    _, card = weights.load(tmp_path / "model.safetensors")
    assert card.origin == "timm" and card.verified
    assert card.input == Input("RGB", (127.5,) * 3, (63.75,) * 3, 288)
    other = {**record, "architecture": "resnet50"}
    (tmp_path / "config.json").write_text(json.dumps(other))
    with pytest.raises(WeightsError, match=r"is of a resnet50, model.safetensors holds a resnet18"):
        weights.load(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {}}))
    with pytest.raises(WeightsError, match=r"is no timm config"):
        weights.load(tmp_path / "model.safetensors")
    # Hugging Face's config.json lies beside its files: another library's, and no matter.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    assert weights.load(tmp_path / "model.safetensors")[1].origin == "torchvision"
