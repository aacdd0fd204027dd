"""What would run on a GPU, on one that is pretended; in a process of its own.

The checks are in the files named here, which pytest does not collect by itself: the pretence cannot
be undone, and other tests must not see it.
"""

import pytest

pytest.importorskip("detectron2")

from tests.support import children

PARTS = {
    "basics": "on_pretend_gpu",
    "classifier": "on_pretend_gpu",
    "detectors": "on_pretend_gpu",
    "counts": "on_pretend_gpu",
    "benchmarks": "benchmarks_on_pretend_gpu",
}


@pytest.mark.parametrize("part", PARTS)
def test_on_a_pretend_gpu(part: str) -> None:
    path = f"tests/gpu/{PARTS[part]}.py"
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", part)
    done = children.python("-m", "pytest", path, *options, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout
