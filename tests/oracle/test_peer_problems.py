"""Random problems as peers draw them: scored as they are, and equal to pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evaluation import peer_problems
from resdet.cli import main

# One process runs 3,000 in some minutes: python -m benchmarks.evaluation.peer_problems.
SEEDS = range(60)


@pytest.mark.parametrize("first", range(0, len(SEEDS), 20))
def test_odd_problems_are_scored_and_equal_pycocotools(first: int) -> None:
    """Oracle: pycocotools, all twelve numbers, both engines, nothing accepted."""
    for seed in SEEDS[first : first + 20]:
        wrong, odd, _ = peer_problems.judge(seed)
        assert not wrong, (seed, sorted(odd))


def test_every_oddity_is_drawn_and_counted() -> None:
    """Among these seeds; zero boxes and repeats are warned of, never silent."""
    seen: set[str] = set()
    for seed in SEEDS:
        (instances, results), odd = peer_problems.odd_problem(seed)
        seen |= odd
        if "crowds" in odd and len(instances["annotations"]) > 20:
            assert any(a.get("iscrowd") for a in instances["annotations"])
        if "repeats" in odd and results:
            assert len({json.dumps(r) for r in results}) < len(results)
    assert seen >= set(peer_problems.ODDITIES) - {"no objects"}


def test_a_problem_is_scored_from_its_files(tmp_path: Path, capsys: Any) -> None:
    """As a user types it: the command's numbers are pycocotools', its warnings are counted."""
    seed = next(s for s in SEEDS if {"zero boxes", "repeats", "crowds", "areas"} <= _odd(s))
    instances, results = peer_problems.odd_problem(seed)[0]
    gt, found = tmp_path / "gt.json", tmp_path / "found.json"
    gt.write_text(json.dumps(instances), encoding="utf-8")
    found.write_text(json.dumps(results), encoding="utf-8")
    words = ["evaluate", "coco", str(found), "--gt", str(gt), "--task", "bbox", "--json"]
    assert main.main(words) == 0
    out, err = capsys.readouterr()
    expected = peer_problems.by_pycocotools((instances, results))
    numbers = list(json.loads(out).values())[2:14]
    assert [-1 if v is None else v for v in numbers] == pytest.approx(expected.tolist(), abs=1e-12)
    assert "Detections that stand more than once" in err


def _odd(seed: int) -> set[str]:
    return peer_problems.odd_problem(seed)[1]
