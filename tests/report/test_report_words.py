"""Pairs, sentences, labels, learning curves, and the command."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resdet.cli import compare
from resdet.errors import RunError
from resdet.nets.families import FAMILIES
from resdet.report import runs, scores
from resdet.report.comparison import backbone_gains
from resdet.report.comparison.pairs import Pair, pairs
from resdet.report.render import figures
from resdet.report.scores import Metric
from resdet.run.folder import Run
from tests.support.fabricate import fabricate_run


def test_every_net_of_a_family_has_a_title() -> None:
    """The report does not import torch, so it has its own titles: those of `nets/families.py`."""
    titles = [runs.net_title(name) for family in FAMILIES for name in family.names()]
    assert len(titles) == len(set(titles)) > 25
    assert all(re.fullmatch(r"(CIFAR-)?(ResNet|Plain|VGG)-\d+(-BN)?", t) for t in titles)


# -- story ---------------------------------------------------------------------------------


def column(net: str, pretrained: bool, seed: int = 1) -> Any:
    start = "pretrained" if pretrained else "from scratch"
    return SimpleNamespace(
        net=net, pretrained=pretrained, seed=seed, label=f"{net} {seed}", side=net, start=start,
        from_detector=False, group=runs.Group(net, start, "", ""),
        run=SimpleNamespace(info={}),
    )  # fmt: skip


def test_two_nets_are_one_question_in_the_order_given() -> None:
    """A against B: the gain is that of the second."""
    found = pairs([column("VGG-16", True), column("ResNet-101", True)])
    assert found == [Pair((0,), (1,), "net")]


def test_one_net_is_compared_from_scratch_to_pretrained_in_any_order() -> None:
    """The gain is that of pretraining, whichever is named first."""
    found = pairs([column("VGG-16", True), column("VGG-16", False)])
    assert found == [Pair((1,), (0,), "pretraining")]


def test_the_seeds_of_a_backbone_stand_together() -> None:
    """Two seeds with and without pretraining: one question, not four; two nets likewise."""
    given = [column("V", start, seed) for start in (False, True) for seed in (1, 2)]
    assert pairs(given) == [Pair((0, 1), (2, 3), "pretraining")]
    given = [column(net, True, seed) for seed in (1, 2) for net in ("V", "R")]
    assert pairs(given) == [Pair((0, 2), (1, 3), "net")]


def test_other_runs_are_set_against_the_first() -> None:
    """Neither net nor start differ: three seeds."""
    given = [column("V", True, seed) for seed in (1, 2, 3)]
    assert pairs(given) == [Pair((0,), (1,), "other"), Pair((0,), (2,), "other")]


def test_a_net_is_ahead_behind_or_level() -> None:
    """The paper's table 7, 73.2 against 76.4: 3.2 points, 4.4 % relative."""
    metric = Metric("mean_ap", "VOC 11-point", "AP50 (VOC 2007, 11 points)")
    columns = [column("VGG-16", True), column("ResNet-101", True)]
    verdict: Any = SimpleNamespace(
        comparable=True, across_recipes=False, across_starts=False, several_nets=True
    )

    pair = Pair((0,), (1,), "net")

    def headline_of(before: float, after: float, in_noise: bool = False) -> str:
        made = backbone_gains.gain(pair, "s", metric, [before, after], [{}, {}])
        assert made is not None
        return backbone_gains.headline(columns, [made], verdict, {pair} if in_noise else set())

    assert headline_of(0.732, 0.764) == "ResNet-101 1 is 3.2 points ahead of VGG-16 1"
    assert headline_of(0.764, 0.732) == "VGG-16 1 is 3.2 points ahead of ResNet-101 1"
    assert headline_of(0.7641, 0.7642) == "VGG-16 1 and ResNet-101 1 are level"
    assert headline_of(0.732, 0.764, in_noise=True) == (
        "VGG-16 1 and ResNet-101 1 cannot be told apart: 3.2 points, inside noise"
    )
    assert backbone_gains.relative(0.732, 0.764) == pytest.approx(0.0437, abs=1e-4)
    assert backbone_gains.relative(0.0, 0.5) is None
    assert backbone_gains.gain(pair, "s", metric, [None, 0.5], [{}, {}]) is None


