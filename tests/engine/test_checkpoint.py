"""Checkpoints: verified, two kept, a damaged one set aside, a full disk harmless."""

from types import SimpleNamespace

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
    with pytest.raises(
        TrainingStopped, match=r"\(0 MB needed, .* free\).*No space left.*good: step_0000005\.pth"
    ):
        checkpoint.save(tmp_path, state(10), keep=2)
    assert [p.name for p in tmp_path.glob("step*")] == ["step_0000005.pth"]


class FullDisk:
    """No space until `polls` looks at it, or for ever; time passes by sleeping alone."""

    def __init__(self, monkeypatch, polls):
        self.now, self.slept, self.polls = 1000.0, [], polls
        save = torch.save

        def write(*args):
            if not self.has_space:
                raise OSError(28, "No space left on device")
            save(*args)

        def sleep(seconds):
            self.now += seconds
            self.slept.append(seconds)

        monkeypatch.setattr(torch, "save", write)
        monkeypatch.setattr(checkpoint.time, "sleep", sleep)
        monkeypatch.setattr(checkpoint.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(
            checkpoint.shutil,
            "disk_usage",
            lambda path: SimpleNamespace(free=4000 if self.has_space else 3999),
        )

    @property
    def has_space(self):
        return len(self.slept) >= self.polls


def test_a_full_disk_is_waited_for(tmp_path, monkeypatch, caplog):
    """F38: 1000 floats need 4,000 bytes, which are there after the third look, 15 s later."""
    disk = FullDisk(monkeypatch, polls=3)
    path = checkpoint.save(tmp_path, state(10), keep=2, wait=60)
    assert disk.slept == [5, 5, 5]
    assert checkpoint.load(path)["iteration"] == 10
    assert "Waiting at most 60 s (ENGINE.DISK_WAIT)" in caplog.text


@pytest.mark.parametrize(
    ("wait", "signal_after", "slept"),
    [(12, 99, [5, 5, 2]), (0, 99, []), (60, 2, [5, 5])],
    ids=["too long", "off", "signal"],
)
def test_the_wait_for_a_full_disk_ends(tmp_path, monkeypatch, wait, signal_after, slept):
    """F38: after ENGINE.DISK_WAIT, or at a signal."""
    disk = FullDisk(monkeypatch, polls=99)
    with pytest.raises(TrainingStopped, match="No space left"):
        checkpoint.save(
            tmp_path,
            state(10),
            keep=2,
            wait=wait,
            is_asked_to_end=lambda: len(disk.slept) >= signal_after,
        )
    assert disk.slept == slept


def test_a_file_with_more_than_tensors_is_refused(tmp_path):
    """F64: torch's strict rule."""
    torch.save({"a": RunError("an object")}, tmp_path / "x.pth")
    with pytest.raises(RunError, match=r"x\.pth is not a checkpoint"):
        checkpoint.load(tmp_path / "x.pth")
