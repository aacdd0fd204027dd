"""Memory that a step has freed: kept or not, seen by the pages that the system has to give."""

import pytest

from resdet.engine.speed.kept_memory import can_keep
from tests.support import children

# Page faults of the last of twelve steps that each allocate four blocks of 40 MB and free them.
# glibc keeps smaller ones by itself; its heap needs a few steps to settle.
SCRIPT = """
import resource, sys
import torch
from resdet.engine.speed.kept_memory import keep_freed
print(keep_freed(sys.argv[1]))
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(10_000_000) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([step() for _ in range(12)][-1])
"""


def faults(setting: str) -> tuple[str, int]:
    is_kept, count = children.printed_by(SCRIPT, setting).split()
    return is_kept, int(count)


@pytest.mark.skipif(not can_keep(), reason="the C library is not glibc: nothing to set")
def test_kept_memory_costs_later_steps_no_page():
    """160 MB are 39,062 pages of 4 KiB; "off" leaves glibc as it is, which gives them back."""
    is_kept, count = faults("auto")
    assert is_kept == "True" and count < 100
    is_kept, count = faults("off")
    assert is_kept == "False" and count > 30_000
