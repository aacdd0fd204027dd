"""What a detector's MODEL.WEIGHTS auto finds: pretraining runs, and caches of public weights.

All lie in the folder that a test works in; nobody is asked over a network.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from resdet import nets, weights
from resdet.config import presets, resolve
from resdet.run import layout
from resdet.run.folder import Run
from resdet.weights import Card, Input

MSRA = "detectron2://ImageNetPretrained/MSRA/"


def empty_caches(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in `place`, with caches there and no network."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FVCORE_CACHE", str(place / "iopath"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(place / "hub"))


def pretrained(preset: str, state: str, *opts: str, file: str = layout.CLASSIFIER) -> Path:
    """The file of a run of this preset that trained nothing; its content is not weights."""
    text = resolve(presets.find(preset), opts).to_yaml()
    kind = "classification" if file == layout.CLASSIFIER else "detection"
    run = Run.create(f"runs/{preset}", kind=kind, config_text=text, command=[], seed=0)
    (run.path / file).write_bytes(b"a model")
    run.update(state=state)
    return run.path / file


def in_detectron2s_cache(name: str, content: bytes = b"weights") -> None:
    path = Path("iopath/detectron2/ImageNetPretrained/MSRA") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def content_of_net(name: str) -> bytes:
    """A weight file of ours, by its first bytes, whose card has the input of He et al.'s nets."""
    torch.manual_seed(0)
    net = nets.build(name)
    net(torch.randn(2, 3, 64, 64))  # which gives its norms statistics
    card = Card(name, Input("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)),
                net_options={"stride_in_1x1": True})  # fmt: skip
    file = Path("w/model.safetensors")
    file.parent.mkdir(exist_ok=True)
    weights.save(file, net.state_dict(), card)
    return file.read_bytes()
