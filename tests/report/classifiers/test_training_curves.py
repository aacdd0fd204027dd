"""Curves of runs in any state, and what depth does to them, against values worked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resdet.errors import RunError
from resdet.report.classifiers.degradation import degradation_of
from resdet.report.classifiers.training_curves import ErrorCurve, read_curves
from resdet.run import layout
from tests.support.classifier_runs import write_run

TRAIN = {20: 80.0, 40: 60.0, 60: 40.0, 80: 30.0, 100: 20.0}
TEST = {50: 50.0}


def test_a_finished_run_ends_with_its_own_score(tmp_path: Path) -> None:
    """classification.json is of the whole net with its final statistics, after the last step."""
    folder = write_run(tmp_path / "a", "cifar_plain20", TRAIN, TEST, final=25.0, steps=(50, 75))
    (run,) = read_curves([folder])
    assert run.train == ErrorCurve((20, 40, 60, 80, 100), (80.0, 60.0, 40.0, 30.0, 20.0))
    assert run.test == ErrorCurve((50, 100), (50.0, 25.0)) and run.is_final
    assert (run.title, run.family, run.depth, run.is_plain) == (
        "CIFAR-Plain-20", "cifar_plain", 20, True)  # fmt: skip
    assert [(d.step, d.why) for d in run.drops] == [(50, "schedule"), (75, "schedule")]
    values = json.loads(json.dumps(run.to_json(), allow_nan=False))
    assert values["train"]["top1_error"] == [0.8, 0.6, 0.4, 0.3, 0.2]
    assert values["test"] == {"data_set": "mine_test", "steps": [50, 100],
                              "top1_error": [0.5, 0.25], "last_is_final": True}  # fmt: skip


def test_a_run_that_a_rule_ended_has_its_score_where_it_ended(tmp_path: Path) -> None:
    """TEST.EARLY_STOP after 60 of 100 steps: the last point is not at 100."""
    train = {step: error for step, error in TRAIN.items() if step <= 60}
    folder = write_run(tmp_path / "a", "cifar_plain20", train, TEST, final=25.0, steps=(50, 75))
    info = json.loads((folder / layout.RUN).read_text())
    ended = {"steps": 60, "ended_by": "TEST.EARLY_STOP"}
    (folder / layout.RUN).write_text(json.dumps({**info, **ended}))
    (run,) = read_curves([folder])
    assert run.test == ErrorCurve((50, 60), (50.0, 25.0)) and run.is_final
    assert (run.steps, run.max_steps) == (60, 100) and [d.step for d in run.drops] == [50]
    assert degradation_of([run]).step == 60


@pytest.mark.parametrize("state", ["training", "interrupted", "stopped"])
def test_a_run_that_is_not_finished_has_what_is_written(tmp_path: Path, state: str) -> None:
    """The last line may be half; drops to come are not shown."""
    folder = write_run(tmp_path / "a", "cifar_resnet20", {20: 70.0, 40: 60.0}, {30: 65.0},
                       state=state, steps=(35, 75))  # fmt: skip
    with open(folder / layout.METRICS, "a", encoding="utf-8") as file:
        file.write('{"iteration": 59, "train_top1_er')
    (run,) = read_curves([folder])
    assert (run.steps, run.max_steps, run.state) == (40, 100, state)
    assert not run.is_final and [d.step for d in run.drops] == [35]


def test_what_the_error_decided_is_marked(tmp_path: Path) -> None:
    """As run.json keeps them: the end of a warm-up, and drops at a plateau."""
    decisions = [
        {"step": 20, "why": "warm-up", "error": 79.5, "factor": 1.0},
        {"step": 60, "why": "plateau", "error": 40.0, "lowest": 39.9, "factor": 0.1},
        {"step": "no", "why": "plateau"},
    ]
    folder = write_run(tmp_path / "a", "cifar_resnet110", TRAIN, decisions=decisions)
    (run,) = read_curves([folder])
    assert [d.to_json() for d in run.drops] == [
        {"step": 20, "why": "warm-up", "error": 0.795, "lowest": None},
        {"step": 60, "why": "plateau", "error": 0.4, "lowest": pytest.approx(0.399)},
    ]


def test_a_cosine_has_no_drops(tmp_path: Path) -> None:
    more = {"SOLVER": {"LR_SCHEDULER_NAME": "WarmupCosineLR", "STEPS": [50], "MAX_ITER": 100}}
    (run,) = read_curves([write_run(tmp_path / "a", "resnet18", TRAIN, more=more)])
    assert run.drops == ()


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """A diverged run has NaN in its lines; the last of several values of a step counts."""
    folder = write_run(tmp_path / "a", "resnet18", {20: 70.0, 40: float("nan")})
    with open(folder / layout.METRICS, "a", encoding="utf-8") as file:
        file.write('{"iteration": 19, "train_top1_error": 71.0}\n')
    (run,) = read_curves([folder])
    assert run.train == ErrorCurve((20,), (71.0,))


def test_a_long_curve_is_drawn_as_means(tmp_path: Path) -> None:
    """By hand: five values in at most two points are means of three and of two."""
    curve = ErrorCurve((1, 2, 3, 4, 5), (1.0, 2.0, 6.0, 4.0, 8.0))
    assert curve.thinned(2) == (ErrorCurve((3, 5), (3.0, 6.0)), 3)
    assert curve.thinned(5) == (curve, 1)


def test_the_final_training_error_is_a_mean_of_the_end(tmp_path: Path) -> None:
    """By hand: of 100 steps the last 5 % are those after 95; without a value there the last one."""
    curve = ErrorCurve((90, 96, 98, 100), (9.0, 4.0, 3.0, 2.0))
    assert curve.mean_before(100) == 3.0
    assert curve.mean_before(94) == 9.0
    assert curve.mean_before(50) is None and curve.upto(97) == 4.0 and curve.upto(80) is None


def test_what_is_no_training_is_refused(tmp_path: Path) -> None:
    """Each with what it is; nothing is guessed."""
    good = write_run(tmp_path / "good", "resnet18", TRAIN, TEST)
    empty = write_run(tmp_path / "empty", "resnet18", {})
    with pytest.raises(RunError, match="has no error in metrics.json yet"):
        read_curves([good, empty])
    with pytest.raises(RunError, match="is given twice"):
        read_curves([good, good])
    with pytest.raises(RunError, match="is not a run folder"):
        read_curves([tmp_path])
    with pytest.raises(RunError, match="has no test error on other. It has mine_test"):
        read_curves([good], "other")
    info = json.loads((good / layout.RUN).read_text())
    (good / layout.RUN).write_text(json.dumps({**info, "kind": "detection"}))
    with pytest.raises(RunError, match="is a detection run"):
        read_curves([good])
    (good / layout.RUN).write_text(json.dumps({**info, "scored_file": "x.pth"}))
    with pytest.raises(RunError, match="nothing was trained there"):
        read_curves([good])


def test_titles_tell_runs_apart(tmp_path: Path) -> None:
    """By net, then seed, then folder."""
    given = (("a", "resnet18", 1), ("b", "resnet18", 2), ("c", "resnet18", 2), ("d", "plain18", 1))
    runs = [write_run(tmp_path / name, net, TRAIN, seed=seed) for name, net, seed in given]
    assert [run.title for run in read_curves(runs)] == [
        "ResNet-18, seed 1", "ResNet-18, seed 2, b", "ResNet-18, seed 2, c", "Plain-18",
    ]  # fmt: skip


def runs_of_figure_6(place: Path) -> list[Path]:
    """Two seeds of plain-20, one of each other net; at the end of training and of testing."""
    ends = [("plain20", 1, 10.0, 12.0), ("plain20", 2, 12.0, 14.0), ("plain56", 1, 15.0, 17.0),
            ("resnet20", 1, 9.0, 11.0), ("resnet56", 1, 7.0, 10.0)]  # fmt: skip
    return [
        write_run(place / f"{net}-{seed}", f"cifar_{net}", {50: 50.0, 100: train}, final=test,
                  seed=seed)
        for net, seed, train, test in ends
    ]  # fmt: skip


def test_degradation_is_stated_in_numbers(tmp_path: Path) -> None:
    """By hand: plain 11 ± 1.41 to 15 is 4 points worse; residual 9 to 7 is 2 better; at 56 layers
    the residual net is 8 points below the plain one."""
    found = degradation_of(read_curves(runs_of_figure_6(tmp_path)))
    rows = {row.net: row.cells()[1:] for row in found.rows}
    assert rows == {
        "CIFAR-Plain-20": ("2", "11.00 ± 1.41", "13.00 ± 1.41"),
        "CIFAR-Plain-56": ("1", "15.00", "17.00"),
        "CIFAR-ResNet-20": ("1", "9.00", "11.00"),
        "CIFAR-ResNet-56": ("1", "7.00", "10.00"),
    }
    steps = [(s.first.net, s.second.net, s.train, s.test, s.is_degradation) for s in found.by_depth]
    assert steps == [
        ("CIFAR-Plain-20", "CIFAR-Plain-56", 4.0, 4.0, True),
        ("CIFAR-ResNet-20", "CIFAR-ResNet-56", -2.0, -1.0, False),
    ]
    pairs = [(s.first.net, s.second.net, s.train) for s in found.by_family]
    assert pairs == [("CIFAR-Plain-20", "CIFAR-ResNet-20", -2.0),
                     ("CIFAR-Plain-56", "CIFAR-ResNet-56", -8.0)]  # fmt: skip
    assert "training error +4.00 points" in found.by_depth[0].sentence()
    assert "deeper and worse in training: degradation" in found.by_depth[0].sentence()
    assert found.cautions == (
        "A net with one run has no known spread: a small difference may be chance.",)  # fmt: skip
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["by_depth"][0]["train_difference"] == pytest.approx(0.04)
    assert values["nets"][1]["train_top1_error"]["standard_deviation"] is None


def test_runs_of_other_lengths_are_compared_where_both_are(tmp_path: Path) -> None:
    """At 40 steps, not at the longer one's end; what else differs is named."""
    long = write_run(tmp_path / "a", "cifar_plain20", TRAIN, {30: 66.0, 60: 44.0}, final=20.0)
    short = write_run(tmp_path / "b", "cifar_plain56", {20: 85.0, 40: 70.0}, {30: 75.0},
                      state="training", more={"SOLVER": {"BASE_LR": 0.5}})  # fmt: skip
    found = degradation_of(read_curves([long, short]))
    assert found.step == 40
    assert [(r.train.mean, r.test.mean) for r in found.rows if r.train and r.test] == [
        (60.0, 66.0), (70.0, 75.0)]  # fmt: skip
    text = " ".join(found.cautions)
    for words in ("40 to 100 steps", "Not finished: CIFAR-Plain-56", "SOLVER.BASE_LR"):
        assert words in text
