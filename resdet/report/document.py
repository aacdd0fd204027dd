"""The report as a whole: gathered from run folders, written as page, Markdown and JSON.

Tables and JSON are made before any plot or picture, and a picture that fails is left out: no
number is lost to a drawing (`docs/faults.md` F78). The page holds everything inside itself and
needs no script and no network (F79).

Not for: what stands in a table, a plot or a sentence (`tables`, `figures`, `gains`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resdet import __version__
from resdet.errors import RunError
from resdet.evaluation.analysis.image_noise import Interval
from resdet.report.compare.backbone_gains import (
    Gain,
    Pair,
    gain,
    headline,
    meaning,
    pairs,
    standfirst,
)
from resdet.report.compare.comparability import Verdict, judge
from resdet.report.compare.contrasts import MAX_BYTES as CONTRAST_BYTES
from resdet.report.compare.contrasts import Contrast, contrasts
from resdet.report.compare.error_shares import Errors, errors
from resdet.report.compare.gain_noise import Trust, image_intervals, trust
from resdet.report.curves import Curves, curves_of
from resdet.report.render import figures, page, pictures, plain_text, report_json, tables
from resdet.report.render.figures import Figure
from resdet.report.render.pictures import Sample
from resdet.report.render.tables import Table
from resdet.report.runs import Column, read_columns
from resdet.report.scores import COCO_AP50, Metric, SetScores, read_scores
from resdet.run import utc_now, write_json, write_text


@dataclass(frozen=True)
class ReportPaths:
    """Where a report was written, and what it says about comparability.

    `text` is what a terminal shows; `verdict.comparable` decides `compare`'s exit code.
    """

    html: Path
    markdown: Path
    json: Path
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class SetReport:
    """One data set: scores in the order of the runs, and all that is shown of it.

    `other_gains` and `other_tables` are by VOC's rule that does not rank the runs.
    """

    data_set: str
    metric: Metric
    scores: tuple[SetScores, ...]
    gains: tuple[Gain, ...]
    other_gains: tuple[Gain, ...]
    trust: Trust
    curves: tuple[Curves, ...]
    ranking: Table
    gain_table: Table | None
    tables: tuple[Table, ...]
    other_tables: tuple[Table, ...]
    published: Table | None
    curve: Figure
    figures: tuple[Figure, ...]
    small_curves: tuple[tuple[str, str], ...]
    errors: Errors | None
    contrasts: tuple[Contrast, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]

    @property
    def values(self) -> tuple[float | None, ...]:
        """The ranking number of each run."""
        return tuple(s.value(self.metric) for s in self.scores)

    @property
    def has_many_classes(self) -> bool:
        """The bars of one pair fill several drawings."""
        return len(self.scores[0].classes) > figures.MAX_BARS

    @property
    def sources(self) -> str:
        """Who made the images, as their data set has it."""
        return str((self.scores[0].truth.get("info") or {}).get("sources") or "")


@dataclass(frozen=True)
class Report:
    """Everything that the page, the Markdown file and the JSON are made from."""

    made: str
    version: str
    columns: tuple[Column, ...]
    verdict: Verdict
    sets: tuple[SetReport, ...]
    left_out: tuple[str, ...]
    headline: str
    standfirst: tuple[str, ...]
    meaning: tuple[str, ...]
    nets: Table
    differences: Table | None
    figures: tuple[Figure, ...]


def _silent(_: str) -> None:
    """Says nothing."""


def compare(
    run_paths: Sequence[Path | str],
    output: Path | str,
    *,
    progress: Callable[[str], None] = _silent,
) -> ReportPaths:
    """Writes report.html, report.md (with report_files/) and report.json into `output`.

    A comparison of runs that differ in more than the backbone is written too, and stamped.

    Args:
        run_paths: two or more run folders of detectors.
        output: a folder; made if needed, an older report in it is replaced.
        progress: is told what is being done; COCO at full size takes minutes.

    Raises:
        RunError: a folder is no run, no data set was evaluated in all of them, a results folder
            is broken or holds two evaluations, Jinja2 is missing, or `output` cannot be written.
    """
    report = gather(run_paths, progress)
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


def gather(run_paths: Sequence[Path | str], progress: Callable[[str], None] = _silent) -> Report:
    """The report of these run folders; see `compare`."""
    columns = read_columns(run_paths)
    names, left_out = _common_sets(columns)
    scores: dict[str, list[SetScores]] = {name: [] for name in names}
    for number, (name, column) in enumerate(itertools.product(names, columns), 1):
        progress(f"scoring {number} of {len(names) * len(columns)}: {column.label} on {name}")
        scores[name].append(read_scores(column, name))
    verdict = judge(columns, scores)
    # Of runs that are not comparable no gain is taken: their numbers stand side by side.
    asked = pairs(columns) if verdict.comparable else []
    progress("resampling, counting errors, drawing")
    sets = [_set_report(columns, scores[name], asked, 1 / len(names)) for name in names]
    first = sets[0]
    drawn = [figures.learning_curves(columns), figures.validation_curves(columns)]
    return Report(
        made=utc_now(),
        version=__version__,
        columns=tuple(columns),
        verdict=verdict,
        sets=tuple(sets),
        left_out=tuple(left_out),
        headline=headline(columns, first.gains, verdict, first.trust.in_noise),
        standfirst=tuple(
            standfirst(columns, first.gains, first.trust.short(first.metric), first.trust.outside)
        ),
        meaning=() if verdict.results_only else tuple(meaning(columns, first.gains)),
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
    metric, other = scores[0].metric, tables.other_rule(scores)
    curves = [curves_of(s) for s in scores]
    intervals = {pair: image_intervals(scores, pair) for pair in asked}
    gains = _gains(scores, metric, asked, intervals)
    other_gains = _gains(scores, other, asked, intervals) if other else []
    halves = _gains(scores, COCO_AP50, asked, intervals) if metric.key == "AP" else []
    shown = [tables.per_class(columns, scores, metric, gains), tables.coco(columns, scores)]
    others = []
    if other:
        others = [tables.ranking(columns, scores, other), tables.gains(columns, other_gains)]
    return SetReport(
        data_set=scores[0].data_set,
        metric=metric,
        scores=tuple(scores),
        gains=tuple(gains),
        other_gains=tuple(other_gains),
        trust=trust(columns, [*gains, *halves, *other_gains]),
        curves=tuple(curves),
        ranking=tables.ranking(columns, scores, metric),
        gain_table=tables.gains(columns, gains),
        tables=tuple(t for t in shown if t is not None),
        other_tables=tuple(t for t in others if t is not None),
        published=tables.published(scores[0].data_set),
        curve=figures.precision_recall(columns, curves),
        figures=tuple(f for g in gains for f in figures.class_gains(columns, g)),
        small_curves=tuple(figures.precision_recall_per_class(columns, curves)),
        errors=errors(columns, scores, asked),
        contrasts=tuple(contrasts(scores, asked, max_bytes=int(share * CONTRAST_BYTES))),
        samples=tuple(pictures.samples(scores, max_bytes=int(share * pictures.MAX_BYTES))),
        notes=_notes(columns, scores),
    )


def _notes(columns: Sequence[Column], scores: Sequence[SetScores]) -> tuple[str, ...]:
    """Evaluation's notes; those that not all runs share say whose they are."""
    said = []
    for text in dict.fromkeys(note for s in scores for note in s.notes):
        having = [c.letter for c, s in zip(columns, scores, strict=True) if text in s.notes]
        said.append(text if len(having) == len(columns) else f"{', '.join(having)}: {text}")
    return tuple(said)


def _gains(
    scores: Sequence[SetScores],
    metric: Metric,
    asked: Sequence[Pair],
    intervals: Mapping[Pair, Mapping[str, Interval | None]],
) -> list[Gain]:
    """The gain of every pair by this metric, with its interval where it has one."""
    values = [s.value(metric) for s in scores]
    per_class = [s.per_class(metric) for s in scores]
    name = metric.rule if metric.key == "mean_ap" else metric.key
    made = [
        gain(pair, scores[0].data_set, metric, values, per_class, intervals[pair].get(name))
        for pair in asked
    ]
    return [g for g in made if g is not None]
