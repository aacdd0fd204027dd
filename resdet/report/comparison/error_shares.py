"""Which errors each detector makes, what they cost, and which the other does not make.

Not for: what an error is and what fixing it gains (`resdet.evaluation.analysis.detection_errors`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.evaluation.analysis.detection_errors import (
    ERRORS,
    STATES,
    Anatomy,
    PairedAnatomy,
    compare,
    dissect,
)
from resdet.evaluation.inputs.detections import Columns
from resdet.evaluation.inputs.ground_truth import GroundTruth
from resdet.report.comparison.backbone_gains import percent
from resdet.report.comparison.pairs import Pair
from resdet.report.render import charts
from resdet.report.render.charts import Bars, Stack
from resdet.report.render.figures import Figure, look
from resdet.report.render.tables import Cell, Table, run_cell
from resdet.report.runs import Column
from resdet.report.scores import SetScores

SOURCE = "TIDE's six kinds (Bolya et al. 2020, arXiv:2008.08115)"
MEANING = {
    "classification": "right place, other class",
    "localisation": "right class, IoU 0.1 to 0.5",
    "both": "other class and badly placed",
    "duplicate": "the object is already taken",
    "background": "nothing is there",
    "missed": "objects that no box means",
}
FATES = ("found", "other class", "badly boxed", "missed")
MAX_CLASSES = 100


@dataclass(frozen=True)
class PairedErrors:
    """Two runs object by object; `before` and `after` are places in the list of columns."""

    before: int
    after: int
    moves: PairedAnatomy
    sentences: tuple[str, ...]
    table: Table


@dataclass(frozen=True)
class Errors:
    """The errors of all runs on one set, and of each pair."""

    anatomies: tuple[Anatomy, ...]
    costs: Figure
    fates: Figure
    table: Table
    pairs: tuple[PairedErrors, ...]

    def to_json(self, columns: Sequence[Column]) -> dict[str, Any]:
        named = [c.letter for c in columns]
        return {
            "runs": {
                letter: anatomy.to_json()
                for letter, anatomy in zip(named, self.anatomies, strict=True)
            },
            "pairs": [
                {"before": named[p.before], "after": named[p.after], **p.moves.to_json()}
                for p in self.pairs
            ],
        }


def errors(
    columns: Sequence[Column], scores: Sequence[SetScores], asked: Sequence[Pair]
) -> Errors | None:
    """None where the images have no object, or the runs do not have the same ones (then no pair is
    asked for either); of several seeds the pairs show the first."""
    if len({s.truth_hash for s in scores}) > 1 or len({frozenset(s.evaluated) for s in scores}) > 1:
        return None
    truth, by_voc = scores[0].result.truth, scores[0].voc is not None
    anatomies = [
        dissect(truth, _placed(s, truth), subset=s.evaluated, ignore_difficult=by_voc)
        for s in scores
    ]
    if anatomies[0].ap50 is None:
        return None
    return Errors(
        tuple(anatomies),
        _costs(columns, anatomies),
        _fates(columns, anatomies),
        _table(columns, anatomies),
        tuple(_paired(columns, anatomies, pair) for pair in asked),
    )


def _placed(scores: SetScores, truth: GroundTruth) -> Columns:
    """Its detections by the places of the first run's ground truth; the order may be another."""
    columns, mine = scores.result.columns, scores.result.truth.index
    images = {image_id: place for place, image_id in enumerate(truth.index.image_ids)}
    categories = {number: place for place, number in enumerate(truth.index.category_ids)}
    return dataclasses.replace(
        columns,
        image=np.array([images[i] for i in mine.image_ids], dtype=np.int64)[columns.image],
        category=np.array([categories[i] for i in mine.category_ids])[columns.category],
    )


