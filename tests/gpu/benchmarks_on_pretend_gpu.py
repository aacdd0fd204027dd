"""The parts of `python -m benchmarks --gpu` on the pretend GPU; `test_pretend_gpu.py` runs them.

Sizes are those of --quick: that each part runs, compares and waits is seen, not how fast it is.

Not for: which parts there are and what is kept of them (`tests/benchmarks/test_gpu_command.py`).
"""

import argparse
import json

import pytest
import torch
from detectron2.structures import Boxes, Instances

from benchmarks.detection.detectors import peer_of
from benchmarks.gpu import (
    classification,
    detection_inference,
    detection_training,
    device,
    parity,
    pooling,
)
from benchmarks.gpu.detector_ways import DetectorWay, ways_of
from tests.gpu.pretend_gpu import pretend


def ran(part, folder, *words):
    """The claims that a part leaves, all of which were the same as their peer."""
    with pretend() as gpu:
        assert part.main(["--quick", "--json", str(folder / "found.json"), *words]) == 0
        waits = [operation for _, operation in gpu.waits]
    assert "synchronize" in waits or part is parity
    page = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    assert page["claims"] and not page["failed"]
    return page["claims"]


def test_benchmarks_find_the_gpu_that_is_there():
    with pretend(count=2):
        assert device.missing_gpu() == ""
        about = device.machine()
    assert (about["gpu"], about["gpus"], about["compute_capability"]) == ("a pretend GPU", 2, "9.0")
    assert about["gpu_memory_mb"] == 16384 and about["cores"] and about["driver"]


def test_benchmarks_parity_compares_cpu_stock_keys_and_bf16(tmp_path):
    """The stand-in computes as a CPU does: nothing lies apart there, and rounding elsewhere."""
    claims = ran(parity, tmp_path, "--only", "R-50-C4", "resnet18")
    assert [claim["name"] for claim in claims] == ["parity, R-50-C4", "parity, resnet18"]
    for claim in claims:
        for what in ("loss", "gradients"):
            assert f"GPU against CPU: {what} 0.0e+00" in claim["checked"]
    kinds = ("GPU against CPU", "fast keys against stock", "bf16 against stock",
             "fast keys, bf16 against stock")  # fmt: skip
    assert [claims[0]["checked"].count(kind) for kind in kinds] == [3, 3, 6, 3]


def test_benchmarks_parity_fails_where_a_key_computes_something_else(tmp_path, monkeypatch):
    """A made-up loss of the fast keys is 1.5 times the others'."""

    def computed(net, way, scale, on):
        boxes = Instances((10, 10), pred_boxes=Boxes(torch.zeros(2, 4)), pred_classes=torch.ones(2))
        boxes.scores = torch.tensor([0.5, 0.25])
        return parity.Computed({"loss": 1.5 if way.fast else 1.0}, {"w": torch.ones(2)}, boxes)

    monkeypatch.setattr(parity, "compute", computed)
    page = tmp_path / "found.json"
    with pretend():
        assert parity.main(["--quick", "--json", str(page), "--only", "R-50-DC5"]) == 1
    found = json.loads(page.read_text(encoding="utf-8"))
    assert not found["claims"]
    assert "fast keys against stock: loss 5.0e-01 (bound 0.001)" in found["failed"][0]["why"]
    monkeypatch.setattr(parity, "compute", lambda *a: computed(a[0], DetectorWay(), *a[2:]))
    with pretend():
        assert parity.main(["--quick", "--only", "R-50-DC5"]) == 0


def test_benchmarks_classification_takes_the_trainers_steps(tmp_path):
    """torchvision's net and the trainer's, from the same weights: one loss to rounding. Batch norm
    over the four values that 32 pixels a side leave it would make 6 % of bf16's."""
    keys = ("all keys off", "TF32", "BF16 and CHANNELS_LAST", classification.PARTS, "all")
    with pretend():
        claim = classification.measure("resnet18", 64, 4, 1, 1, keys)
    assert [row.name for row in claim.rows] == [
        classification.PEER, classification.PEER_BF16, *keys,
    ]  # fmt: skip
    assert claim.agrees and not claim.left_out


def test_benchmarks_classification_sees_another_loss():
    """By hand: 2 % off is too much in float32, not in bf16; parts of a batch do not count."""
    peer = {classification.PEER: 1.0}
    for name, agrees in (("TF32", False), ("BF16", True), (classification.PARTS, True)):
        assert classification.compare({**peer, name: 1.02})[1] is agrees
    assert not classification.compare({**peer, "BF16": 1.06})[1]


@pytest.mark.parametrize("part", [detection_training, detection_inference])
def test_benchmarks_detectors_take_turns_with_stock(tmp_path, monkeypatch, part):
    """In three of their settings, and detecting on one image and on two at once."""
    training = part is detection_training
    key = "FAST_TRAINING" if training else "FAST_INFERENCE"
    some = ["stock", "stock, autocast bf16", f"{key}, BF16"]
    every = ways_of("R-50-FPN", training=training)
    monkeypatch.setattr(part, "ways_of", lambda net, **_: {name: every[name] for name in some})
    (claim,) = ran(part, tmp_path, "--only", "R-50-FPN")
    expected = some if training else [*some, *(f"{name}, 2 images" for name in some)]
    assert [row["name"] for row in claim["rows"]] == expected and not claim["left_out"]


def test_benchmarks_ask_for_every_key_of_every_net():
    keys = {"TF32", "BF16", "FAST_TRAINING", "FAST_TRAINING, TF32", "FAST_TRAINING, BF16",
            "FUSED_OPTIMIZER", "all", "all keys off"}  # fmt: skip
    for net in detection_training.NETS:
        names = list(ways_of(net, training=True))
        assert names[0] == peer_of(net) and keys <= set(names)
        assert "FAST_INFERENCE, BF16" in ways_of(net, training=False)
    assert {key.partition(".")[2] for opts in classification.KEYS.values() for key in opts} >= {
        "BF16", "CHANNELS_LAST", "FUSED_OPTIMIZER", "COMPILE", "TF32", "IMAGES_PER_PASS",
    }  # fmt: skip


def test_benchmarks_pooling_compares_kernel_and_sums(tmp_path):
    claims = ran(pooling, tmp_path)
    assert [claim["name"] for claim in claims] == [
        "pooling alone, 12 regions", "pooling and its gradient, 12 regions",
    ]  # fmt: skip
    for claim in claims:
        assert [row["name"] for row in claim["rows"]] == [
            "Detectron2's RoIAlign", "as the fast keys", "sums of map cells", "DETERMINISTIC",
        ]  # fmt: skip


def test_benchmarks_of_every_net_are_asked_for():
    args = argparse.Namespace(quick=False, rounds=5, only=list(detection_training.NETS))
    nets = [
        "R-50-C4", "R-101-C4", "R-50-FPN", "R-101-FPN", "R-50-DC5", "VGG-16", "VGG-16-FPN",
    ]  # fmt: skip
    assert list(detection_training.cases(args)) == list(detection_inference.cases(args)) == nets
