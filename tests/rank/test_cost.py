"""What a backbone costs."""

import time
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch

from resdet.rank import cost
from tests.support import children

BIG = 300_000_000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's clear_refs")
def test_memory_is_the_peak_from_then_on():
    """300 MB that were there and are freed again, as weights while they are read, do not count."""
    code = f"""
import torch
from resdet.rank.cost import _forget_peak, _peak_mb
cpu = torch.device("cpu")
_forget_peak(cpu)
before = _peak_mb(cpu)
block = bytearray({BIG})
with_block = _peak_mb(cpu)
del block
_forget_peak(cpu)
print(with_block - before, _peak_mb(cpu) - before)
"""
    gained, left = map(float, children.printed_by(code).split())
    assert gained == pytest.approx(BIG / 1e6, rel=0.05)
    assert abs(left) < 50


def test_memory_without_proc_is_that_of_the_whole_process(monkeypatch):
    monkeypatch.setattr(cost.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError))
    assert cost._peak_mb(torch.device("cpu")) > 50


def test_time_without_a_core_is_waited():
    """Asleep for at least as long as it computed; how long a busy machine makes both is its own."""
    began = time.perf_counter(), time.process_time()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    computed = cost._waited(began)
    time.sleep(time.perf_counter() - began[0])
    assert computed < 1 and cost._waited(began) > (1 + computed) / 2 - 0.05
    assert cost._waited((time.perf_counter() - 1, time.process_time() - 3)) == 0  # three threads