def test_classes_are_sorted_by_gain() -> None:
    """Largest first; a class that one run lacks has none."""
    metric = Metric("mean_ap", "VOC area", "AP50 (VOC 2010, area)")
    made = backbone_gains.gain(
        Pair((0,), (1,), "net"), "s", metric, [0.5, 0.6],
        [{"a": 0.1, "b": 0.2, "c": None}, {"a": 0.2, "b": 0.6, "c": 0.9}],
    )  # fmt: skip
    assert made is not None
    assert [c.name for c in made.classes] == ["b", "a"]


def test_the_gain_of_seeds_is_that_of_their_means() -> None:
    """By hand: 0.50 and 0.54 against 0.60 and 0.62: 0.61 - 0.52, in classes alike."""
    metric = Metric("AP", "COCO bbox", "AP")
    classes = [{"a": v, "b": None if v == 0.54 else v} for v in (0.50, 0.60, 0.54, 0.62)]
    made = backbone_gains.gain(
        Pair((0, 2), (1, 3), "net"), "s", metric, [0.50, 0.60, 0.54, 0.62], classes
    )
    assert made is not None
    assert (made.before, made.after) == (pytest.approx(0.52), pytest.approx(0.61))
    assert made.absolute == pytest.approx(0.09)
    assert [(c.name, round(c.absolute, 12)) for c in made.classes] == [("a", 0.09)]


def test_labels_tell_runs_apart_and_no_further(tmp_path: Path) -> None:
    """Net; its start; its seed; its folder."""

    def labels(*options: dict[str, Any]) -> list[str]:
        base = tmp_path / str(len(list(tmp_path.iterdir())))
        made = [
            fabricate_run(base / f"r{i}", num_images=2, num_samples=0, **o)
            for i, o in enumerate(options)
        ]
        return [c.label for c in runs.read_columns(made)]

    assert labels({}, {"net": "vgg11"}) == ["ResNet-18", "VGG-11"]
    assert labels({}, {"pretrained": False}) == ["ResNet-18, pretrained", "ResNet-18, from scratch"]
    assert labels({"seed": 1}, {"seed": 2})[1] == "ResNet-18, seed 2"
    assert labels({}, {})[0] == "ResNet-18, seed 1, r0"
    wide = {"overrides": {"MODEL.NET.WIDTH": 1.0}}
    assert labels({}, wide) == ["ResNet-18 (width 0.5)", "ResNet-18"]


def test_a_run_that_scored_a_detector_has_the_start_of_that_one(tmp_path: Path) -> None:
    """Its own MODEL.WEIGHTS is the detector that it scored, which may come from random weights."""

    def scored(name: str, file: Path) -> Path:
        folder = fabricate_run(
            tmp_path / name, num_images=2, num_samples=0, overrides={"MODEL.WEIGHTS": str(file)}
        )
        Run.open(folder).note_scored_file(file)
        return folder

    scratch = fabricate_run(tmp_path / "s", num_images=2, num_samples=0, pretrained=False)
    whole = fabricate_run(tmp_path / "w", num_images=2, num_samples=0)
    Run.open(whole).write("transfer.json", {"heads": "the same 10 classes"})
    made = [scored("a", scratch / "model_final.pth"), scored("b", whole / "model_final.pth"),
            scored("c", tmp_path / "gone.pth")]  # fmt: skip
    columns = runs.read_columns([scratch, *made])
    assert [c.start for c in columns] == [
        "from scratch", "from scratch", "from a detector", "pretrained",
    ]  # fmt: skip
    assert [c.from_detector for c in columns] == [False, False, True, False]
    (scratch / "run.json").write_text("{", encoding="utf-8")  # it is not what is compared
    assert runs.read_columns(made)[0].start == "pretrained"


# -- rules and learning curves ----------------------------------------------------------------


def test_an_unknown_rule_lists_the_known_ones() -> None:
    """Style 3.4: no silent fall-through."""
    with pytest.raises(RunError, match=r"VOC 12-point.*known: VOC 11-point, VOC area"):
        scores.rule_title("VOC 12-point")


