"""Checkpoints: verified, two kept, a damaged one set aside, a full disk harmless."""

import pytest
import torch

from resdet.engine import checkpoint
from resdet.errors import RunError, TrainingStopped


def state(iteration):
    return {"model": {"w": torch.full((1000,), float(iteration))}, "iteration": iteration}


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    for i in (5, 10, 15):
        checkpoint.save(tmp_path, state(i), keep=2)
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == [
        "step_0000010.pth",
        "step_0000015.pth",
    ]
    assert checkpoint.load(checkpoint.newest(tmp_path))["iteration"] == 15
    assert (tmp_path / "last").read_text(encoding="utf-8") == "step_0000015.pth\n"


def test_a_cut_checkpoint_is_set_aside_and_the_one_before_used(tmp_path):
    """F39, F40: also when the pointer names it."""
    for i in (5, 10):
        checkpoint.save(tmp_path, state(i), keep=2)
    newest = tmp_path / "step_0000010.pth"
    newest.write_bytes(newest.read_bytes()[:1000])
    (tmp_path / "step_0000015.pth.99.tmp").write_bytes(b"half")
    assert checkpoint.newest(tmp_path).name == "step_0000005.pth"
    assert (tmp_path / "step_0000010.bad").exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_failed_write_leaves_the_last_good_one(tmp_path, monkeypatch):
    """F38: no space left on the device."""
    checkpoint.save(tmp_path, state(5), keep=2)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingStopped, match=r"No space left.*Last good: step_0000005\.pth"):
        checkpoint.save(tmp_path, state(10), keep=2)
    assert [p.name for p in tmp_path.glob("step*")] == ["step_0000005.pth"]


def test_a_file_with_more_than_tensors_is_refused(tmp_path):
    """F64: torch's strict rule."""
    torch.save({"a": RunError("an object")}, tmp_path / "x.pth")
    with pytest.raises(RunError, match=r"x\.pth is not a checkpoint"):
        checkpoint.load(tmp_path / "x.pth")
