"""One cascade from a path: every command reads a file's bytes once, and all tell the same of it."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from resdet import nets, weights
from resdet.cli.main import run_command
from resdet.weights import Card, Input, tensor_checks
from resdet.weights.formats import containers
from resdet.weights.resolve import WeightFile

INPUT = Input("RGB", (60.0,) * 3, (50.0,) * 3, 32)


@pytest.fixture
def ours(tmp_path):
    torch.manual_seed(0)
    net = nets.build("resnet18", 3, width=0.125)
    net(torch.randn(2, 3, 32, 32))  # statistics of something
    weights.save(
        tmp_path / "net.safetensors", net.state_dict(), Card("resnet18", INPUT, {"width": 0.125})
    )
    return tmp_path / "net.safetensors"


@pytest.fixture
def foreign(ours, tmp_path):
    """The same net as a file of Detectron2's, with its card beside it."""
    out = tmp_path / "d2.pkl"
    assert (
        run_command("convert_weights", ["convert", str(ours), "--to", "detectron2", "-o", str(out)])
        == 0
    )
    return out


@pytest.fixture
def reads(monkeypatch):
    """How often each file is opened by the one reader of bytes."""
    counts: Counter[str] = Counter()
    for container, reader in list(containers._READERS.items()):

        def counted(path, reader=reader):
            counts[Path(path).name] += 1
            return reader(path)

        monkeypatch.setitem(containers._READERS, container, counted)
    return counts


@pytest.mark.parametrize("name", ["ours", "foreign"])
@pytest.mark.parametrize(
    "action",
    [
        ("inspect", "{file}", "--json"),
        ("convert", "{file}", "--to", "resdet", "-o", "{out}"),
        ("convert", "{file}", "--to", "resdet", "-o", "{out}", "--color", "BGR"),
    ],
)
def test_a_command_reads_its_file_once(action, name, request, reads, tmp_path):
    file = request.getfixturevalue(name)
    reads.clear()
    words = [w.format(file=file, out=tmp_path / "out.safetensors") for w in action]
    assert run_command("convert_weights", words) == 0
    # What was written is read back, once too.
    written = {"out.safetensors": 1} if "-o" in words else {}
    assert reads == {file.name: 1, **written}


def test_saying_a_card_reads_its_file_once(foreign, reads):
    Path(f"{foreign}.card.json").unlink()
    stated = ["--color", "RGB", "--mean", "60", "60", "60", "--std", "50", "50", "50"]
    assert run_command("convert_weights", ["card", str(foreign), *stated]) == 0
    assert reads == {foreign.name: 1}


def test_one_file_is_hashed_once_however_often_it_is_asked(foreign, reads, monkeypatch):
    hashed = []

    def counted(tensors):
        hashed.append(len(tensors))
        return tensor_checks.sha256_of(tensors)

    monkeypatch.setattr("resdet.weights.resolve.sha256_of", counted)
    file = WeightFile(foreign)
    first, again = file.load(), file.load()
    assert first[1] == again[1] == weights.Card.read(Path(f"{foreign}.card.json"))
    assert (file.origin, file.strangers) == ("detectron2", ())
    assert hashed == [len(file.contents.tensors)]
    assert reads[foreign.name] == 1


def _config(path, **transfer):
    pytest.importorskip("detectron2")
    from detectron2.config import CfgNode

    return CfgNode(
        {
            "MODEL": {"WEIGHTS": str(path), "WEIGHTS_PART": ""},
            "TRANSFER": {"FROM_SCRATCH": False, "HEAD_CLASSES": "", **transfer},
        }
    )


@pytest.mark.parametrize("name", ["ours", "foreign"])
def test_a_training_keeps_the_tensors_that_it_read(name, request, reads):
    """The record holds what `load` gives, and nothing is read for it again."""
    file = request.getfixturevalue(name)
    config = _config(file)
    tensors, card = weights.load(file)
    reads.clear()
    from resdet.cli.training import starting_point

    start = starting_point.start_of_training(config)
    received = {}

    class Training:
        cfg = config

        def load_backbone(self, tensors, where):
            received.update(tensors)
            assert where == str(file)

    class Run:
        def write(self, name, values):
            assert (name, values) == ("card.json", card.to_dict())

        def note_weights_source(self, source):
            assert source == {}  # a path

    class Args:
        resume = eval_only = False

    starting_point.fill(Training(), start, Run(), Args)
    assert start.card == card and not start.detector
    assert received.keys() == tensors.keys()
    assert all(torch.equal(received[n], t) for n, t in tensors.items())
    assert reads == {file.name: 1}


def test_a_whole_detector_is_read_once_with_its_classes(tmp_path, reads):
    config = _config(tmp_path / "model.pth")
    state = {"roi_heads.box_predictor.cls_score.bias": torch.ones(3)}
    torch.save({"model": state, "classes": ["cat", "dog"]}, tmp_path / "model.pth")
    from resdet.cli.training import starting_point

    start = starting_point.start_of_training(config)
    assert start.detector == str(tmp_path / "model.pth")
    assert start.head_classes == ("cat", "dog")
    assert list(start.tensors) == list(state)
    assert reads == {"model.pth": 1}