def test_iterations_that_a_resumed_run_repeats_are_drawn_once(tmp_path: Path) -> None:
    """Killed after 3, gone on from 2: the second line of iteration 2 counts."""
    folder = fabricate_run(tmp_path / "a", num_images=2, num_samples=0)
    other = fabricate_run(tmp_path / "b", num_images=2, num_samples=0, net="vgg11")
    rows = [{"iteration": i, "total_loss": float(v)} for i, v in ((0, 9), (1, 8), (2, 7), (1, 5))]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    column = runs.read_columns([folder, other])[0]
    found = figures._by_iteration(column, lambda row: row.get("total_loss"))
    assert found == {1: 9.0, 2: 5.0, 3: 7.0}


def test_learning_curves_skip_what_is_no_number(tmp_path: Path) -> None:
    """Lines without a loss, a NaN; AP50 measured during training has its own plot."""
    folder = fabricate_run(tmp_path / "a", num_images=2, num_samples=0)
    rows: list[dict[str, Any]] = [{"iteration": i, "total_loss": 2.0 - i / 10} for i in range(9)]
    rows += [{"iteration": 9, "lr": 0.1}, {"iteration": 10, "total_loss": float("nan")}]
    rows += [{"iteration": i, "digits_val/AP50": 20.0 + i} for i in (11, 19)]
    text = "\n".join(json.dumps(row) for row in rows)
    (folder / "metrics.json").write_text(f"{text}\n" + '{"iteration": 20, "to', encoding="utf-8")
    other = fabricate_run(tmp_path / "b", num_images=2, num_samples=0, net="vgg11")
    (other / "metrics.json").unlink()
    columns = runs.read_columns([folder, other])
    losses, points = figures.learning_curves(columns), figures.validation_curves(columns)
    assert losses is not None
    assert losses.svg.count('class="line') == 2  # the curve and its legend
    assert "NaN" not in losses.svg
    assert points is not None
    assert points.svg.count("<circle") == 2
    assert figures.learning_curves(columns[1:]) is None
    assert figures.validation_curves(columns[1:]) is None


# -- the command ---------------------------------------------------------------------------


def run_command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    return compare.run(parser.parse_args(list(words)))


def test_the_command_prints_table_verdict_and_path(
    demo_runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 when only the backbone differs."""
    code = run_command(str(demo_runs[0]), str(demo_runs[2]), "--output", str(tmp_path / "out"))
    output = capsys.readouterr().out
    assert code == 0
    assert "COMPARABLE: only the backbone differs" in output
    assert "MODEL.NET.NAME" in output
    assert output.rstrip().endswith(f"Report: {tmp_path / 'out' / 'report.html'}")


def test_the_command_fails_loudly_when_more_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1: a check failed; the report is there all the same."""
    a = fabricate_run(tmp_path / "a", num_images=8)
    b = fabricate_run(tmp_path / "b", num_images=8, overrides={"SOLVER.MAX_ITER": 900})
    assert run_command(str(a), str(b), "--output", str(tmp_path / "out")) == 1
    output = capsys.readouterr().out
    assert "=====\nNOT COMPARABLE: more than the backbone differs" in output
    assert "SOLVER.MAX_ITER is 800 in A, 900 in B" in output
    assert (tmp_path / "out" / "report.html").exists()


def test_json_on_standard_output_is_one_object(
    demo_runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/commands.md: with --json, nothing else."""
    runs_given = [str(run) for run in demo_runs[:2]]
    assert run_command(*runs_given, "--output", str(tmp_path), "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert output["verdict"] == "COMPARABLE"
    assert output["files"]["html"] == str(tmp_path / "report.html")


def test_reports_of_other_runs_go_to_other_folders() -> None:
    """The default output names the runs."""
    assert compare.default_output(["runs/a", "runs/b/"]) == Path("reports/a-b")


def test_columns_of_unfinished_runs_count_what_their_log_shows(tmp_path: Path) -> None:
    """run.json states what was planned; the last line of the log is iteration 779."""
    folder = fabricate_run(tmp_path / "a", num_images=2, num_samples=0)
    other = fabricate_run(tmp_path / "b", num_images=2, num_samples=0, net="vgg11")
    assert runs.read_columns([folder, other])[0].samples_seen == 3200
    Run.open(folder).update(state="interrupted")
    assert runs.read_columns([folder, other])[0].samples_seen == (799 + 1) * 4
