"""Error anatomy against tidecv 1.0.1: its recorded output always, itself where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from resdet.evaluation.analysis.detection_errors import (
    ERRORS,
    NEITHER,
    RIGHT,
    SIZES,
    Anatomy,
    dissect,
)
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.coco import matching
from tests.support import coco_json, tide_record

RECORD = json.loads(tide_record.RECORD.read_text(encoding="utf-8"))
RANDOM = {name: rows for name, rows in RECORD["scenes"].items() if name.startswith("seed")}


@pytest.fixture(autouse=True)
def recalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """tidecv reads precision at k / 100, pycocotools at k x 0.01, which is another number in the
    last bit for some k; here both read at k / 100."""
    monkeypatch.setattr(matching, "RECALLS", np.arange(101) / 100)


def dissected(instances: Any, results: Any, **options: Any) -> Anatomy:
    return dissect(*coco_json.arrays(instances, results), **options)


def compare(scene: tide_record.Scene, theirs: dict[str, Any]) -> tuple[int, int]:
    """Ours by tidecv's rule equals its own; it shows no gain below 0, and gives duplicates the
    size of their own boxes, not of the object's. Returns how many gains were compared, and how
    many would be others by the paper's rule."""
    ours, by_paper = dissected(*scene, rule="tidecv"), dissected(*scene)
    assert ours.ap50 == pytest.approx(theirs["ap50"], abs=1e-12)
    assert ours.counts == by_paper.counts == theirs["counts"]
    compared = differing = 0
    for error in ERRORS:
        pairs = [(ours.gains[error], theirs["gains"][error])]
        if error != "duplicate":
            sizes = ours.gains_by_size[error]
            pairs += [(sizes[size], theirs["gains_by_size"][size][error]) for size in SIZES]
        for mine, gain in pairs:
            assert mine is not None
            assert max(mine, 0) == pytest.approx(gain, abs=1e-12)
            compared += 1
        differing += ours.gains[error] != by_paper.gains[error]
    return compared, differing


def test_the_record_is_of_the_release_that_the_module_names() -> None:
    """The differences that `anatomy` lists were seen in the source of 1.0.1."""
    assert RECORD["tidecv"] == "1.0.1"
    assert len(RANDOM) == 12
    kinds = {
        error for rows in RANDOM.values() for error, n in rows["tidecv"]["counts"].items() if n
    }
    assert kinds == set(ERRORS)


def test_counts_and_gains_equal_what_tidecv_gave() -> None:
    """Oracle: tidecv 1.0.1's recorded output on 12 scenes without crowds and ties."""
    totals = np.sum(
        [compare(tide_record.from_rows(rows), rows["tidecv"]) for rows in RANDOM.values()], axis=0
    )
    assert totals[0] == 12 * (6 + 5 * 3)
    assert totals[1] > 10


def test_tidecv_counts_what_lies_in_a_crowd_as_an_error() -> None:
    """Documented in the module: neither right nor wrong to AP, and still one of its errors."""
    rows = RECORD["scenes"]["a detection in a crowd"]
    assert rows["tidecv"]["counts"]["background"] == 1
    ours = dissected(*tide_record.from_rows(rows))
    assert ours.kinds.tolist() == [NEITHER, RIGHT]
    assert ours.counts["background"] == 0


def test_tidecv_has_ap_0_for_a_class_without_an_object() -> None:
    """Documented in the module: COCO leaves it out of the mean, and so does pycocotools."""
    rows = RECORD["scenes"]["a class without an object"]
    problem = tide_record.from_rows(rows)
    assert rows["tidecv"]["ap50"] == 0.5
    assert dissected(*problem).ap50 == pytest.approx(1)
    assert coco.evaluate(*problem).numbers["AP50"] == pytest.approx(1)


def test_tidecv_still_gives_what_was_recorded() -> None:
    """The record is its output: all scenes again, where it is installed."""
    pytest.importorskip("tidecv", reason="tidecv is not installed here; its record was compared")
    for rows in RECORD["scenes"].values():
        again = tide_record.ask_tidecv(*tide_record.from_rows(rows))
        assert again["counts"] == rows["tidecv"]["counts"]
        assert again["ap50"] == pytest.approx(rows["tidecv"]["ap50"], abs=1e-12)
        assert again["gains"] == pytest.approx(rows["tidecv"]["gains"], abs=1e-12)
        for size, gains in rows["tidecv"]["gains_by_size"].items():
            assert again["gains_by_size"][size] == pytest.approx(gains, abs=1e-12)


def test_counts_and_gains_equal_tidecv(random_scene: Callable[..., Any]) -> None:
    """Oracle: tidecv itself on 60 more scenes, where it is installed."""
    pytest.importorskip("tidecv", reason="tidecv is not installed here; its record was compared")
    totals = np.zeros(2, dtype=int)
    for seed in range(60):
        problem = random_scene(seed)
        totals += compare(problem, tide_record.ask_tidecv(*problem))
    assert totals[0] == 60 * (6 + 5 * 3)
    assert totals[1] > 50
