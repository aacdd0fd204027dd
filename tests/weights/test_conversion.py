"""From one framework to another and back: bits, logits, cards, and what is refused."""

import json
import pickle

import pytest
import torch
import torchvision

from resdet import nets, weights
from resdet.cli.main import run_command
from resdet.errors import CheckFailed, WeightsError
from resdet.weights import Card, Input
from resdet.weights.cards import path_beside
from resdet.weights.conversion import convert, detectron2_keys, flipped
from resdet.weights.files import read_tensors

RED = torch.tensor([1.3, 1.5, 1.0])[None, :, None, None]


def trained(name, **options):
    """torchvision's net with statistics and colours as training leaves them."""
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(**options)
    with torch.no_grad():
        for tensor_name, tensor in net.state_dict().items():
            if tensor_name.endswith("running_mean"):
                tensor.normal_(std=0.1)
            elif tensor_name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.ndim == 4 and tensor.shape[1] == 3:
                tensor.mul_(RED)
    return net.eval()


@pytest.fixture
def source(tmp_path):
    net = trained("resnet50", num_classes=7)
    torch.save(net.state_dict(), tmp_path / "r50.pth")
    return tmp_path / "r50.pth"


def test_there_and_back_is_exact(tmp_path):
    """torchvision to resdet to timm to Detectron2 and back: every bit but Detectron2's counters."""
    source = tmp_path / "source.pth"
    torch.save(trained("resnet18", num_classes=7).state_dict(), source)
    convert(source, "resdet", tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", "timm", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", "torchvision", tmp_path / "c.pth")
    convert(tmp_path / "c.pth", "detectron2", tmp_path / "d.pkl")
    convert(tmp_path / "d.pkl", "torchvision", tmp_path / "e.pth")
    first = torch.load(source, weights_only=True)
    for name, keeps_counters in (("c.pth", True), ("e.pth", False)):
        last = torch.load(tmp_path / name, weights_only=True)
        expected = {n for n in first if keeps_counters or "num_batches" not in n}
        assert last.keys() == expected
        assert all(torch.equal(last[n], first[n]) for n in expected)


def test_parity_is_with_the_libraries_own_nets(source, tmp_path):
    """Float64 on two inputs: torchvision's before, ours before and after, timm's after."""
    pytest.importorskip("timm")
    done = convert(source, "timm", tmp_path / "b.safetensors")
    assert [p.what.split()[0] for p in done.parities] == ["torchvision's", "ours,", "timm's"]
    assert all(p.difference <= 1e-10 for p in done.parities)
    assert all(p.largest > 0.01 for p in done.parities)


