"""Three starts of one detector: from scratch, from a backbone, from a whole detector."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from resdet.config.recipes.transfer_recipes import FINETUNE
from resdet.report.comparison.pairs import pairs
from resdet.report.document import gather
from resdet.report.render.plain_text import terminal_text
from resdet.report.render.report_json import to_json
from resdet.report.runs import Column, read_columns
from resdet.run import layout
from resdet.run.folder import write_json
from tests.report.test_report_recipes import keys_of
from tests.support.fabricate import fabricate_run

SCRATCH, BACKBONE, DETECTOR = "from scratch", "pretrained", "from a detector"
SKILLS = {SCRATCH: 0.2, BACKBONE: 0.5, DETECTOR: 0.8}


def started(folder: Path, start: str, file: str = "coco/model_final.pth", **options: Any) -> Path:
    """A run that says so; `file` is the whole detector."""
    options = {"num_images": 60, "num_samples": 0, "skill": SKILLS[start], **options}
    if start == DETECTOR:
        of_detector = {"MODEL.WEIGHTS": file}
        options["overrides"] = {**of_detector, **options.get("overrides", {})}
    run = fabricate_run(folder, pretrained=start != SCRATCH, **options)
    if start == DETECTOR:
        write_json(run / layout.TRANSFER, {"file": file, "heads": "heads: new"})
    return run


def runs_of(tmp_path: Path, *starts: str, **options: Any) -> list[Path]:
    return [started(tmp_path / str(n), start, **options) for n, start in enumerate(starts)]


def gaps(columns: Sequence[Column]) -> list[tuple[str, str, str]]:
    """Letters of each pair, and its kind."""
    return [
        ("".join(columns[i].letter for i in p.before), "".join(columns[i].letter for i in p.after),
         p.kind)
        for p in pairs(columns)
    ]  # fmt: skip


def questions(report: Any) -> list[str]:
    return [row[0].text for row in report.sets[0].gain_table.rows]


def test_three_levels_are_one_comparison_that_says_what_differs(tmp_path: Path) -> None:
    """What pretraining gave at each level, and the heads beside the backbone."""
    report = gather(runs_of(tmp_path, SCRATCH, BACKBONE, DETECTOR))
    assert report.verdict.stamp == "ACROSS STARTS" and report.verdict.comparable
    assert [c.label for c in report.columns] == [f"ResNet-18, {s}" for s in SKILLS]
    assert gaps(report.columns) == [
        ("A", "B", "pretraining"), ("A", "C", "pretraining"), ("B", "C", "other"),
    ]  # fmt: skip
    text = terminal_text(report)
    differs = "hat training starts from differs: nothing in A, the backbone in B, a whole detector"
    assert f"ACROSS STARTS: w{differs} in C." in text and f"W{differs}" in report.verdict.sentence
    assert "nly the backbone differs" not in text
    assert "C started from a whole detector, whose training is not known here (heads: new)" in text
    assert "ResNet-18, pretrained reaches" in text and "Both pretrained" not in text
    assert report.standfirst[0].endswith("from scratch, 82.7 from a detector.")
    assert " to ResNet-18 as a backbone and +" in report.headline
    meaning = " ".join(report.meaning)
    assert "where a start is a whole detector" in meaning
    assert "54 s and an unknown time as a detector before" in meaning
    stored = to_json(report)
    assert stored["verdict"] == "ACROSS STARTS"
    assert stored["across_starts"] is True and stored["across_recipes"] is False
    assert [run["start"] for run in stored["runs"].values()] == list(SKILLS)


@pytest.mark.parametrize("less", [SCRATCH, BACKBONE])
def test_a_whole_detector_against_less_is_no_comparison_of_backbones(
    tmp_path: Path, less: str
) -> None:
    """The headline names it; that scratch catches up is known of pretrained backbones alone."""
    report = gather(runs_of(tmp_path, DETECTOR, less))
    assert report.verdict.stamp == "ACROSS STARTS"
    assert [(before, after) for before, after, _ in gaps(report.columns)] == [("B", "A")]
    what = "points to ResNet-18 as a whole detector" if less == SCRATCH else "from a detector is"
    assert what in report.headline
    assert "speed of learning" not in " ".join(report.meaning)


def test_whole_detectors_alone_differ_in_the_backbone(tmp_path: Path) -> None:
    """As the "+++" rows of tables 10 and 11, which all start from COCO's detectors; what those were
    trained on is a caution."""
    nets = ("vgg11", "resnet18")
    report = gather([started(tmp_path / n, DETECTOR, f"{n}/m.pth", net=n) for n in nets])
    assert report.verdict.stamp == "COMPARABLE"
    assert [c.label for c in report.columns] == ["VGG-11", "ResNet-18"]
    assert any("A and B started from a whole detector" in text for text in report.verdict.cautions)


def test_two_detectors_around_one_net_are_two_starts(tmp_path: Path) -> None:
    """Neither one backbone's seeds, nor a difference of backbones."""
    report = gather([started(tmp_path / n, DETECTOR, f"{n}/m.pth") for n in ("coco", "tiny")])
    assert report.verdict.stamp == "ACROSS STARTS"
    assert "the detector coco/m.pth in A, the detector tiny/m.pth in B" in report.verdict.sentence
    assert gaps(report.columns) == [("A", "B", "other")]


