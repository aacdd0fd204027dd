"""Our files and torch's: what is written comes back, what is broken is named, nothing runs."""

import pickle

import pytest
import torch

from resdet import nets, weights
from resdet.errors import WeightsError
from resdet.weights import Card, Input
from tests.support.payload import Payload

INPUT = Input("RGB", (118.0, 118.0, 118.0), (60.0, 60.0, 60.0), 48)


@pytest.fixture
def saved(tmp_path):
    net = nets.build("resnet18", 10, width=0.125)
    path = tmp_path / "mes données #1?x=1" / "net.safetensors"
    card = weights.save(path, net.state_dict(), Card("resnet18", INPUT, {"width": 0.125}))
    return path, net, card


def test_tensors_and_card_come_back_as_they_were(saved):
    """F70: also from a path with blanks, #, ? and accents."""
    path, net, card = saved
    tensors, read = weights.load(path)
    assert read == card
    assert read.input == INPUT
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensors[name], tensor)


def test_flipped_bytes_are_found(saved):
    """F24: 64 flipped bytes in the middle load without error elsewhere."""
    path, _, _ = saved
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(b ^ 1 for b in data[middle : middle + 64])
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="do not match the SHA-256 in its card"):
        weights.load(path)


def test_flipped_bytes_of_a_torch_file_are_found(tmp_path):
    """F24: the checksums of the zip are checked."""
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(100_000)}, path)
    data = bytearray(path.read_bytes())
    data[200_000:200_064] = b"\x55" * 64
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"net\.pth is damaged"):
        weights.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"GIF89a......", "neither a safetensors, a torch"),
        (b"PK\x03\x04" + b"x" * 100, "is cut off"),
    ],
)
def test_foreign_files_are_named_for_what_they_are(tmp_path, content, message):
    """F24."""
    path = tmp_path / "r50.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        weights.load(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load(tmp_path / "none.pth")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is a folder.*Did you mean .*model\.safetensors"):
        weights.load(tmp_path)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path):
    """F23: the payload would leave a mark; the mark is absent."""
    mark = tmp_path / "mark"
    for name, write in (
        ("new.pth", lambda p: torch.save({"a": Payload(mark)}, p)),
        ("old.pth", lambda p: p.write_bytes(pickle.dumps({"a": Payload(mark)}))),
    ):
        write(tmp_path / name)
        with pytest.raises(WeightsError, match=name):
            weights.load(tmp_path / name)
    assert not mark.exists()


def test_values_that_are_not_finite_are_refused(tmp_path):
    """F25: how many, and where the first is."""
    state = nets.build("resnet18", 10).state_dict()
    state["res3.0.conv1.norm.running_var"][17] = float("nan")
    with pytest.raises(
        WeightsError, match=r"res3\.0\.conv1\.norm\.running_var: 1 of 128 .*index 17"
    ):
        weights.save(tmp_path / "x.safetensors", state, Card("resnet18", INPUT))
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_names_of_no_known_origin_are_refused(tmp_path):
    torch.save({"encoder.blocks.0.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"names of no origin.*first: blocks\.0\.weight"):
        weights.load(tmp_path / "x.pth")


def test_a_torchvision_file_is_recognised(tmp_path):
    """Its habits become the card, marked as not verified."""
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.resnet18(weights=None)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}},
        tmp_path / "x.pth",
    )
    tensors, card = weights.load(tmp_path / "x.pth")
    assert (card.net, card.net_options, card.origin) == (
        "resnet18",
        {"stride_in_1x1": False},
        "torchvision",
    )
    assert not card.verified and card.input.color_order == "RGB"
    assert torch.equal(tensors["res2.0.conv1.weight"], theirs.layer1[0].conv1.weight)


def test_the_partial_imagenet_resnet18_is_recognised_as_folded(shared_data):
    """Its README: torchvision's names, four convolutions of layer4 missing, BN folded."""
    tensors, card = weights.load(
        shared_data / "weights" / "resnet18-imagenet1k_v1-partial-bnfolded.pth"
    )
    assert card.net == "resnet18" and card.norm["folded"]
    assert len(nets.build("resnet18").state_dict()) - len(tensors) == 20 + 4
