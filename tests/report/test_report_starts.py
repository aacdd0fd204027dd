"""Three starts of one detector: from scratch, from a backbone, from a whole detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resdet.report.comparison.backbone_gains import pairs
from resdet.report.document import gather
from resdet.report.render.plain_text import terminal_text
from resdet.report.render.report_json import to_json
from resdet.report.runs import read_columns
from resdet.run import layout
from resdet.run.folder import write_json
from tests.support.fabricate import fabricate_run

SCRATCH, BACKBONE, DETECTOR = "from scratch", "pretrained", "from a detector"
SKILLS = {SCRATCH: 0.2, BACKBONE: 0.5, DETECTOR: 0.8}


def started(folder: Path, start: str, **options: Any) -> Path:
    options = {"num_images": 60, "num_samples": 0, "skill": SKILLS[start], **options}
    run = fabricate_run(folder, pretrained=start != SCRATCH, **options)
    if start == DETECTOR:
        write_json(run / layout.TRANSFER, {"file": "m.pth", "heads": "all arrived"})
    return run


def runs_of(tmp_path: Path, *starts: str, **options: Any) -> list[Path]:
    return [started(tmp_path / str(n), start, **options) for n, start in enumerate(starts)]


def test_three_levels_are_one_comparison_that_says_what_differs(tmp_path: Path) -> None:
    """What pretraining gave at each level, and the heads beside the backbone."""
    report = gather(runs_of(tmp_path, SCRATCH, BACKBONE, DETECTOR))
    assert report.verdict.stamp == "ACROSS STARTS" and report.verdict.comparable
    assert [c.label for c in report.columns] == [f"ResNet-18, {s}" for s in SKILLS]
    found = [(p.before, p.after, p.kind) for p in pairs(report.columns)]
    assert found == [
        ((0,), (1,), "pretraining"),
        ((0,), (2,), "pretraining"),
        ((1,), (2,), "other"),
    ]
    text = terminal_text(report)
    assert "ACROSS STARTS: how much of the detector was pretrained differs" in text
    assert "C starts from a whole detector. What that was trained on" in text
    assert "only the backbone differs" not in text and "Only the backbone differs" not in text
    assert "ResNet-18, pretrained reaches" in text and "Both pretrained" not in text
    assert "from scratch, 82.7 from a detector." in report.standfirst[0]
    assert "where a start is a whole detector" in " ".join(report.meaning)
    stored = to_json(report)
    assert stored["verdict"] == "ACROSS STARTS"
    assert [run["start"] for run in stored["runs"].values()] == list(SKILLS)


@pytest.mark.parametrize("less", [SCRATCH, BACKBONE])
def test_a_whole_detector_against_less_is_no_comparison_of_backbones(
    tmp_path: Path, less: str
) -> None:
    report = gather(runs_of(tmp_path, DETECTOR, less))
    assert report.verdict.stamp == "ACROSS STARTS"
    (pair,) = pairs(report.columns)
    assert (pair.before, pair.after) == ((1,), (0,))


def test_whole_detectors_alone_differ_in_the_backbone(tmp_path: Path) -> None:
    """As the "+++" rows of tables 10 and 11, which all start from COCO's detectors."""
    runs = [started(tmp_path / net, DETECTOR, net=net) for net in ("vgg11", "resnet18")]
    report = gather(runs)
    assert report.verdict.stamp == "COMPARABLE"
    assert [c.label for c in report.columns] == ["VGG-11", "ResNet-18"]
    assert "Both" not in " ".join(report.standfirst)


def test_how_heads_arrive_is_a_part_of_the_start(tmp_path: Path) -> None:
    """By name in all that have some; two ways among the detectors are a difference of their own."""
    by_name, new = ({"overrides": {"TRANSFER.HEADS": way}} for way in ("by_name", "new"))
    backbone = started(tmp_path / "b", BACKBONE, **new)
    detector = started(tmp_path / "d", DETECTOR, **by_name)
    verdict = gather([backbone, detector]).verdict
    assert verdict.stamp == "ACROSS STARTS"
    assert [d.key for d in verdict.of_kind("start")] == ["TRANSFER.HEADS"]
    other = started(tmp_path / "o", DETECTOR, **new)
    verdict = gather([backbone, detector, other]).verdict
    assert verdict.stamp == "NOT COMPARABLE"
    assert [d.key for d in verdict.of_kind("other")] == ["TRANSFER.HEADS"]


def test_what_else_differs_is_refused_as_ever(tmp_path: Path) -> None:
    runs = [
        started(tmp_path / start, start, overrides={"SOLVER.BASE_LR": rate})
        for start, rate in ((BACKBONE, 0.01), (DETECTOR, 0.02))
    ]
    verdict = gather(runs).verdict
    assert verdict.stamp == "NOT COMPARABLE" and "SOLVER.BASE_LR" in verdict.reasons[0]


def test_two_nets_are_compared_start_by_start(tmp_path: Path) -> None:
    """The detector of one is not set against the backbone of the other, whatever their order."""
    runs = [
        started(tmp_path / f"{net}_{n}", start, net=net)
        for net, starts in (("vgg11", (BACKBONE, DETECTOR)), ("resnet18", (DETECTOR, BACKBONE)))
        for n, start in enumerate(starts)
    ]
    columns = read_columns(runs)
    nets = [(p.before, p.after) for p in pairs(columns) if p.kind == "net"]
    assert nets == [((0,), (3,)), ((1,), (2,))]
    text = " ".join(gather(runs).standfirst)
    assert "VGG-11, from a detector reaches 82.7, ResNet-18, from a detector 82.7" in text
