"""The benchmark of COCO's evaluation on a small problem."""

from __future__ import annotations

import pytest

from benchmarks.evaluation import coco


@pytest.mark.parametrize("engine", ["fast", "checked"])
def test_every_engine_gives_pycocotools_numbers(tmp_path, engine) -> None:
    """As it is run: what an engine imports is not timed, then the work."""
    coco.make_problem(tmp_path, 20)
    coco.prepare(engine)
    ours = coco.BENCHMARK.engines[engine](tmp_path)
    assert ours == pytest.approx(coco.run_pycocotools(tmp_path), abs=1e-12)