def _costs(columns: Sequence[Column], anatomies: Sequence[Anatomy]) -> Figure:
    """What AP50 would gain if one kind of error were fixed, a group of bars per kind."""
    values = [[100 * (a.gains[error] or 0.0) for a in anatomies] for error in ERRORS]
    most = charts.ticks(max(0.1, *(v for row in values for v in row)), 4)[-1]
    return Figure(
        "error_costs",
        "What each kind of error costs",
        "Points of AP50 (COCO's rule) that a run would gain if all errors of one kind were fixed. "
        f"The kinds do not add up. {SOURCE}.",
        charts.bar_chart(
            [Bars(e, tuple(row)) for e, row in zip(ERRORS, values, strict=True)],
            [look(c) for c in columns],
            label="AP50 lost to each kind of error, for every run",
            x_max=most,
            x_title="points of AP50",
        ),
    )


def _fates(columns: Sequence[Column], anatomies: Sequence[Anatomy]) -> Figure:
    """The share of each state of the objects, one bar per run."""
    return Figure(
        "object_fates",
        "What became of the objects",
        "Percent of the objects: found by a box of their class with IoU of at least 0.5, at any "
        "score; or only meant by one of another class, or by a bad one; or missed.",
        charts.stacked_chart(
            [Stack(look(c), _shares(a)) for c, a in zip(columns, anatomies, strict=True)],
            FATES,
            label="Share of objects found, misclassified, badly boxed and missed, for every run",
        ),
    )


def _shares(anatomy: Anatomy) -> tuple[float, ...]:
    counts = [int((anatomy.states == i).sum()) for i in range(len(STATES))]
    return tuple(count / max(1, sum(counts)) for count in counts)


def _table(columns: Sequence[Column], anatomies: Sequence[Anatomy]) -> Table:
    """Cost and number of each kind of error."""
    rows = []
    for error in ERRORS:
        cells = [Cell(percent(a.gains[error]), f"{a.counts[error]:,}") for a in anatomies]
        rows.append((Cell(error, MEANING[error], is_text=True), *cells))
    head = [run_cell(columns, i, short=True) for i in range(len(columns))]
    return Table(
        "Errors",
        (Cell("error", is_text=True), *head),
        tuple(rows),
        "Points of AP50 by COCO's rule; below them how many there are, at any score.",
    )


def _paired(columns: Sequence[Column], anatomies: Sequence[Anatomy], pair: Pair) -> PairedErrors:
    before, after = pair.before[0], pair.after[0]
    moves = compare(anatomies[before], anatomies[after])
    sentences = moves.sentences(columns[before].letter, columns[after].letter)
    table = _moves_table(columns, moves, before, after)
    return PairedErrors(before, after, moves, tuple(sentences), table)


def _moves_table(columns: Sequence[Column], moves: PairedAnatomy, before: int, after: int) -> Table:
    """Objects by who finds them: all, by size, by class; the largest change first."""
    a, b = columns[before].letter, columns[after].letter
    tree = moves.to_json()
    rows = [_moves_row("all objects", tree["objects"])]
    rows += [_moves_row(f"{size} ones", part) for size, part in tree["by_size"].items()]
    classes = sorted(tree["by_class"].items(), key=lambda item: -abs(_net(item[1])))
    shown = classes[:MAX_CLASSES]
    rows += [_moves_row(name, part) for name, part in shown]
    head = ("objects", f"only {b}", f"only {a}", "both", "neither")
    caption = "Objects found at IoU 0.5 and any score. Small: under 32² pixels; large: over 96²."
    if len(classes) > len(shown):
        caption += f" {len(classes) - len(shown):,} classes with the least change are not shown."
    return Table(
        f"Who finds what, {a} → {b}",
        tuple(Cell(title, is_text=True) for title in head),
        tuple(rows),
        caption,
    )


def _moves_row(name: str, part: Mapping[str, Any]) -> tuple[Cell, ...]:
    counts = (
        part["only_after"]["total"],
        part["only_before"]["total"],
        part["both"],
        part["neither"]["total"],
    )
    return (Cell(name, is_text=True), *(Cell(f"{count:,}") for count in counts))


def _net(part: Mapping[str, Any]) -> int:
    return int(part["only_after"]["total"] - part["only_before"]["total"])
