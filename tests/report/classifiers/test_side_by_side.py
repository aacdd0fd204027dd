"""Classifiers on one page: three of them, with names that are no markup, and runs behind scores."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2")

from resdet.evaluation.classification.classifier_result import evaluated
from resdet.evaluation.classification.score_files import ClassScores, save_scores
from resdet.report.classifiers.side_by_side import SideBySide, gather
from resdet.report.classifiers.side_by_side_page import to_html, to_markdown, write_markdown
from resdet.run import layout
from tests.support.classifier_runs import write_run

EVIL = "<script>alert(1)</script>"
CLASSES = ("cat\x1b[2J", EVIL, "*dog* | `x`")
LABELS = np.repeat([0, 1, 2], 40)


def saved(path: Path, wrong: int, file: Path | None = None, width: float = 1.0) -> Path:
    """Scores that are wrong on the first `wrong` images of every class."""
    guesses = LABELS.copy()
    for place in range(3):
        rows = np.flatnonzero(place == LABELS)[:wrong]
        guesses[rows] = (place + 1) % 3
    logs = np.full((len(LABELS), 3), math.log(0.1), np.float32)
    logs[np.arange(len(LABELS)), guesses] = math.log(0.8)
    net = {"name": "cifar_resnet20", "net_options": {"width": width}, "tensors": str(wrong),
           "file": str(file), "input": {"size": 32}}  # fmt: skip
    images = tuple(f"{EVIL}/{i}" for i in range(len(LABELS)))
    scores = ClassScores(logs, LABELS, images, CLASSES, EVIL, "hash", net, {"kind": "centre"})
    save_scores(path, scores)
    return path


@pytest.fixture
def page(tmp_path: Path) -> SideBySide:
    """Two runs that differ in the rate, and a file of another width; 2, 4 and 20 of 40 wrong."""
    runs = [
        write_run(tmp_path / f"run{rate}", "cifar_resnet20", {20: 50.0, 40: 30.0},
                  more={"SOLVER": {"BASE_LR": rate}})
        for rate in (0.1, 0.2)
    ]  # fmt: skip
    files = [run / layout.CLASSIFIER for run in runs] + [tmp_path / "x.pth"]
    paths = [
        saved(tmp_path / f"{i}.npz", wrong, file, width)
        for i, (wrong, file, width) in enumerate(
            zip((2, 4, 20), files, (1.0, 1.0, 2.0), strict=True)
        )
    ]
    counts = {"parameters": {"total": 7}, "multiply_adds": {"total": 9},
              "stages": [{"name": "stem", "multiply_adds": 9}]}  # fmt: skip
    result = evaluated([EVIL, "b", "c"], paths)
    return gather(result, counts=[counts, counts, None], notes=["c is not counted: why."])


def test_pairs_are_corrected_for_their_number(page: SideBySide) -> None:
    """By hand: images wrong by one alone are 6, 54 and 48, all on one side, so p is 2 / 2^n; times
    3, 2, 1 from the smallest on."""
    p = {(t.first, t.second): (t.top1.p_value, t.p_holm[0]) for t in page.result.tests}
    assert p[EVIL, "b"] == (2 / 2**6, 2 / 2**6)
    assert p[EVIL, "c"] == (pytest.approx(2 / 2**54), pytest.approx(6 / 2**54))
    assert p["b", "c"] == (pytest.approx(2 / 2**48), pytest.approx(4 / 2**48))
    assert page.headline == f"{EVIL} has the lowest top-1 error, 5.00 %"
    assert "differs from b, c" in page.standfirst


def test_classes_are_tested_against_the_first(page: SideBySide) -> None:
    """By hand: 2 and 18 of 40 more are wrong in each class: 2 / 2^2 and 2 / 2^18, times 3."""
    assert [row.images for row in page.classes] == [40, 40, 40]
    for row in page.classes:
        values = row.to_json()
        assert values["top1_error"] == [0.05, 0.1, 0.5] and row.range == pytest.approx(0.45)
        b, c = values["against_first"]
        assert b == {"difference": 0.05, "p_value": 0.5, "p_value_holm": 1.0}
        assert c["difference"] == pytest.approx(0.45)
        assert c["p_value_holm"] == pytest.approx(3 * 2 / 2**18)


def test_settings_that_differ_are_found(page: SideBySide) -> None:
    """Of nets where one differs; of trainings where there are two; a file has none of these."""
    rows = {row.name: row.values for row in page.settings}
    assert rows["net_options.width"] == (1.0, 1.0, 2.0)
    assert rows["SOLVER.BASE_LR"] == (0.1, 0.2, None)
    assert "MODEL.NET.NAME" not in rows and "tensors" not in rows
    assert [run.title for run in page.runs] == [EVIL, "b"]
    assert page.degradation is not None
    assert any("c: no run folder" in note for note in page.notes)


def test_the_page_is_whole_and_names_are_escaped(page: SideBySide, tmp_path: Path) -> None:
    """HTML, Markdown and JSON; no address is asked for, no number is NaN."""
    html = to_html(page, [tmp_path / f"{EVIL}.npz"], "0")
    assert "<script" not in html and "&lt;script&gt;" in html and "\x1b" not in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html) and "http" not in html
    for words in ("p, Holm", "Settings that differ", "SOLVER.BASE_LR", "c is not counted: why.",
                  "ensemble of 3", "5.00 ± "):  # fmt: skip
        assert words in html
    assert "Multiply-adds</h2>" not in html  # one has no counts
    write_markdown(page, tmp_path / "md")
    text = (tmp_path / "md" / "report.md").read_text("utf-8")
    assert text == to_markdown(page, {"pairs": "", "classes": "", "curves": ""})
    assert "<script" not in text and "\x1b" not in text and "\\*dog\\* \\| \\`x\\`" in text
    for name in ("pairs", "classes", "curves"):
        assert (tmp_path / "md" / f"{name}.svg").exists() and f"({name}.svg)" in text
    json.dumps(page.to_json(), allow_nan=False)


def test_a_setting_that_json_has_not_is_text(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, "cifar_resnet20", {20: 50.0}, more={"SOLVER": {"BASE_LR": rate}})
        for name, rate in (("a", float("nan")), ("b", float("inf")))
    ]
    paths = [saved(tmp_path / f"{i}.npz", i, run / layout.CLASSIFIER)
             for i, run in enumerate(runs)]  # fmt: skip
    found = gather(evaluated(["a", "b"], paths), counts=[None, None])
    (row,) = [row for row in found.settings if row.name == "SOLVER.BASE_LR"]
    assert row.to_json()["values"] == ["nan", "inf"]


def test_responses_are_matched_by_their_tensors(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{i}.npz", i) for i in (2, 4)]
    layers = [{"name": "l", "after": "norm", "std": 1.0}]
    responses = {"definition": "as defined", "nets": [
        {"title": "theirs", "tensors": "4", "layers": layers},
        {"title": "another", "tensors": "99", "layers": layers},
    ]}  # fmt: skip
    found = gather(evaluated(["a", "b"], paths), counts=[None, None], responses=responses)
    assert [net.title for net in found.responses] == ["b"]
    assert any("No responses of a" in note for note in found.notes)
    assert "as defined" in to_html(found, paths, "0")
