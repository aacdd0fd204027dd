"""A machine that is too small is told before the first step."""

import mmap
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

pytest.importorskip("detectron2")

from resdet.config import resolve
from resdet.engine.starts import start_checks
from resdet.errors import ConfigError, RunError

Usage = namedtuple("Usage", "total used free")


def with_free(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))


def test_a_disk_must_hold_the_checkpoints(monkeypatch):
    """A million weights: 4 MB, 8 with momentum. Two kept and one more are 24, the result 4."""
    need = 28_000_000 + start_checks.BESIDE_BYTES
    with_free(monkeypatch, need)
    require(keep=2)
    with_free(monkeypatch, need - 1)
    with pytest.raises(RunError, match=r"has 127 MB free; .* needs about 127 MB \(2 checkpoints"):
        require(keep=2)
    with pytest.raises(RunError, match="5 checkpoints"):
        require(keep=5)


def test_what_a_stopped_training_left_needs_no_room_again(monkeypatch, tmp_path):
    """Two of three checkpoints of 8 MB are there: one, and the result of 4, are still to come."""
    for number in range(2):
        (tmp_path / f"{number}.pth").write_bytes(bytes(8_000_000))
    there = start_checks.bytes_in(tmp_path)
    assert there == 16_000_000 and start_checks.bytes_in(tmp_path / "none") == 0
    with_free(monkeypatch, 12_000_000 + start_checks.BESIDE_BYTES)
    require(keep=2, there=there)
    with_free(monkeypatch, 12_000_000 + start_checks.BESIDE_BYTES - 1)
    with pytest.raises(RunError, match=r"needs about 127 MB .*, 15 MB of it there already\. Free"):
        require(keep=2, there=there)


def test_proposals_stay_and_take_as_much_again_while_they_are_joined():
    """Checkpoints of 8 (two kept), a result of 4, proposals of 30 and 20: 70 stay; while the larger
    file is made, its parts are there, too, and that is more than a checkpoint being written."""
    need = start_checks.DiskNeed(8, kept=2, results=4, proposals=50, proposal_parts=30)
    assert (need.stays, need.most) == (70, 100)
    assert start_checks.DiskNeed(8, kept=2, results=4).most == 28


def require(keep, there=0):
    """Of a million weights."""
    cfg = resolve(None, ["ENGINE.KEEP_CHECKPOINTS", str(keep)]).cfg
    need = start_checks.DiskNeed.of_training(cfg, torch.nn.Linear(1000, 1000, bias=False))
    start_checks.require_disk(Path("."), need.most, need, there=there)


def test_shared_memory_must_hold_what_workers_have_ready(monkeypatch, tmp_path):
    """Two workers with two batches of 10 MB ready and one in hand: 60 MB. A tensor has whole pages,
    so that of three bytes in three tensors is 3 pages; without that it would wait for ever."""
    monkeypatch.setattr(start_checks, "SHARED_MEMORY", tmp_path)
    with_free(monkeypatch, 6 * 9_998_336)
    start_checks.require_shared_memory(2, 2, [9_998_336])
    with_free(monkeypatch, 1 << 20)
    with pytest.raises(RunError, match="has 1 MB free; 2 loader workers may need 57 MB.*shm-size"):
        start_checks.require_shared_memory(2, 2, [9_998_336])
    start_checks.require_shared_memory(0, 2, [9_998_336])  # no workers, no need
    with_free(monkeypatch, 18 * mmap.PAGESIZE)
    start_checks.require_shared_memory(2, 2, [1, 1, 1])
    with_free(monkeypatch, 18 * mmap.PAGESIZE - 1)
    with pytest.raises(RunError):
        start_checks.require_shared_memory(2, 2, [1, 1, 1])


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(1024, 4096, 4096), (1024, 1 << 20, 65_536), (1024, -1, 65_536), (-1, -1, None),
     (4096, 4096, None)],
)  # fmt: skip
def test_the_limit_of_open_files_is_raised_as_far_as_it_may(monkeypatch, soft, hard, expected):
    """F76: never lowered, and the hard limit stays."""
    resource = pytest.importorskip("resource")
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append(limit))
    start_checks.raise_open_files()
    assert limits == ([] if expected is None else [(expected, hard)])


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch):
    """Each process would weigh its part alike in the mean of the gradients."""
    start_checks.require_equal_shares({"SOLVER.IMS_PER_BATCH": 5})
    monkeypatch.setattr(start_checks.comm, "get_world_size", lambda: 2)
    even, uneven = {"SOLVER.IMS_PER_BATCH": 4}, {"SOLVER.RPN.IMS_PER_BATCH": 5}
    start_checks.require_equal_shares(even)
    with pytest.raises(ConfigError, match=r"SOLVER\.RPN\.IMS_PER_BATCH is 5, which 2 processes"):
        start_checks.require_equal_shares({**even, **uneven})