def test_detectron2_reads_what_is_written_for_it(source, tmp_path):
    """Its own reader and its own ResNet, by the printed keys: the maps are torchvision's."""
    checkpoint = pytest.importorskip("detectron2.checkpoint")
    resnet = pytest.importorskip("detectron2.modeling.backbone.resnet")
    for name in ("r50.pkl", "r50_d2.pth"):
        done = convert(source, "detectron2", tmp_path / name)
        assert "MODEL.RESNETS.STRIDE_IN_1X1 False" in done.keys
        assert "INPUT.FORMAT RGB" in done.keys
        stages = resnet.ResNet.make_default_stages(50, norm="FrozenBN", stride_in_1x1=False)
        theirs = resnet.ResNet(resnet.BasicStem(3, 64, norm="FrozenBN"), stages,
                               out_features=["res5"])  # fmt: skip
        checkpoint.DetectionCheckpointer(theirs, save_dir="").load(str(tmp_path / name))
        x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
        torchvisions = trained("resnet50", num_classes=7).double()
        torchvisions.avgpool = torchvisions.fc = torch.nn.Identity()
        with torch.no_grad():
            expected = torchvisions(x)
            found = theirs.double().eval()(x)["res5"].flatten(1)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_other_colour_order_is_the_same_net_on_turned_images(source, tmp_path):
    """F19: first layer and card turn together; logits on channels in the other order are equal."""
    done = convert(source, "torchvision", tmp_path / "bgr.pth", color_order="BGR")
    assert done.card.input == Input("BGR", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
    net = trained("resnet50", num_classes=7)
    turned = torchvision.models.resnet50(num_classes=7).eval()
    turned.load_state_dict(torch.load(tmp_path / "bgr.pth", weights_only=True))
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(turned.double()(x.flip(1)), net.double()(x), rtol=0, atol=1e-10)
    tensors, card = weights.load(tmp_path / "bgr.pth")
    assert card.input.color_order == "BGR"  # from the card beside it
    back, card = flipped(tensors, card)
    assert torch.equal(back["stem.conv1.weight"], net.conv1.weight.float())


def test_the_card_goes_along(source, tmp_path):
    """Beside every file that is not ours, and bound to its tensors."""
    convert(source, "detectron2", tmp_path / "d.pkl")
    beside = json.loads(path_beside(tmp_path / "d.pkl").read_text())
    assert beside["net"] == "resnet50" and beside["net_options"]["stride_in_1x1"] is False
    assert weights.load(tmp_path / "d.pkl")[1].input == weights.load(source)[1].input
    content = pickle.loads((tmp_path / "d.pkl").read_bytes())
    assert content["__author__"] == "resdet" and content["matching_heuristics"] is True


def test_the_other_stride_rule_is_no_conversion(tmp_path):
    """F20: the names fit, and one block's outputs differ by 41 %."""
    net = nets.build("resnet50", 3, width=0.125, stride_in_1x1=True)
    card = Card("resnet50", Input("BGR", (1.0, 2.0, 3.0), (1.0, 1.0, 1.0)),
                {"width": 0.125, "stride_in_1x1": True})  # fmt: skip
    weights.save(tmp_path / "msra.safetensors", net.state_dict(), card)
    for to, out in (("torchvision", "x.pth"), ("timm", "x.safetensors")):
        with pytest.raises(WeightsError, match="stride in the first 1x1; .* has it in the 3x3"):
            convert(tmp_path / "msra.safetensors", to, tmp_path / out)
        assert not (tmp_path / out).exists()
    done = convert(tmp_path / "msra.safetensors", "detectron2", tmp_path / "x.pkl")
    assert "MODEL.RESNETS.STRIDE_IN_1X1 True" in detectron2_keys(done.card)


@pytest.mark.parametrize("options", [{"res5_dilation": 2}, {"shortcut": "A"}, {"width": 0.25}])
def test_a_net_that_the_target_cannot_build_is_not_written_for_it(tmp_path, options):
    """The names would fit torchvision's, the function would not."""
    net = nets.build("resnet18", 3, **{"width": 0.125, **options})
    options = {"width": 0.125, **options}
    card = Card("resnet18", Input("RGB", (1.0,) * 3, (1.0,) * 3), options)
    weights.save(tmp_path / "x.safetensors", net.state_dict(), card)
    with pytest.raises(WeightsError, match="of its own, which torchvision cannot build"):
        convert(tmp_path / "x.safetensors", "torchvision", tmp_path / "x.pth")
    convert(tmp_path / "x.safetensors", "detectron2", tmp_path / "x.pkl")


def test_another_function_under_the_same_names_is_found_by_its_logits(tmp_path, monkeypatch):
    """As if torchvision's net were another: 1e-8 of the largest logit is the limit."""
    from resdet.weights import conversion as module

    other = torchvision.models.resnet18(num_classes=7)
    other.layer1[0].relu = torch.nn.GELU()
    monkeypatch.setattr(module, "reference_net", lambda *_: (other, ""))
    torch.save(trained("resnet18", num_classes=7).state_dict(), tmp_path / "x.pth")
    with pytest.raises(CheckFailed, match="more than rounding"):
        convert(tmp_path / "x.pth", "resdet", tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()


def test_a_partial_file_is_converted_as_it_is_and_reported_to_be_partial(tmp_path):
    state = trained("resnet18", num_classes=7).state_dict()
    state = {n: t for n, t in state.items() if not n.startswith("layer4.1")}
    torch.save(state, tmp_path / "part.pth")
    done = convert(tmp_path / "part.pth", "detectron2", tmp_path / "part.pkl")
    assert done.missing == 10  # two convolutions, two norms of four
    assert [p.difference for p in done.parities] == [None]
    assert len(read_tensors(tmp_path / "part.pkl")) == 102 - 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "detectron2", "-o", "out.safetensors"], "files for detectron2 end in .pkl"),
        (["--to", "timm", "-o", "r50.pth"], "exists and is the source"),
        (["--to", "torchvision", "-o", "taken.pth"], "taken.pth exists"),
    ],
)
def test_no_file_is_overwritten_or_misnamed(
    source, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.pth").write_bytes(b"mine")
    before = source.read_bytes()
    assert run_command("convert_weights", ["convert", "r50.pth", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert source.read_bytes() == before and (tmp_path / "taken.pth").read_bytes() == b"mine"


def test_nothing_stays_behind_where_a_conversion_fails(source, tmp_path):
    """A folder that is a file; a card of another file at the place; numpy without bfloat16."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(WeightsError, match="cannot be written"):
        convert(source, "resdet", tmp_path / "file" / "x.safetensors")
    path_beside(tmp_path / "y.pth").write_text("{}")
    with pytest.raises(WeightsError, match=r"y\.pth\.card\.json exists"):
        convert(source, "torchvision", tmp_path / "y.pth")
    assert path_beside(tmp_path / "y.pth").read_text() == "{}" and not (tmp_path / "y.pth").exists()
    state = {n: t.bfloat16() if t.is_floating_point() else t
             for n, t in trained("resnet18", num_classes=3).state_dict().items()}  # fmt: skip
    torch.save(state, tmp_path / "bf16.pth")
    with pytest.raises(WeightsError, match="in bfloat16, which a .pkl"):
        convert(tmp_path / "bf16.pth", "detectron2", tmp_path / "z.pkl")
    assert not (tmp_path / "z.pkl").exists()
    tied = nets.build("vgg11", 32, width=0.125, fc_channels=32)
    tied.linear.weight = tied.fc7.weight
    card = Card("vgg11", Input("RGB", (1.0,) * 3, (2.0,) * 3), {"width": 0.125, "fc_channels": 32})
    weights.save(tmp_path / "tied.safetensors", tied.state_dict(), card)
    convert(tmp_path / "tied.safetensors", "resdet", tmp_path / "again.safetensors")


def test_the_page_prints_parity_and_keys(source, tmp_path, capsys):
    out = str(tmp_path / "d.pkl")
    assert (
        run_command("convert_weights", ["convert", str(source), "--to", "detectron2", "-o", out])
        == 0
    )
    page = capsys.readouterr().out
    assert "ours, before and after: 0 at most" in page
    assert "INPUT.FORMAT RGB" in page and "left out, not kept there: 53" in page
