"""The weight doctor: what it reports of real and made files, and what it leaves open."""

import json

import numpy as np
import pytest
import torch
import torchvision

from resdet import nets, weights
from resdet.cli.main import run_command
from resdet.errors import WeightsError
from resdet.weights import Card, Input
from resdet.weights.cards import path_beside
from resdet.weights.doctor import image_probe
from resdet.weights.doctor.diagnosis import inspect, norms_of
from resdet.weights.doctor.first_layer import color_order, scale

RED = torch.tensor([1.3, 1.5, 1.0])[None, :, None, None]


def resnet18(generator=0):
    """torchvision's, with more energy in red than in blue, as trained nets have."""
    torch.manual_seed(generator)
    net = torchvision.models.resnet18(num_classes=10)
    with torch.no_grad():
        net.conv1.weight.mul_(RED)
        for name, tensor in net.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_()
    return net


@pytest.fixture
def file(tmp_path):
    def save(state, name="x.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return save


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


# -- what numbers suggest ------------------------------------------------------------------------


def test_colour_order_follows_the_energy_of_the_outer_channels():
    """By hand: energies 4, 1, 1 and reversed; alike ones show nothing."""
    weight = torch.ones(8, 3, 3, 3) * torch.tensor([2.0, 1.0, 1.0])[None, :, None, None]
    assert color_order(weight).value == "RGB"
    assert color_order(weight.flip(1)).value == "BGR"
    assert color_order(torch.ones(8, 3, 3, 3)).value is None
    assert color_order(None).value is None


def test_range_follows_the_variance_behind_the_first_layer():
    """By hand: noise of deviation 1 behind filters of energy 27 has variance 27; raw 58^2 times."""
    weight = torch.ones(4, 3, 3, 3)
    norm = {"stem.conv1.norm.running_mean": torch.ones(4), "stem.conv1.norm.weight": torch.ones(4)}
    state = {"stem.conv1.weight": weight, **norm, "stem.conv1.norm.bias": torch.zeros(4)}
    variance = "stem.conv1.norm.running_var"
    assert scale({**state, variance: torch.full((4,), 27.0)}).value == "standardised"
    assert scale({**state, variance: torch.full((4,), 27.0 * 58**2)}).value == "raw"
    assert scale({"conv1.0.weight": 0.2 * torch.randn(64, 3, 3, 3)}).value == "standardised"
    assert scale({"conv1.0.weight": 0.2 / 58 * torch.randn(64, 3, 3, 3)}).value == "raw"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.flip(1), "such files want RGB, but this is likely: .*order is reversed"),
        (lambda w: w * 1, None),
    ],
)
def test_a_habit_that_the_numbers_contradict_is_not_followed(file, change, message):
    """F19: the names are torchvision's, the first layer is turned: training must not start."""
    net = resnet18()
    state = net.state_dict()
    state["conv1.weight"] = change(state["conv1.weight"])
    path = file(state)
    if message is None:
        assert weights.load(path)[1].input.color_order == "RGB"
        return
    report = inspect(path)
    assert not report.loadable and report.to_json()["color_order"] == "BGR"
    with pytest.raises(WeightsError, match=message):
        weights.load(path)


def test_a_vgg_in_caffes_range_is_not_taken_for_torchvisions(file):
    """The same names, but 0 to 255 and BGR (jwyang's vgg16_caffe.pth)."""
    state = torchvision.models.vgg11(num_classes=3).state_dict()
    state["features.0.weight"] = state["features.0.weight"] / 58
    with pytest.raises(WeightsError, match=r"want standardised pixels, but this is likely raw"):
        weights.load(file(state))


# -- the card beside -----------------------------------------------------------------------------


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


# -- probe ---------------------------------------------------------------------------------------


class RedOrBlue(torch.nn.Module):
    """Class 0 where channel 0 is above channel 2, both standardised, by the trained amount."""

    def forward(self, x):
        difference = (x[:, 0] - x[:, 2]).mean((1, 2))
        # Trained on ImageNet's mean and std: other ranges put the threshold elsewhere.
        return torch.stack([difference, torch.full_like(difference, 0.9)], 1)


def red_and_blue(number=40):
    """Half red by 90 levels, half by 30: 1.2 and 0.2 standardised, 0.35 and 0.12 of 255."""
    labels = np.arange(number) % 2
    images = np.full((number, 8, 8, 3), 70, dtype=np.uint8)
    images[labels == 0, ..., 0] += 90
    images[labels == 1, ..., 0] += 30
    return images, labels


def test_a_probe_finds_the_order_and_states_what_the_other_costs():
    """By hand: in the right order and range all 40 are right, in the other order the blue half."""
    images, labels = red_and_blue()
    for pixels, order in ((images, "RGB"), (images[..., ::-1].copy(), "BGR")):
        verdict = image_probe.probe(lambda rule: RedOrBlue(), pixels, labels)
        assert verdict.best.name() == f"{order}, ImageNet mean and std"
        assert verdict.best.num_right == 40
        assert "top-1 falls by 50.0 points" in verdict.sentence()


def test_a_probe_finds_the_stride_rule():
    """By hand: with the rule in the 3x3 the toy net is itself, with the other it is upside down."""

    def build(rule):
        right = RedOrBlue()
        return torch.nn.Sequential(right, Turned()) if rule else right

    verdict = image_probe.probe(build, *red_and_blue(), stride_rules=(True, False))
    assert verdict.best.stride_rule == "3x3"
    assert verdict.best.name() == "RGB, ImageNet mean and std, stride in the 3x3"
    assert {t["stride_rule"] for t in verdict.to_json()["trials"]} == {"1x1", "3x3"}


class Turned(torch.nn.Module):
    def forward(self, logits):
        return -logits


def test_a_probe_names_no_winner_by_luck():
    """Exact sign test: 5 to 1 has a chance of 7/64."""
    assert image_probe.chance(
        np.array([1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 0, 0, 1], bool)
    ) == (pytest.approx(7 / 64))
    assert image_probe.chance(np.ones(3, bool), np.ones(3, bool)) == 1.0
    images, labels = red_and_blue(4)
    assert image_probe.probe(lambda rule: RedOrBlue(), images, labels).best is None
    with pytest.raises(WeightsError, match="no labelled image"):
        image_probe.probe(lambda rule: RedOrBlue(), images[:0], labels[:0])


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
