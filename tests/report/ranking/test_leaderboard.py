"""A ranking from run folders: its order, groups, intervals and the agreement of rankings."""

import dataclasses
import itertools
import json
import shutil
import statistics
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from resdet.errors import ConfigError, RunError
from resdet.evaluation.analysis.image_noise import (
    coco_intervals,
    images_to_settle,
    rounded_up,
)
from resdet.report.ranking.leaderboard import read_leaderboard
from resdet.report.ranking.leaderboard_page import cells, notes, table, write_page
from resdet.report.ranking.pareto_chart import front_of
from resdet.report.runs import read_columns
from resdet.report.scores import Metric, read_scores
from tests.support.fabricate import fabricate_run

AP = Metric("AP", "COCO bbox", "AP (COCO, IoU .50 to .95)")
# Two that are near each other, and one far behind.
SKILLS = {"near": 0.79, "best": 0.8, "far": 0.3}
FACTS = {
    "best": {"logme": 0.3, "total_logme": 0.2, "ms": 20.0, "parameters": 2e6, "license": "mit"},
    "near": {"logme": 0.2, "total_logme": 0.1, "ms": 30.0, "parameters": 3e6, "license": ""},
    "far": {"logme": 0.1, "total_logme": 0.3, "ms": 10.0, "parameters": 1e6, "license": ""},
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    root = tmp_path_factory.mktemp("rows")
    found = []
    for label, skill in SKILLS.items():
        runs = [
            fabricate_run(
                root / label / f"seed_{seed}",
                skill=skill,
                seed=seed,
                num_images=60,
                overrides={"MODEL.WEIGHTS": f"{label}.safetensors"},
                card_changes={"data": {"name": label, "hash": label}},
            )
            for seed in (1, 2)
        ]
        found.append((label, runs, FACTS[label]))
    return found


@pytest.fixture(scope="module")
def board(rows):
    return read_leaderboard(rows, data="digits_test")


def test_rows_stand_by_the_mean_ap_of_their_seeds(board, rows):
    assert [row.label for row in board.rows][2] == "far"
    for row in board.rows:
        values = [
            read_scores(c, "digits_test", "coco").value(AP)
            for c in read_columns({r[0]: r[1] for r in rows}[row.label])
        ]
        assert row.values == tuple(values) and row.ap == statistics.mean(values)
    assert board.rows[0].ap >= board.rows[1].ap > board.rows[2].ap


def test_an_interval_has_both_noises_and_that_of_the_images_is_compare_s(board):
    """Half widths as squares: images, and t times one deviation times sqrt(1/2 + 1/2)."""
    first, *others = board.rows
    for row in others:
        sides = [
            [read_scores(c, "digits_test", "coco").ranked for c in read_columns(r.runs)]
            for r in (first, row)
        ]
        expected = coco_intervals(*sides)["AP"]
        assert row.behind.images == expected
        # Three rows of two seeds: 3 degrees of freedom, whose 97.5 % quantile is 3.182446.
        seeds = 3.182446 * board.seed_deviation
        half = ((expected.high - expected.low) ** 2 / 4 + seeds**2) ** 0.5
        assert row.behind.high - row.behind.difference == pytest.approx(half, rel=1e-5)
    pooled = statistics.mean(statistics.variance(row.values) for row in board.rows)
    assert board.seed_deviation == pytest.approx(pooled**0.5)


def test_near_ones_are_one_group_and_the_far_one_is_its_own(board):
    assert [row.group for row in board.rows] == [1, 1, 2]
    assert board.groups == [[0, 1], [2]]
    (sentence,) = board.group_sentences()
    assert sentence.startswith("1 to 2 cannot be told apart") and "more test images" in sentence
    assert [row[0] for row in cells(board)] == ["1–2", "1–2", "3"]


def test_a_noisy_row_behind_one_that_is_told_may_be_the_first_and_is_a_finalist(board):
    """The middle row is behind the first beyond the noise, the last, with more noise, is not."""
    first, middle, last = board.rows
    told = dataclasses.replace(middle.behind, difference=-0.03, low=-0.059, high=-0.001)
    noisy = dataclasses.replace(last.behind, difference=-0.032, low=-0.065, high=0.001)
    made = dataclasses.replace(
        board,
        rows=(
            first,
            dataclasses.replace(middle, behind=told, group=2),
            dataclasses.replace(last, behind=noisy, group=2),
        ),
    )
    assert made.may_be_first == [2] and board.may_be_first == []
    (line,) = (text for text in made.group_sentences() if "its own noise" in text)
    assert line.startswith(f"{last.label} is ranked behind") and "(−6.5 to +0.1)" in line
    finalists = pytest.importorskip("resdet.cli.rank.finalists")
    assert finalists.finalists_of(made, 0) == [first.label, last.label]
    assert finalists.finalists_of(made, 2) == [first.label, middle.label]


def test_too_few_images_for_an_order_are_told(board):
    """Nothing stands there of intervals that the table does not have."""
    unknown = [
        dataclasses.replace(
            row, behind=row.behind and dataclasses.replace(row.behind, low=None, high=None)
        )
        for row in board.rows
    ]
    told = notes(dataclasses.replace(board, rows=tuple(unknown), images=3))
    assert any(line.startswith("3 test images, fewer than an interval needs (50)") for line in told)
    assert not any(line.startswith("Intervals hold") for line in told)


def test_the_verdict_is_that_of_compare(board, rows, tmp_path):
    assert board.verdict.stamp == "COMPARABLE"
    odd = fabricate_run(tmp_path / "odd", num_images=60, overrides={"SOLVER.MAX_ITER": 900})
    other = read_leaderboard([*rows, ("odd", [odd], {})], data="digits_test")
    assert any("SOLVER.MAX_ITER" in reason for reason in other.verdict.reasons)
    assert any(line.startswith("NOT COMPARABLE: ") for line in notes(other))


def test_rows_are_backbones_also_where_their_cards_are_equal(rows, tmp_path):
    """As nets of one pretraining kept at two steps are: not four seeds of one backbone."""
    root = tmp_path / "kept"
    card = {"data": {"name": "best", "hash": "best"}}
    runs = [
        fabricate_run(root / f"s{seed}", skill=0.5, seed=seed, num_images=60, card_changes=card)
        for seed in (1, 2, 3)
    ]
    kept = read_leaderboard([*rows, ("kept", runs[:2], {})], data="digits_test")
    assert kept.verdict.stamp == "COMPARABLE", kept.verdict.reasons
    more = read_leaderboard([*rows, ("kept", runs, {})], data="digits_test")
    (reason,) = more.verdict.reasons
    assert reason == (
        "runs per backbone differ: 2 (A and B), 2 (C and D), 2 (E and F), 3 (G, H and I); leave "
        "some out, or train as many of each"
    )


def test_that_the_order_is_of_frozen_backbones_is_said_until_full_trainings_stand_beside(rows):
    line = "what a full training learns is in no interval"
    assert any(line in note for note in notes(read_leaderboard(rows, data="digits_test")))
    full = [f"best={rows[1][1][0]}"]
    board = read_leaderboard(rows, data="digits_test", full=full)
    assert not any(line in note for note in notes(board))


def test_rankings_are_correlated_with_the_quick_one_and_with_full_trainings(rows):
    """LogME has the quick order: tau 1; with boxes one pair agrees and two do not: -1/3."""
    full = [f"{label}={runs[0]}" for label, runs, _ in rows]
    found = read_leaderboard(rows, data="digits_test", full=full)
    taus = {name: c.tau for name, c in found.correlations.items()}
    order = [row.label for row in found.rows]
    expected = 1.0 if order == ["best", "near", "far"] else 1 / 3
    assert taus["LogME and the quick detector's AP"] == pytest.approx(expected)
    assert len(taus) == 5 and "AP of the quick detector and full training" in taus
    assert all(row.full for row in found.rows)


def test_a_full_training_of_nobody_is_refused(rows):
    for word in ("far", "nobody=x"):
        with pytest.raises(ConfigError, match="expected LABEL=RUN"):
            read_leaderboard(rows, data="digits_test", full=[word])


def test_a_full_training_of_another_net_is_refused_and_other_weights_are_told(
    rows, tmp_path, caplog
):
    """Its number would stand beside the row, and enter Kendall's tau."""
    of_net = [(n, runs, {**f, "net": "resnet18", "sha256": "0" * 64}) for n, runs, f in rows]
    vgg = fabricate_run(tmp_path / "vgg", net="vgg11", num_images=60, num_samples=0)
    with pytest.raises(RunError, match="its backbone is a VGG-11, and the row's a ResNet-18"):
        read_leaderboard(of_net, data="d", full=[f"near={vgg}"])
    card = {"tensors_sha256": "f" * 64}
    other = fabricate_run(tmp_path / "o", num_images=60, num_samples=0, card_changes=card)
    board = read_leaderboard(of_net, data="d", full=[f"near={other}"])
    assert [row.label for row in board.rows if row.full] == ["near"]
    assert (
        "started from other weights (hash ffffffffffff) than the row (000000000000)" in caplog.text
    )


def test_a_remembered_training_that_cannot_be_read_any_more_is_left_out(rows, tmp_path, caplog):
    """Nobody is stuck with a word of an earlier call; a word of this one is refused."""
    gone = f"near={tmp_path / 'gone'}"
    board = read_leaderboard(rows, data="d", full=[gone], remembered=[gone])
    assert not any(row.full for row in board.rows) and "left out" in caplog.text
    with pytest.raises(ConfigError, match="is no run folder"):
        read_leaderboard(rows, data="d", full=[gone])


def test_full_trainings_that_are_scored_otherwise_are_shown_by_their_own_number(rows, tmp_path):
    """Cut sets are COCO's, and a whole set of VOC, as of the finalists, has VOC's rules alone."""
    runs = {
        label: fabricate_run(tmp_path / label, skill=skill, num_images=60, evaluators=("voc",))
        for label, skill in SKILLS.items()
    }
    full = [f"{label}={run}" for label, run in runs.items()]
    board = read_leaderboard(rows, data="digits_test", full=full)
    assert board.full_metric.rule == "VOC area" and board.metric == AP
    (column,) = read_columns([runs["far"]], fewest=1)
    expected = read_scores(column, "digits_test").value(board.full_metric)
    assert {row.label: row.full for row in board.rows}["far"] == (expected,)
    assert any(line.startswith("Full training: AP50 (VOC 2010, area)") for line in notes(board))
    coco = fabricate_run(tmp_path / "coco", num_images=60, evaluators=("coco",))
    with pytest.raises(RunError, match="no AP50 .VOC 2010, area., by which near="):
        read_leaderboard(rows, data="digits_test", full=[*full, f"far={coco}"])


def test_a_full_training_of_other_classes_or_without_results_is_refused(rows, tmp_path):
    other = fabricate_run(tmp_path / "other", classes=("a", "b"), num_images=60)
    with pytest.raises(RunError, match="other classes than digits_test; not in both: 0, 1, 2"):
        read_leaderboard(rows, data="digits_test", full=[f"far={other}"])
    with pytest.raises(RunError, match="has results of 0 sets"):
        read_leaderboard(rows, data="digits_test", full=[f"far={without_results(tmp_path)}"])


def without_results(tmp_path):
    path = fabricate_run(tmp_path / "none", num_images=60)
    shutil.rmtree(path / "results")
    return path


def test_of_several_sets_of_a_full_training_the_ranking_s_is_taken(rows, tmp_path):
    full = fabricate_run(tmp_path / "full", num_images=60, skill=0.6)
    more = fabricate_run(tmp_path / "more", num_images=60, skill=0.1, data_set="another_test")
    shutil.copytree(more / "results" / "another_test", full / "results" / "another_test")
    found = read_leaderboard(rows, data="digits_test", full=[f"far={full}"])
    (column,) = read_columns([full], fewest=1)
    expected = read_scores(column, "digits_test", "coco").value(AP)
    assert {row.label: row.full for row in found.rows}["far"] == (expected,)


def test_a_label_with_an_equals_sign_is_found(rows):
    named = [("lr=1", runs, facts) for _, runs, facts in rows[:1]] + list(rows[1:])
    found = read_leaderboard(named, data="digits_test", full=[f"lr=1={rows[0][1][0]}"])
    assert [len(row.full) for row in found.rows if row.label == "lr=1"] == [1]


def test_weights_that_changed_on_the_way_are_told_from_seeds(rows, tmp_path):
    """The card of each run states what it began with; cost.json what was measured."""
    root = tmp_path / "row"
    runs = [
        fabricate_run(
            root / f"seed_{seed}", seed=seed, num_images=60,
            card_changes={"data": {"name": "x", "hash": "x"}, "tensors_sha256": sha},
        )
        for seed, sha in ((1, "aaaa"), (2, "bbbb"))
    ]  # fmt: skip
    found = read_leaderboard([*rows, ("row", runs, {"sha256": "aaaa"})], data="digits_test")
    assert found.verdict.stamp == "NOT COMPARABLE"
    (reason,) = found.verdict.reasons
    assert reason.startswith(
        "the weights of row changed on the way (hash aaaa of its measures, aaaa of seed_1, bbbb of "
        f"seed_2); remove {root}"
    )
    same = read_leaderboard([*rows, ("row", runs[:1], {"sha256": "aaaa"})], data="digits_test")
    assert not any("changed on the way" in reason for reason in same.verdict.reasons)


def test_a_row_of_other_test_images_has_no_interval_and_no_comparison(rows, tmp_path):
    """As one that is added after the data set has changed: draws would pair unlike images."""
    odd = [
        fabricate_run(tmp_path / f"seed_{seed}", seed=seed, num_images=70, skill=0.5)
        for seed in (1, 2)
    ]
    found = read_leaderboard([*rows, ("odd", odd, {})], data="digits_test")
    by_label = {row.label: row for row in found.rows}
    assert by_label["odd"].behind.low is None and by_label["near"].behind is not by_label["odd"]
    assert found.verdict.stamp == "NOT COMPARABLE"
    assert any("the evaluated images differ" in reason for reason in found.verdict.reasons)


def test_more_rows_than_a_report_has_letters_are_ranked(tmp_path):
    """14 backbones of two seeds are 28 runs; the charts of a report hold 26, a ranking has none."""
    first = fabricate_run(tmp_path / "0", num_images=4)
    runs = [first, *(Path(shutil.copytree(first, tmp_path / str(n))) for n in range(1, 28))]
    board = read_leaderboard([(run.name, [run], {}) for run in runs], data="digits_test")
    assert len(board.rows) == 28 and board.verdict.stamp == "COMPARABLE"
    letters = [column.letter for column in read_columns(runs, most=None)]
    assert letters[:2] == ["A", "B"] and letters[25:] == ["Z", "AA", "AB"]
    with pytest.raises(RunError, match="28 run folders given; a report holds 26 at most"):
        read_columns(runs)


def test_images_that_would_show_a_gap_leave_room_for_the_noise_of_seeds(board):
    """Of a difference of 5 the seeds take 4, so that 3 is left for the images: (5 / 3)^2 as many
    as without seeds. Where the seeds take all of it, no number of images would do."""
    first, second, last = board.rows
    interval = replace(second.behind.images, difference=-0.05, deviation=0.04, images=100)

    def sentence(seeds):
        behind = replace(second.behind, difference=-0.05, images=interval, seeds=seeds)
        rows = (first, replace(second, behind=behind), last)
        return replace(board, rows=rows).group_sentences()[0]

    alone, beside = images_to_settle(interval) - 100, images_to_settle(interval) * 25 / 9 - 100
    assert f"about {rounded_up(alone)} more test images" in sentence(0.0)
    assert f"about {rounded_up(round(beside))} more test images" in sentence(0.04)
    assert "more test images would not show it" in sentence(0.05)


def test_the_front_has_whom_none_beats_in_both(board):
    labels = [row.label for row in front_of(board.rows, "ms")]
    assert labels[0] == "far"
    assert "best" in labels or "near" in labels
    by_cost = front_of(board.rows, "ms")
    assert all(a.ap < b.ap for a, b in itertools.pairwise(by_cost))


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.values, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th") and "data-value" in dict(attrs):
            self.values.append(dict(attrs)["data-value"])


def test_the_page_has_every_row_sortable_and_loads_nothing(board, tmp_path):
    write_page(board, tmp_path / "p.html", tmp_path / "p.json")
    text = (tmp_path / "p.html").read_text()
    parsed = _Cells()
    parsed.feed(text)
    width = len(cells(board)[0])
    assert len(parsed.values) == 3 * width
    assert parsed.values[1::width] == [row.label for row in board.rows]
    assert [float(v) for v in parsed.values[2::width]] == [row.ap for row in board.rows]
    assert parsed.tags.count("svg") == 3
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    data = json.loads((tmp_path / "p.json").read_text())
    assert [row["backbone"] for row in data["rows"]] == [row.label for row in board.rows]
    assert data["rows"][0]["behind_first"] is None and data["verdict"] == "COMPARABLE"


@pytest.mark.parametrize(
    ("groups", "clause"),
    [
        ((1, 2, 3), ""),
        ((1, 1, 2), "; {second} cannot be told from it"),
        ((1, 1, 1), "; 2 others cannot be told from it"),
    ],
)
def test_the_headline_tells_who_cannot_be_told_from_the_first(board, tmp_path, groups, clause):
    rows = [dataclasses.replace(r, group=g) for r, g in zip(board.rows, groups, strict=True)]
    write_page(dataclasses.replace(board, rows=rows), tmp_path / "p.html", tmp_path / "p.json")
    first, second, _ = (row.label for row in rows)
    headline = f"{first} is first of 3 backbones on digits_test{clause.format(second=second)}"
    assert f"<h1>{headline}</h1>" in (tmp_path / "p.html").read_text()


def test_names_of_users_are_escaped(rows, tmp_path):
    odd = [("<b>&", runs, facts) for _, runs, facts in rows[:1]] + list(rows[1:])
    board = read_leaderboard(odd, data="<i>set")
    write_page(board, tmp_path / "p.html", tmp_path / "p.json")
    text = (tmp_path / "p.html").read_text()
    assert "<b>&" not in text and "<i>set" not in text


def test_the_terminal_leaves_out_columns_that_nobody_has(board):
    text = table(board)
    head = text.splitlines()[1]
    assert "multiply-adds" not in head and "licence" in head and "full training" not in head
    assert "COMPARABLE" in text and "Kendall's tau" in text


def test_one_seed_each_is_told(rows):
    board = read_leaderboard([(n, runs[:1], f) for n, runs, f in rows], data="digits_test")
    assert board.seed_deviation is None and not board.rows[1].behind.has_seeds
    assert any("One seed each" in line for line in notes(board))


def test_times_of_a_busy_machine_are_told(rows, board):
    busy = [(label, runs, {**f, "waited": 0.4}) for label, runs, f in rows[:1]] + list(rows[1:])
    told = [line for line in notes(read_leaderboard(busy, data="d")) if "Column ms" in line]
    assert told == [
        "Column ms: the machine had other work, a quota or a slow disk while it was measured (no "
        "core for a part of the time: near 40 %). Remove rows/LABEL/cost.json of such a "
        "row, and rank measures it again."
    ]
    assert not any("Column ms" in line for line in notes(board))


def test_a_set_that_is_scored_by_voc_s_rules_alone_is_ranked_by_its_area_rule(tmp_path):
    runs = [
        fabricate_run(tmp_path / f"{skill}", skill=skill, num_images=60, evaluators=("voc",))
        for skill in (0.3, 0.8)
    ]
    board = read_leaderboard([("low", runs[:1], {}), ("high", runs[1:], {})], data="x")
    assert [row.label for row in board.rows] == ["high", "low"]
    assert board.metric.rule == "VOC area"
    (column,) = read_columns(runs[1:], fewest=1)
    assert board.rows[0].ap == read_scores(column, "digits_test").value(board.metric)
    assert board.rows[1].behind.high < 0


def test_two_rows_have_no_correlation(rows):
    assert not read_leaderboard(rows[:2], data="digits_test").correlations
