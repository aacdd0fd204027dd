"""The report as a whole: gathered from run folders, written as page, Markdown and JSON.

Tables and JSON are made before any plot or picture, and a picture that fails is left out: no
number is lost to a drawing (`faults.md` F78). The page holds everything inside itself and needs
no script and no network (F79).

Not for: what stands in a table, a plot or a sentence (`tables`, `figures`, `story`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resdet import __version__
from resdet.errors import RunError
from resdet.evaluation.significance import Interval, difference_interval
from resdet.report import as_json, figures, page, pictures, plain, tables
from resdet.report.curves import Curves, curves_of, ranked_classes
from resdet.report.figures import Figure
from resdet.report.pictures import Sample
from resdet.report.runs import Column, read_columns
from resdet.report.sameness import Verdict, judge
from resdet.report.scores import Metric, SetScores, read_scores
from resdet.report.story import Gain, Pair, gain, headline, meaning, pairs, standfirst
from resdet.report.tables import Table
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
    curves: tuple[Curves, ...]
    ranking: Table
    gain_table: Table | None
    tables: tuple[Table, ...]
    other_tables: tuple[Table, ...]
    curve: Figure
    figures: tuple[Figure, ...]
    small_curves: tuple[tuple[str, str], ...]
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
    def noise(self) -> dict[Pair, Interval]:
        """The intervals of the pairs that have one; always of VOC's area rule."""
        every = (*self.gains, *self.other_gains)
        return {g.pair: g.interval for g in every if g.interval is not None}

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


def compare(run_paths: Sequence[Path | str], output: Path | str) -> ReportPaths:
    """Writes report.html, report.md (with report_files/) and report.json into `output`.

    A comparison of runs that differ in more than the backbone is written too, and stamped.

    Args:
        run_paths: two or more run folders of detectors.
        output: a folder; made if needed, an older report in it is replaced.

    Raises:
        RunError: a folder is no run, no data set was evaluated in all of them, a results folder
            is broken or holds two evaluations, Jinja2 is missing, or `output` cannot be written.
    """
    report = gather(run_paths)
    html = page.to_html(report)
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "report.json", as_json.to_json(report))
        plain.write_markdown(report, output)
        write_text(output / "report.html", html)
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror}. Give --output.") from None
    return ReportPaths(
        output / "report.html",
        output / "report.md",
        output / "report.json",
        report.verdict,
        plain.terminal_text(report),
    )


def gather(run_paths: Sequence[Path | str]) -> Report:
    """The report of these run folders; see `compare`."""
    columns = read_columns(run_paths)
    names, left_out = _common_sets(columns)
    scores = {name: [read_scores(c, name) for c in columns] for name in names}
    verdict = judge(columns, scores)
    # Of runs that are not comparable no gain is taken: their numbers stand side by side.
    asked = pairs(columns) if verdict.comparable else []
    sets = [_set_report(columns, scores[name], asked) for name in names]
    drawn = [figures.learning_curves(columns), figures.validation_curves(columns)]
    return Report(
        made=utc_now(),
        version=__version__,
        columns=tuple(columns),
        verdict=verdict,
        sets=tuple(sets),
        left_out=tuple(left_out),
        headline=headline(columns, sets[0].gains, verdict),
        standfirst=tuple(standfirst(columns, sets[0].gains, sets[0].noise)),
        meaning=() if verdict.results_only else tuple(meaning(columns, sets[0].gains)),
        nets=tables.nets(columns, sets[0].scores),
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
    columns: Sequence[Column], scores: Sequence[SetScores], asked: Sequence[Pair]
) -> SetReport:
    metric, other = scores[0].metric, tables.other_rule(scores)
    curves = [curves_of(s) for s in scores]
    gains = _gains(scores, metric, asked)
    other_gains = _gains(scores, other, asked) if other else []
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
        curves=tuple(curves),
        ranking=tables.ranking(columns, scores, metric),
        gain_table=tables.gains(columns, gains),
        tables=tuple(t for t in shown if t is not None),
        other_tables=tuple(t for t in others if t is not None),
        curve=figures.precision_recall(columns, curves),
        figures=tuple(f for g in gains for f in figures.class_gains(columns, g)),
        small_curves=tuple(figures.precision_recall_per_class(columns, curves)),
        samples=tuple(pictures.samples(scores)),
        notes=_notes(columns, scores),
    )


def _notes(columns: Sequence[Column], scores: Sequence[SetScores]) -> tuple[str, ...]:
    """Evaluation's notes; those that not all runs share say whose they are."""
    said = []
    for text in dict.fromkeys(note for s in scores for note in s.notes):
        having = [c.letter for c, s in zip(columns, scores, strict=True) if text in s.notes]
        said.append(text if len(having) == len(columns) else f"{', '.join(having)}: {text}")
    return tuple(said)


def _gains(scores: Sequence[SetScores], metric: Metric, asked: Sequence[Pair]) -> list[Gain]:
    """The gain of every pair; with an interval for VOC's area rule."""
    values = [s.value(metric) for s in scores]
    per_class = [s.per_class(metric) for s in scores]
    matches = {}
    if asked and metric.rule == "VOC area":
        needed = {place for pair in asked for place in (pair.before, pair.after)}
        matches = {place: ranked_classes(scores[place]) for place in needed}
    found = []
    for pair in asked:
        interval = None
        if matches:
            interval = difference_interval([matches[pair.before]], [matches[pair.after]])
        if g := gain(pair, scores[0].data_set, metric, values, per_class, interval):
            found.append(g)
    return found
