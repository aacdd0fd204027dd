"""Every image once: after stops, kills and damage, and on two processes; to the bit on one."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from resdet import nets
from resdet.data.records import ClassificationSet
from resdet.errors import CheckFailed, Interrupted, TrainingStopped
from resdet.evaluation.classification.score_files import load_scores
from resdet.pretrain.protocols import score_parts
from resdet.pretrain.protocols.score_parts import ScoreParts
from resdet.pretrain.protocols.scoring import score_images
from resdet.pretrain.protocols.view_protocol import make_protocol
from tests.support import children, tiny
from tests.support.foreign_nets import randomised
from tests.support.small_classifiers import save_classifier

STATED = {"net": "x"}


@pytest.fixture(scope="module")
def data() -> ClassificationSet:
    images = np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(23) % 3
    return ClassificationSet("noise", labels, ("a", "b", "c"), images=images, hash="h")


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return randomised(nets.build("cifar_resnet8", 3, width=0.25))


def scored(net: Any, data: Any, folder: Path, kind: str = "centre", **options: Any) -> np.ndarray:
    protocol = make_protocol(kind, crop=16, side=16)
    table, parts = score_images(
        net, data, protocol, lambda x: x.float() / 255, folder, STATED, batch_size=4, **options
    )
    assert isinstance(parts, ScoreParts)
    return table


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_parts, "PART_IMAGES", 4)


@pytest.mark.parametrize("kind", ["centre", "dense"])
def test_too_little_memory_is_a_page(data: Any, tmp_path: Path, kind: str) -> None:
    """Of a dense test the page was that the net takes no such image."""

    class Large(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    with pytest.raises(TrainingStopped, match=r"is not enough for \d images.*\n.*--batch-size"):
        scored(Large(), data, tmp_path / kind, kind)


def test_a_stop_loses_nothing(
    net: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the third batch ends the work after it; the same call does the rest, and only it,
    with the same bits as in one go."""
    whole = scored(net, data, tmp_path / "whole")
    add, visited = ScoreParts.add, []

    def stopping(self: ScoreParts, numbers: list[int], rows: np.ndarray) -> None:
        visited.extend(numbers)
        if len(visited) == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        add(self, numbers, rows)

    monkeypatch.setattr(ScoreParts, "add", stopping)
    with pytest.raises(Interrupted, match="12 of 23 images of noise are kept") as caught:
        scored(net, data, tmp_path / "cut")
    assert caught.value.exit_code == 143
    assert np.array_equal(scored(net, data, tmp_path / "cut"), whole)
    assert visited == list(range(23))


def test_processes_that_read_change_nothing(net: Any, data: Any, tmp_path: Path) -> None:
    """Two reading processes give the same bits."""
    whole = scored(net, data, tmp_path / "a")
    assert np.array_equal(scored(net, data, tmp_path / "b", workers=2), whole)


@pytest.mark.usefixtures("small_parts")
def test_damaged_parts_run_again(net: Any, data: Any, tmp_path: Path) -> None:
    """One cut, one of noise, one left over by a kill; one that was pickled is never opened."""
    whole = scored(net, data, tmp_path)
    parts = sorted(tmp_path.glob("part_*.npz"))
    assert len(parts) == 6
    parts[0].write_bytes(parts[0].read_bytes()[:200])
    parts[1].write_bytes(b"noise")
    np.savez(parts[2], numbers=np.array([{}], dtype=object), log_probabilities=np.zeros((1, 3)))
    (tmp_path / "part_0000000.npz.9.tmp").write_bytes(b"half")
    assert np.array_equal(scored(net, data, tmp_path), whole)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.usefixtures("small_parts")
def test_parts_of_something_else_are_removed(net: Any, data: Any, tmp_path: Path) -> None:
    scored(net, data, tmp_path)
    (tmp_path / "fingerprint.json").write_text('{"net": "y"}')
    other = dataclasses.replace(data, images=data.images[:5], labels=data.labels[:5])
    assert len(scored(net, other, tmp_path)) == 5


@pytest.mark.usefixtures("small_parts")
def test_an_image_seen_twice_gives_no_number(net: Any, data: Any, tmp_path: Path) -> None:
    """A part copied under another name, as a folder shared by two commands would have it."""
    scored(net, data, tmp_path)
    first = min(tmp_path.glob("part_*.npz"))
    (tmp_path / "part_9999999.npz").write_bytes(first.read_bytes())
    with pytest.raises(CheckFailed, match="expected 23 images, saw 23, 4 twice"):
        scored(net, data, tmp_path)


def test_outputs_that_are_no_numbers_stop_it(net: Any, data: Any, tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 3), float("nan"))

    with pytest.raises(TrainingStopped, match="4 of 4 images of noise .first: record 0"):
        scored(Broken(), data, tmp_path)


def test_a_full_disk_is_a_page(
    net: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(score_parts.np, "savez", full)
    with pytest.raises(TrainingStopped, match="No space left on device. Free space"):
        scored(net, data, tmp_path)


def test_the_mode_of_the_net_comes_back(net: Any, data: Any, tmp_path: Path) -> None:
    """Scoring is in evaluation mode; a net in training comes back so."""
    net.train()
    trained = scored(net, data, tmp_path / "a", "10-crop")
    assert net.training
    net.eval()
    assert np.array_equal(scored(net, data, tmp_path / "b", "10-crop"), trained)


KILLED = """
import os, signal, sys
from resdet.pretrain.protocols import score_parts
score_parts.PART_IMAGES = 2
write = score_parts.ScoreParts.write
def killed(self):
    write(self)
    if len(self.done) >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
score_parts.ScoreParts.write = killed
from resdet.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill_and_on_two_processes(tmp_path: Path) -> None:
    """kill -9 after six of 18 images, the rest by two processes; against one process in one go:
    each image once, equal but for what the size of a batch rounds."""
    tiny.class_folders(tmp_path / "data")
    save_classifier(tmp_path / "one.safetensors")
    words = ("evaluate", "cls", "one.safetensors", "--data", "data/val", "--batch-size", "2")
    whole = children.run_cli(*words, "--output", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    cut = children.python("-c", KILLED, *words, "--output", "cut", cwd=tmp_path,
                          OMP_NUM_THREADS="1", RESDET_CACHE=str(tmp_path / "cache"))  # fmt: skip
    assert cut.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "cut").rglob("part_*.npz"))) == 3
    rest = children.run_cli(*words, "--output", "cut", cwd=tmp_path, processes=2)
    assert rest.returncode == 0, rest.stderr
    assert "6 of 18 images are there already" in rest.stderr + rest.stdout
    one, two = (next((tmp_path / n / "scores").glob("*.npz")) for n in ("whole", "cut"))
    assert one.name == two.name
    a, b = load_scores(one), load_scores(two)
    assert a.images == b.images
    np.testing.assert_allclose(a.log_probabilities, b.log_probabilities, atol=1e-4)
    assert rest.stdout.count("page:") == 1
    assert not list((tmp_path / "cut").rglob("*.parts"))
