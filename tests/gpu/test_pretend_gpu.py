"""What would run on a GPU, on one that is pretended; in a process of its own.

The checks are in `on_pretend_gpu.py`, which pytest does not collect by itself: the pretence cannot
be undone, and other tests must not see it.
"""

import pytest

pytest.importorskip("detectron2")

from tests.support import children


@pytest.mark.parametrize("part", ["basics", "classifier", "detectors", "counts"])
def test_on_a_pretend_gpu(part: str) -> None:
    path = "tests/gpu/on_pretend_gpu.py"
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", part)
    done = children.python("-m", "pytest", path, *options, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout
