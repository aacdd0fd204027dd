"""The report as a whole: gathered from run folders, written as page, Markdown and JSON.

Tables and JSON are made before any plot or picture, and a picture that fails is left out: a
failed drawing costs no number (`docs/faults.md` F78). The page holds everything inside itself and
needs no script and no network (F79).

Not for: what stands in a table, a plot or a sentence (`tables`, `figures`, `backbone_gains`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resdet import __version__
from resdet.errors import RunError
from resdet.evaluation.analysis.image_noise import Interval
from resdet.report.comparison.backbone_gains import (
    BackboneGain,
    gain,
    headline,
    meaning,
    standfirst,
)
from resdet.report.comparison.comparability import Comparability, judge
from resdet.report.comparison.contrasts import MAX_BYTES as CONTRAST_BYTES
from resdet.report.comparison.contrasts import contrasts
from resdet.report.comparison.error_shares import errors
from resdet.report.comparison.gain_noise import image_intervals, trust
from resdet.report.comparison.pairs import Pair, pairs
from resdet.report.curves import curves_of
from resdet.report.model import ComparisonReport, SetReport
from resdet.report.render import figures, page, pictures, plain_text, report_json, tables
from resdet.report.render.tables import Table
from resdet.report.runs import Column, read_columns
from resdet.report.scores import COCO_AP50, MASK_AP, Metric, SetScores, read_scores
from resdet.run.folder import utc_now, write_json, write_text


@dataclass(frozen=True)
class ReportPaths:
    """Where a report was written, and its verdict on comparability.

    `text` is what a terminal shows; `verdict.comparable` decides `compare`'s exit code.
    """

    html: Path
    markdown: Path
    json: Path
    verdict: Comparability
    text: str


def _silent(_: str) -> None:
    """Prints nothing."""


def compare(
    run_paths: Sequence[Path | str],
    output: Path | str,
    *,
    progress: Callable[[str], None] = _silent,
    by: str = "set",
    across_recipes: bool = False,
) -> ReportPaths:
    """Writes report.html, report.md (with report_files/) and report.json into `output`.

    A comparison of runs that differ in more than the backbone is written too, and stamped.

    Args:
        run_paths: two or more run folders of detectors.
        output: a folder; made if needed, an older report in it is replaced.
        progress: called with a line on each step; COCO at full size takes minutes.
        by: what ranks runs: "set", the protocol of each set, or "coco", COCO's AP.
        across_recipes: runs under other recipes (TRANSFER.RECIPE) are compared, too, and the
            report is stamped as one of backbone and recipe together.

    Raises:
        RunError: a folder is no run, no data set was evaluated in all of them, a results folder
            is broken or holds two evaluations, Jinja2 is missing, or `output` cannot be written.
    """
    report = gather(run_paths, progress, by, across_recipes=across_recipes)
    html = page.to_html(report)
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "report.json", report_json.to_json(report))
        plain_text.write_markdown(report, output)
        write_text(output / "report.html", html)
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror}. Give --output.") from None
    return ReportPaths(
        output / "report.html",
        output / "report.md",
        output / "report.json",
        report.verdict,
        plain_text.terminal_text(report),
    )


def gather(
    run_paths: Sequence[Path | str],
    progress: Callable[[str], None] = _silent,
    by: str = "set",
    *,
    across_recipes: bool = False,
) -> ComparisonReport:
    """The report of these run folders; see `compare`."""
    columns = read_columns(run_paths)
    names, left_out = _common_sets(columns)
    scores: dict[str, list[SetScores]] = {name: [] for name in names}
    for number, (name, column) in enumerate(itertools.product(names, columns), 1):
        progress(f"scoring {number} of {len(names) * len(columns)}: {column.label} on {name}")
        scores[name].append(read_scores(column, name, by))
    verdict = judge(columns, scores, across_recipes=across_recipes)
    # Of runs that are not comparable no gain is taken: their numbers stand side by side.
    asked = pairs(columns) if verdict.comparable else []
    if verdict.across_recipes:
        # Neither what pretraining gave nor which net is ahead: the recipe is in every gap.
        asked = [dataclasses.replace(pair, kind="other") for pair in asked]
    progress("resampling, counting errors, drawing")
    sets = [_set_report(columns, scores[name], asked, 1 / len(names)) for name in names]
    first = sets[0]
    drawn = [figures.learning_curves(columns), figures.validation_curves(columns)]
    return ComparisonReport(
        made=utc_now(),
        version=__version__,
        columns=tuple(columns),
        verdict=verdict,
        sets=tuple(sets),
        left_out=tuple(left_out),
        headline=headline(columns, first.gains, verdict, first.trust.in_noise),
        standfirst=tuple(
            standfirst(
                columns, first.gains, first.trust.short(first.gain_metric), first.trust.outside
            )
        ),
        meaning=()
        if verdict.results_only or verdict.across_recipes
        else tuple(meaning(columns, first.gains)),
        nets=tables.nets(columns, first.scores),
        differences=tables.differences(columns, verdict),
        figures=tuple(f for f in drawn if f is not None),
    )


def _common_sets(columns: Sequence[Column]) -> tuple[list[str], list[str]]:
    """Sets that all runs were evaluated on, in the config's order; and a line per other set."""
    per_run = [c.run.result_sets() for c in columns]
    common = set(per_run[0]).intersection(*per_run[1:])
    if not common:
        have = "; ".join(
            f"{c.run.path} has {', '.join(sets) or 'none'}"
            for c, sets in zip(columns, per_run, strict=True)
        )
        raise RunError(
            f"no data set was evaluated in all of the runs: {have}. "
            "Evaluate them on one set: train_det --eval-only."
        )
    listed = list(columns[0].config.get("DATASETS.TEST") or [])
    names = [n for n in listed if n in common] + sorted(common.difference(listed))
    left_out = []
    for name in sorted(set().union(*per_run) - common):
        having = [c.letter for c, sets in zip(columns, per_run, strict=True) if name in sets]
        left_out.append(f"{name} was evaluated in {', '.join(having)} only and is left out.")
    return names, left_out


