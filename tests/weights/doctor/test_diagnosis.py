"""The weight doctor: what it reports of real and made files, and what it leaves open."""

import json

import pytest
import torch
import torchvision

from resdet import nets, weights
from resdet.cli.main import run_command
from resdet.errors import WeightsError
from resdet.weights import Card, Input
from resdet.weights.doctor.diagnosis import inspect, norms_of
from tests.support.trained_nets import RED, resnet18


def test_a_whole_file_of_torchvision_loads(file):
    """torchvision's count: 11,689,512 parameters at 1,000 classes, 512 + 1 for each fewer."""
    report = inspect(file(resnet18().state_dict()))
    assert report.loadable and report.problems == ()
    assert (report.origin, report.architecture, report.stride_rule) == (
        "torchvision",
        "resnet18",
        "3x3",
    )
    assert report.parameters == 11_689_512 - 990 * 513
    assert report.tensors == 122
    first = report.fits[0]
    assert (first.net, first.arrived, first.expected, first.left_over) == ("resnet18", 102, 102, 0)
    assert [f.net for f in report.fits if f.whole] == ["resnet18"]


def test_json_has_the_promised_keys(file, capsys):
    """docs/commands.md; and nothing else on standard output."""
    code = run_command("convert_weights", ["inspect", str(file(resnet18().state_dict())), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    promised = "origin architecture container wrapper stride_rule color_order tensors parameters"
    for key in [*promised.split(), "problems", "loads_into"]:
        assert key in found
    assert found["wrapper"] is None and found["color_order"] == "RGB"
    assert found["loads_into"][0] == {"net": "resnet18", "arrived": 102, "expected": 102}


def test_a_file_that_does_not_load_is_1_and_one_that_is_not_there_2(file, tmp_path, capsys):
    """docs/commands.md, exit codes."""
    assert run_command("convert_weights", ["inspect", str(file({"a": torch.zeros(2)}))]) == 1
    (tmp_path / "page.pth").write_bytes(b"<!DOCTYPE html><html>")
    assert run_command("convert_weights", ["inspect", str(tmp_path / "page.pth"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["origin"] is None and "is a web page" in found["problems"][0]
    assert run_command("convert_weights", ["inspect", str(tmp_path / "none.pth")]) == 2


def test_missing_tensors_are_counted_and_named(file):
    state = {n: t for n, t in resnet18().state_dict().items() if not n.startswith("layer4.1.conv2")}
    report = inspect(file(state))
    assert not report.loadable
    assert "1 of 102 tensors of resnet18 are missing: res5.1.conv2.weight" in report.problems[0]


def test_never_trained_norms_are_a_problem(file):
    """F21: torchvision's initial statistics."""
    net = resnet18()
    net.apply(lambda m: m.reset_running_stats() if isinstance(m, torch.nn.BatchNorm2d) else None)
    report = inspect(file(net.state_dict()))
    assert any("all 20 norms have mean 0 and variance 1" in p for p in report.problems)


def test_spoiled_values_are_a_problem(file):
    """F25: all that are spoiled, not only the first."""
    state = resnet18().state_dict()
    state["fc.bias"][3] = float("nan")
    state["bn1.running_var"][0] = -1.0
    report = inspect(file(state))
    assert any("fc.bias: 1 of 10 values are not finite (first: index 3)" in p
               for p in report.problems)  # fmt: skip
    assert any("negative variances in stem.conv1.norm" in p for p in report.problems)


def test_dead_channels_are_noted():
    state = {
        "bn.running_var": torch.tensor([1e-9, 0.5, 0.0]),
        "bn.running_mean": torch.ones(3),
        "bn.bias": torch.ones(3),
    }
    health = norms_of(state)
    assert health.tiny == {"bn": 2} and health.negative == ()
    assert "2 channels in 1 with a variance below 1e-06" in health.sentence()


def test_the_file_of_another_net_is_no_problem_of_ours(file):
    """Names of no origin: nothing is claimed but what the numbers show."""
    report = inspect(file(torchvision.models.squeezenet1_1().state_dict()))
    assert (report.origin, report.architecture, report.fits) == (None, None, ())
    assert "docs/own_net.md" in report.problems[0]


def test_our_own_file_is_whole_and_a_changed_one_is_not(tmp_path):
    net = nets.build("resnet18", 10, width=0.25)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_()
    card = Card("resnet18", Input("RGB", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), {"width": 0.25})
    weights.save(tmp_path / "x.safetensors", net.state_dict(), card)
    report = inspect(tmp_path / "x.safetensors")
    assert report.loadable and report.verified and report.fits[0].whole
    assert report.input == card.input
    data = bytearray((tmp_path / "x.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "x.safetensors").write_bytes(data)
    assert "do not match the SHA-256" in inspect(tmp_path / "x.safetensors").problems[0]


def test_what_the_file_states_of_itself_must_not_contradict_its_names(file):
    """timm's resnetblur50 has a ResNet-50's names and shapes and is another net; its trainer
    writes `arch`. A card settles it."""
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnetblur18", num_classes=10)
    with torch.no_grad():
        net.conv1.weight.mul_(RED)
        for name, tensor in net.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_()
    path = file({"arch": "resnetblur18", "state_dict": net.state_dict()})
    with pytest.raises(
        WeightsError, match="states that it is a resnetblur18.* those of a resnet18"
    ):
        weights.load(path)
    run_command("convert_weights", ["card", str(path)])
    assert weights.load(path)[1].net == "resnet18"


def test_another_stem_is_no_guess(file):
    """A common ResNet-18 for CIFAR: 3x3 stem, no pooling. Its stride is not in the file."""
    net = resnet18()
    net.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    with pytest.raises(
        WeightsError, match=r"conv1.weight is \(64, 3, 3, 3\), resnet18 has \(64, 3, 7"
    ):
        weights.load(file(net.state_dict()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: (10 * t).to(torch.int8), "int8 of shape .*expected floating numbers"),
        (lambda t: t.bool(), "bool of shape"),
        (lambda t: t.to(torch.complex64), "complex64 of shape"),
        (lambda t: t.sum(), r"float32 of shape \(\)"),
    ],
)
def test_what_is_no_floating_number_is_named(file, change, message):
    state = {n: change(t) if "num_b" not in n else t for n, t in resnet18().state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        weights.load(file(state))
    assert not inspect(file(state)).loadable


def test_a_part_is_chosen_once_and_the_card_remembers_it(file, capsys):
    """timm's trainer: weights and their average; the card is of the part that was chosen."""
    first, second = resnet18(0).state_dict(), resnet18(1).state_dict()
    path = file({"state_dict": first, "state_dict_ema": second})
    assert run_command("convert_weights", ["inspect", str(path), "--part", "state_dict_ema"]) == 0
    assert "state_dict_ema" in capsys.readouterr().out
    run_command("convert_weights", ["card", str(path), "--part", "state_dict_ema"])
    assert torch.equal(weights.load(path)[0]["linear.weight"], second["fc.weight"])
    assert inspect(path).loadable


def test_a_net_without_its_last_layer_is_whole_as_a_backbone(file):
    """As Hugging Face's base models, and MoCo's encoders, whose projection stands in its place."""
    state = {n: t for n, t in resnet18().state_dict().items() if not n.startswith("fc.")}
    report = inspect(file(state))
    assert report.loadable and any("whole as a backbone" in note for note in report.notes)
    projection = {f"fc.{i}.{leaf}": torch.ones(3) for i in (0, 2) for leaf in ("weight", "bias")}
    moco = {f"module.encoder_q.{n}": t for n, t in {**state, **projection}.items()}
    moco["module.queue"] = torch.ones(3)
    report = inspect(file({"state_dict": moco}))
    assert report.loadable and report.architecture == "resnet18"


def test_images_that_cannot_be_used_leave_the_report_standing(file, tmp_path, capsys):
    """docs/commands.md: one JSON object, 1."""
    path = str(file(resnet18().state_dict()))
    (tmp_path / "empty").mkdir()
    args = ["inspect", path, "--images", str(tmp_path / "empty"), "--json"]
    assert run_command("convert_weights", args) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["architecture"] == "resnet18" and found["probe"]["problem"]


# -- real files ----------------------------------------------------------------------------------


CIFAR_FILES = [
    ("resnet20-12fca82f.th", "cifar_resnet20", 922),
    ("resnet56-4bfd9763.th", "cifar_resnet56", 936),
]


@pytest.mark.parametrize(("name", "net", "right"), CIFAR_FILES)
def test_the_published_cifar_nets_score_as_published(shared_data, tmp_path, name, net, right):
    """The data's README: 92.2 % and 93.6 % of these 1,000 images; before and after conversion."""
    from resdet.pretrain.labelled_images import read_images
    from resdet.weights.conversion import convert
    from resdet.weights.origins.reference_nets import our_net

    report = inspect(shared_data / "weights" / name)
    assert (report.origin, report.architecture, report.problems) == ("akamaster", net, ())
    assert report.wrappers == ("state_dict", "module.")
    images, labels = read_images(shared_data / "cifar10", 32, 10, None)
    convert(shared_data / "weights" / name, "resdet", tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", "detectron2", tmp_path / "d2.pkl")
    for path in (
        shared_data / "weights" / name,
        tmp_path / "ours.safetensors",
        tmp_path / "d2.pkl",
    ):
        tensors, card = weights.load(path)
        model = our_net(card.net, 10, card.net_options, tensors).eval()
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(v)[:, None, None] for v in (card.input.mean, card.input.std))
        with torch.no_grad():
            found = model((pixels - mean) / std).argmax(1).numpy()
        assert int((found == labels).sum()) == right


def test_the_doctor_finds_order_and_range_by_itself(shared_data, tmp_path, capsys):
    """A copy of ResNet-20 with the first layer's channels swapped, on the 1,000 images."""
    original = shared_data / "weights" / "resnet20-12fca82f.th"
    state = torch.load(original, weights_only=True, map_location="cpu")["state_dict"]
    state["module.conv1.weight"] = state["module.conv1.weight"].flip(1)
    torch.save({"state_dict": state}, tmp_path / "swapped.th")
    images = ["--images", str(shared_data / "cifar10"), "--json"]
    assert run_command("convert_weights", ["inspect", str(tmp_path / "swapped.th"), *images]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["color_order"] == "BGR"
    assert found["probe"]["best"] == "BGR, ImageNet mean and std"
    top1 = {t["color_order"]: t["top1"] for t in found["probe"]["trials"]
            if t["range"] == "ImageNet mean and std"}  # fmt: skip
    assert top1["BGR"] == 0.922 and top1["RGB"] < 0.922 - 0.05


def test_the_partial_resnet18_is_described_as_its_readme_does(shared_data):
    """README: torchvision's, 3x3 stride, 20 keys missing, BN folded."""
    report = inspect(shared_data / "weights" / "resnet18-imagenet1k_v1-partial-bnfolded.pth")
    assert (report.origin, report.architecture, report.stride_rule) == (
        "torchvision",
        "resnet18",
        "3x3",
    )
    assert report.norms.folded and "folded" in report.norms.sentence()
    assert report.problems[0].startswith("20 of 102 tensors of resnet18 are missing: res5.0.conv1")
    assert report.color.value == "RGB"
