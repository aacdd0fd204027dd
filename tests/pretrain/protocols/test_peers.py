"""Foreign weights under their own libraries' transforms, on real photographs of ImageNet.

The weights are random: no trained classifier of these nets lies in the shared data. Biases are set
so that the outputs depend on the image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

pytest.importorskip("detectron2")

from resdet.cli.main import main
from resdet.evaluation.classification.score_files import load_scores
from tests.support.foreign_nets import randomised

IMAGES = 12
pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the sample's class folders, and its list of the thousand classes."""
    root = tmp_path_factory.mktemp("photos")
    folders = sorted(p for p in (shared_data / "imagenet_sample").iterdir() if p.is_dir())
    for folder in folders[:: len(folders) // IMAGES][:IMAGES]:
        (root / folder.name).symlink_to(folder)
    return root


def centred(net: torch.nn.Module, inputs: list[torch.Tensor], last: torch.nn.Linear) -> np.ndarray:
    """Takes the mean output off the last bias, so that images differ; (N, K) log-probabilities."""
    with torch.no_grad():
        outputs = torch.cat([net(x[None]) for x in inputs])
        scale = 3 / outputs.std(0).mean()
        last.bias.copy_((last.bias - outputs.mean(0)) * scale)
        last.weight.mul_(scale)
        outputs = torch.cat([net(x[None]) for x in inputs])
    return torch.log_softmax(outputs, 1).numpy()


def compared(path: Path, photos: Path, expected: np.ndarray, crop: int, side: int) -> None:
    """Equal where the library resizes to the same pixels, the same first class everywhere.

    torchvision's Resize cuts the longer side to whole pixels, ours rounds it.
    """
    files = [p for f in sorted(photos.iterdir()) for p in sorted(f.iterdir())]
    ratios = [max(s) / min(s) for s in (Image.open(p).size for p in files)]
    alike = np.array([round(side * r) == int(side * r) for r in ratios])
    scores = load_scores(path)
    assert f"centre-{crop}of{side}" in path.name
    difference = np.abs(scores.log_probabilities - expected).max(axis=1)
    assert alike.sum() >= 3 and len(set(expected.argmax(1).tolist())) >= 4
    assert (difference[alike] < 1e-3).all()
    best = scores.log_probabilities.argmax(axis=1)
    assert (best == expected.argmax(axis=1))[alike].all()
    # A picture that is a pixel longer moves the crop by half a pixel.
    margin = np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0]
    sure = margin > 2 * difference
    assert (best == expected.argmax(axis=1))[sure].all()


def images_in(photos: Path) -> list[Image.Image]:
    paths = [p for f in sorted(photos.iterdir()) for p in sorted(f.iterdir())]
    return [Image.open(p).convert("RGB") for p in paths]


def test_torchvisions_net_under_its_preset(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """ResNet18_Weights' transform: Resize(256), CenterCrop(224), mean and deviation."""
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    net = randomised(torchvision.models.resnet18())
    transform = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    expected = centred(net, [transform(i) for i in images_in(photos)], net.fc)
    torch.save(net.state_dict(), tmp_path / "r18.pth")
    words = ["evaluate", "cls", str(tmp_path / "r18.pth"), "--data", str(photos),
             "--output", str(tmp_path / "out"), "--json"]  # fmt: skip
    assert main(words) == 0
    values = json.loads(capsys.readouterr().out)
    assert len(values["per_class"]) == 1000
    assert sum(c["images"] for c in values["per_class"]) == IMAGES
    compared(Path(values["scores"]), photos, expected, 224, 256)


@pytest.mark.parametrize(
    ("name", "crop", "side"), [("resnet18.a1_in1k", 224, 235), ("test_vit.r160_in1k", 160, 168)]
)
def test_timms_net_under_its_record(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    name: str,
    crop: int,
    side: int,
) -> None:
    """timm's own evaluation transform from the config.json beside: bicubic, 0.95 of 235 pixels."""
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    net = randomised(timm.create_model(name, pretrained=False))
    record = timm.data.resolve_model_data_config(net)
    assert (record["interpolation"], record["crop_pct"]) == ("bicubic", 0.95)
    transform = timm.data.create_transform(**record, is_training=False)
    expected = centred(net, [transform(i) for i in images_in(photos)], net.get_classifier())
    torch.save(net.state_dict(), tmp_path / "net.pth")
    stated = {**net.pretrained_cfg, "input_size": [3, crop, crop]}
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": name.partition(".")[0], "pretrained_cfg": stated})
    )
    words = ["evaluate", "cls", str(tmp_path / "net.pth"), "--data", str(photos),
             "--output", str(tmp_path / "out"), "--json"]  # fmt: skip
    assert main(words) == 0
    values = json.loads(capsys.readouterr().out)
    assert "bicubic" in values["scores"]
    compared(Path(values["scores"]), photos, expected, crop, side)