def _set_report(
    columns: Sequence[Column], scores: Sequence[SetScores], asked: Sequence[Pair], share: float
) -> SetReport:
    """Args: share: of the page's room for pictures, in (0, 1]."""
    metric, other = scores[0].gain_metric, tables.eleven_points(scores)
    curves = [curves_of(s) for s in scores]
    intervals = {pair: image_intervals(scores, pair) for pair in asked}
    gains = _gains(scores, metric, asked, intervals)
    other_gains = _gains(scores, other, asked, intervals) if other else []
    halves = _gains(scores, COCO_AP50, asked, intervals) if metric.key == "AP" else []
    shown = [tables.per_class(columns, scores, metric, gains), tables.coco(columns, scores)]
    mask_gains, of_masks = _masks(columns, scores, asked)
    shown += of_masks
    gain_ranking, others = None, list[Table | None]()
    if metric != scores[0].metric and gains:
        gain_ranking = tables.ranking(columns, scores, metric)
    elif other:
        second = metric if metric != scores[0].metric else other
        others.append(tables.ranking(columns, scores, second))
    if other:
        others.append(tables.gains(columns, other_gains))
    if other == scores[0].metric:
        others.append(tables.per_class(columns, scores, other, other_gains))
    return SetReport(
        data_set=scores[0].data_set,
        metric=scores[0].metric,
        gain_metric=metric,
        scores=tuple(scores),
        gains=tuple(gains),
        other_gains=tuple(other_gains),
        mask_gains=tuple(mask_gains),
        trust=trust(columns, [*gains, *halves]),
        curves=tuple(curves),
        ranking=tables.ranking(columns, scores, scores[0].metric),
        gain_ranking=gain_ranking,
        gain_table=tables.gains(columns, gains),
        tables=tuple(t for t in shown if t is not None),
        other_tables=tuple(t for t in others if t is not None),
        beside_published=tables.beside_published(columns, scores),
        published=tables.published(scores[0].data_set),
        curve=figures.precision_recall(columns, curves),
        figures=tuple(f for g in gains for f in figures.class_gains(columns, g)),
        small_curves=tuple(figures.precision_recall_per_class(columns, curves)),
        errors=errors(columns, scores, asked),
        contrasts=tuple(contrasts(scores, asked, max_bytes=int(share * CONTRAST_BYTES))),
        samples=tuple(pictures.samples(scores, max_bytes=int(share * pictures.MAX_BYTES))),
        notes=(*_notes(columns, scores), *_note_on_masks(columns, scores)),
    )


def _notes(columns: Sequence[Column], scores: Sequence[SetScores]) -> tuple[str, ...]:
    """Evaluation's notes; those that not all runs share name their runs."""
    notes = []
    for text in dict.fromkeys(note for s in scores for note in s.notes):
        having = [c.letter for c, s in zip(columns, scores, strict=True) if text in s.notes]
        notes.append(text if len(having) == len(columns) else f"{', '.join(having)}: {text}")
    return tuple(notes)


def _note_on_masks(columns: Sequence[Column], scores: Sequence[SetScores]) -> tuple[str, ...]:
    """Why masks that some runs have are not compared; nothing where they are, or none has any."""
    lacking = [c.letter for c, s in zip(columns, scores, strict=True) if s.of_masks is None]
    if not lacking:
        reason = "the objects of the runs' ground truths have other masks"
        return (f"AP of masks is not compared: {reason}.",) if _mask_hashes(scores) > 1 else ()
    if len(lacking) == len(columns):
        return ()
    return (f"AP of masks is not compared: {', '.join(lacking)} has none.",)


def _mask_hashes(scores: Sequence[SetScores]) -> int:
    """How many different masks of objects the runs were scored by."""
    return len({s.truth.get("info", {}).get("mask_hash") for s in scores if s.of_masks})


def _masks(
    columns: Sequence[Column], scores: Sequence[SetScores], asked: Sequence[Pair]
) -> tuple[list[BackboneGain], list[Table | None]]:
    """Gains in COCO's AP of masks with their intervals, and the tables; none where a run has none.

    Runs whose ground truth has other masks are not compared by them.
    """
    masked = [s.of_masks for s in scores if s.of_masks]
    if len(masked) < len(scores) or _mask_hashes(scores) > 1:
        return [], []
    intervals = {pair: image_intervals(masked, pair) for pair in asked}
    gains = _gains(masked, MASK_AP, asked, intervals)
    return gains, [tables.coco(columns, masked, masks=True), tables.gains(columns, gains)]


def _gains(
    scores: Sequence[SetScores],
    metric: Metric,
    asked: Sequence[Pair],
    intervals: Mapping[Pair, Mapping[str, Interval | None]],
) -> list[BackboneGain]:
    """The gain of every pair by this metric, with its interval where it has one."""
    values = [s.value(metric) for s in scores]
    per_class = [s.per_class(metric) for s in scores]
    name = metric.rule if metric.key == "mean_ap" else metric.key
    made = [
        gain(pair, scores[0].data_set, metric, values, per_class, intervals[pair].get(name))
        for pair in asked
    ]
    return [g for g in made if g is not None]
