"""Memory that a step has freed: kept or not, seen by the pages that the system has to give."""

import subprocess
import sys

import pytest

from resdet.engine.memory import can_keep

# Page faults of a step that allocates 80 MB and frees them, the least after one such step.
SCRIPT = """
import resource, sys
import torch
from resdet.engine.memory import keep_freed
print(keep_freed(sys.argv[1]))
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# What the interpreter allocates in between may lie in the way once.
print(min([step() for _ in range(6)][1:]))
"""


def faults(setting: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, setting], capture_output=True, text=True, check=True
    )
    is_kept, count = done.stdout.split()
    return is_kept, int(count)


@pytest.mark.skipif(not can_keep(), reason="the C library is not glibc: nothing to set")
def test_kept_memory_costs_the_next_step_no_page():
    """80 MB are 19,531 pages of 4 KiB; "off" leaves glibc as it is, which gives them back."""
    is_kept, count = faults("auto")
    assert is_kept == "True" and count < 100
    is_kept, count = faults("off")
    assert is_kept == "False" and count > 1000