def test_detectors_that_differ_in_the_seed_alone_are_one_start(tmp_path: Path) -> None:
    """Known where their run folders are there: the same sets, as many images."""
    sources = [fabricate_run(tmp_path / f"source_{n}", seed=n, num_images=2) for n in (1, 2)]
    starts = [
        started(tmp_path / str(n), DETECTOR, str(source / "model_final.pth"), seed=n)
        for n, source in enumerate(sources, 1)
    ]
    nothing = [started(tmp_path / f"s{n}", SCRATCH, seed=n) for n in (1, 2)]
    report = gather([*nothing, *starts])
    assert gaps(report.columns) == [("AB", "CD", "pretraining")]
    assert report.verdict.sentence.startswith(
        "What training starts from differs: nothing in A and B, a whole detector in C and D."
    )
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in report.nets.rows}
    assert rows["then as a detector, data"] == ["–", "–", "digits_train", "digits_train"]
    (caution,) = [text for text in report.verdict.cautions if "whole detector" in text]
    assert caution.startswith(
        "C and D started from a whole detector, trained on digits_train, which is trained on here, "
        "too ("
    )


def test_a_detector_whose_training_was_not_counted_is_a_start_all_the_same(tmp_path: Path) -> None:
    """An older run folder, or one that was not finished."""
    source = fabricate_run(tmp_path / "source", num_images=2)
    info = json.loads((source / layout.RUN).read_text(encoding="utf-8"))
    write_json(source / layout.RUN, {k: v for k, v in info.items() if k != "samples"})
    runs = [
        started(tmp_path / "b", BACKBONE),
        started(tmp_path / "d", DETECTOR, str(source / "model_final.pth")),
    ]
    (caution,) = [c for c in gather(runs).verdict.cautions if "whole detector" in c]
    assert "which is trained on here, too (heads: new)" in caution


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


def test_recipe_and_start_may_both_be_crossed(tmp_path: Path) -> None:
    """No gap is of one of them, and the sentence has both."""
    recipe = {"overrides": keys_of(FINETUNE)}
    runs = [started(tmp_path / "b", BACKBONE), started(tmp_path / "d", DETECTOR, **recipe)]
    verdict = gather(runs, across_recipes=True).verdict
    assert verdict.stamp == "ACROSS RECIPES AND STARTS"
    assert "a whole detector in B. So does the recipe." in verdict.sentence


def test_two_nets_are_compared_start_by_start(tmp_path: Path) -> None:
    """The detector of one is not set against the backbone of the other, whatever their order."""
    runs = [
        started(tmp_path / f"{net}_{n}", start, net=net)
        for net, starts in (("vgg11", (BACKBONE, DETECTOR)), ("resnet18", (DETECTOR, BACKBONE)))
        for n, start in enumerate(starts)
    ]
    report = gather(runs)
    nets = [pair for pair in gaps(report.columns) if pair[2] == "net"]
    assert nets == [("A", "D", "net"), ("B", "C", "net")]
    assert report.verdict.sentence.startswith("The backbone and what training starts from differ:")
    assert questions(report)[:2] == [
        "VGG-11 → ResNet-18, pretrained", "VGG-11 → ResNet-18, from a detector",
    ]  # fmt: skip


def test_nets_of_unlike_starts_are_not_said_to_have_one(tmp_path: Path) -> None:
    runs = [started(tmp_path / "r", BACKBONE), started(tmp_path / "v", DETECTOR, net="vgg11")]
    report = gather(runs)
    assert gaps(report.columns) == [("A", "B", "other")]
    assert questions(report) == ["ResNet-18, pretrained → VGG-11, from a detector"]
    assert report.headline.endswith("of ResNet-18, pretrained, each from its start")


def test_nobody_is_left_out_of_the_gaps(tmp_path: Path) -> None:
    """A backbone pretrained on other data, and a net that is alone from scratch."""
    other = {"card_changes": {"data": {"name": "b", "hash": "2"}}}
    runs = [
        started(tmp_path / "d", DETECTOR),
        started(tmp_path / "x", BACKBONE),
        started(tmp_path / "y", BACKBONE, **other),
    ]
    assert gaps(read_columns(runs)) == [("B", "C", "other"), ("B", "A", "other")]
    alone = started(tmp_path / "s", SCRATCH, net="vgg11")
    assert gaps(read_columns([*runs[:2], alone])) == [("B", "C", "other"), ("B", "A", "other")]


def test_each_start_has_a_dash_and_each_net_a_hue(tmp_path: Path) -> None:
    runs = [
        started(tmp_path / f"{net}_{n}", start, net=net)
        for net in ("vgg11", "resnet18", "resnet34")
        for n, start in enumerate(SKILLS)
    ]
    looks = [(c.hue, c.dash) for c in read_columns(runs)]
    assert looks == [(hue, dash) for hue in range(3) for dash in (1, 0, 2)]
