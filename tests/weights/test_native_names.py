"""Files under a net's own names: timm's with its config.json or a card, and a user's own."""

import json

import pytest
import torch

pytest.importorskip("timm")

import timm

from resdet import nets, weights
from resdet.cli.main import run_command
from resdet.errors import WeightsError
from resdet.weights.conversion import convert
from resdet.weights.doctor.diagnosis import inspect

NAME = "test_convnext"  # timm's own tiny ConvNeXt


@pytest.fixture
def folder(tmp_path):
    """As timm's folder on the hub: weights and config.json, written by timm's own names."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = timm.create_model(NAME, num_classes=7)
    save_file(net.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    record = {
        "architecture": NAME,
        "num_classes": 7,
        "pretrained_cfg": {
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.1, 0.3],
            "input_size": [3, 160, 160],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(record), encoding="utf-8")
    return tmp_path, net


def test_timms_record_names_the_net_and_its_input(folder):
    """By hand: 255 times the record's mean and std."""
    path, net = folder
    tensors, card = weights.load(path / "model.safetensors")
    assert (card.net, card.origin, card.verified) == (f"timm:{NAME}", "timm", True)
    assert card.input.mean == pytest.approx((127.5, 102.0, 76.5))
    assert card.input.std == pytest.approx((51.0, 25.5, 76.5))
    assert card.input.size == 160
    assert all(torch.equal(tensors[n], t) for n, t in net.state_dict().items())
    report = inspect(path / "model.safetensors")
    assert report.loadable and report.architecture == f"timm:{NAME}" and report.fits[0].whole


def test_it_becomes_ours_with_the_same_logits_and_comes_back(folder):
    """timm's own module before, ours after, bit for bit back to timm's names."""
    path, net = folder
    done = convert(path / "model.safetensors", "resdet", path / "ours.safetensors")
    assert [p.difference for p in done.parities] == [0.0, 0.0]
    convert(path / "ours.safetensors", "timm", path / "back.pth")
    back = torch.load(path / "back.pth", weights_only=True)
    assert back.keys() == net.state_dict().keys()
    assert all(torch.equal(back[n], t) for n, t in net.state_dict().items())


def test_without_a_record_the_net_is_reported_once(tmp_path):
    """`card --net`; a wrong name is refused with what does not fit."""
    net = timm.create_model(NAME, num_classes=7)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="names of no origin"):
        weights.load(tmp_path / "x.pth")
    path = str(tmp_path / "x.pth")
    assert run_command("convert_weights", ["card", path, "--net", "timm:test_resnet"]) == 2
    assert run_command("convert_weights", ["card", path, "--net", f"timm:{NAME}"]) == 0
    assert weights.load(tmp_path / "x.pth")[1].net == f"timm:{NAME}"


def test_a_record_of_another_net_is_refused_with_what_does_not_fit(folder):
    path, _ = folder
    record = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**record, "architecture": "test_resnet"}))
    with pytest.raises(
        WeightsError, match=r"does not hold a timm:test_resnet:\nmissing in the file"
    ):
        weights.load(path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({**record, "architecture": "no_such_net"}))
    with pytest.raises(WeightsError, match="no_such_net"):
        weights.load(path / "model.safetensors")


def test_a_registered_net_is_read_by_its_own_names(tmp_path, monkeypatch):
    """A user's own: the card beside the file names it, and everything must fit."""
    from resdet.nets import registry

    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    nets.register(
        "mine", lambda num_classes=1000, **_: nets.build("resnet18", num_classes, width=0.125)
    )
    built = nets.build("mine", 3)
    built(torch.randn(4, 3, 64, 64))  # statistics of something
    card = weights.Card("mine", weights.Input("RGB", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    weights.save(tmp_path / "mine.safetensors", built.state_dict(), card)
    assert inspect(tmp_path / "mine.safetensors").loadable
    convert(tmp_path / "mine.safetensors", "resdet", tmp_path / "again.safetensors")
    registry._BUILDERS.clear()
    report = inspect(tmp_path / "mine.safetensors")
    assert not report.loadable and "no net is called 'mine'" in report.problems[0]


class Wrapped(torch.nn.Module):
    """A net that calls its only child `encoder`, a prefix that trainers put around nets, too."""

    def __init__(self, num_classes):
        super().__init__()
        self.encoder = nets.build("resnet18", num_classes, width=0.125)
        self.num_classes, self.classifier = num_classes, "encoder.linear"

    def forward(self, x):
        return self.encoder(x)


def test_a_prefix_that_is_the_nets_own_name_stays(tmp_path, monkeypatch, capsys):
    """In our file and in a bare one, whose card the flags make."""
    from resdet.nets import registry

    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    nets.register("wrapped", lambda num_classes=1000, **_: Wrapped(num_classes))
    net = Wrapped(3)
    net(torch.randn(4, 3, 64, 64))
    card = weights.Card("wrapped", weights.Input("RGB", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
    weights.save(tmp_path / "ours.safetensors", net.state_dict(), card)
    assert weights.load(tmp_path / "ours.safetensors")[0].keys() == net.state_dict().keys()
    torch.save(net.state_dict(), tmp_path / "bare.pth")
    command = ["card", str(tmp_path / "bare.pth"), "--net", "wrapped"]
    assert run_command("convert_weights", command) == 2
    assert "give --color, --mean and --std" in capsys.readouterr().err
    flags = ["--color", "BGR", "--mean", "1", "2", "3", "--std", "4", "5", "6"]
    assert run_command("convert_weights", [*command, *flags]) == 0
    tensors, card = weights.load(tmp_path / "bare.pth")
    assert tensors.keys() == net.state_dict().keys() and card.input.color_order == "BGR"
