"""The ladder as a table: each row's numbers, its step from the row above with the noise of the
images, and the paper's number where the row has the paper's protocol.

Read from the rows' run folders alone, scored anew from their result files as any comparison's.

Not for: filling the rows (`resdet.detect.paper.ladder`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resdet import __version__
from resdet.errors import RunError
from resdet.evaluation.analysis.image_noise import MIN_IMAGES, Interval
from resdet.evaluation.published.departures import value_text
from resdet.report.comparison.backbone_gains import percent, points
from resdet.report.comparison.config_differences import config_differences
from resdet.report.comparison.gain_noise import image_intervals
from resdet.report.comparison.pairs import Pair
from resdet.report.comparison.published_numbers import ProtocolMatch, matches_for
from resdet.report.render.html_template import html_of
from resdet.report.runs import Column, read_columns
from resdet.report.scores import COCO_AP50, Metric, SetScores, read_scores
from resdet.run.folder import utc_now, write_json, write_text
from resdet.text_table import ruled

DEPARTURES_SHOWN = 3


@dataclass(frozen=True)
class LadderStep:
    """From another row to this one by one metric; fractions.

    interval: of the noise of the images, None where there is none (fewer than 50 images).
    """

    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class RowNumbers:
    """One row on one set.

    Attributes:
        values: by title of the metric, fractions; None where there is no object.
        steps: by title; none for the first row.
        published: by title, the paper's number and what the row did otherwise.
        above: title of the row that the steps are from; "" for the first.
        changed: keys that differ from that row, as they are typed.
        seconds: of detecting, without what it shared with a row above.
    """

    name: str
    title: str
    folder: Path
    values: Mapping[str, float | None]
    steps: Mapping[str, LadderStep]
    published: Mapping[str, ProtocolMatch]
    above: str
    changed: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True)
class SetLadder:
    """All rows on one set, by the metrics that it is scored by."""

    data_set: str
    images: int
    metrics: tuple[Metric, ...]
    rows: tuple[RowNumbers, ...]


@dataclass(frozen=True)
class LadderReport:
    """The ladder of one run.

    absent: title of a row that is not there, and why.
    """

    title: str
    sets: tuple[SetLadder, ...]
    absent: Mapping[str, str]


@dataclass(frozen=True)
class RowFolder:
    """Where a row lies, its title, and the place of the row that it is a step from, if any."""

    path: Path
    title: str
    above: int | None


def read_ladder(
    rows: Sequence[RowFolder],
    absent: Mapping[str, str],
    title: str,
    data_sets: Sequence[str],
    *,
    by: str = "set",
) -> LadderReport:
    """The report of rows that are filled on all of these sets.

    Args:
        rows: at least two, in their order.
        title: of the detector.
        by: what the rows are scored by, as in any comparison: "set", or "coco" for COCO's AP50 and
            AP (the paper's table) on sets that have VOC's rule, too.

    Raises:
        RunError, DataError, CheckFailed: as `scores.read_scores`.
    """
    columns = read_columns([row.path for row in rows])
    return LadderReport(
        title,
        tuple(_of_set(columns, rows, name, by) for name in data_sets),
        dict(absent),
    )


def _of_set(
    columns: Sequence[Column], rows: Sequence[RowFolder], data_set: str, by: str
) -> SetLadder:
    scores = [read_scores(column, data_set, by) for column in columns]
    metrics = _metrics(scores[0])
    numbers = []
    for place, (column, row) in enumerate(zip(columns, rows, strict=True)):
        above = row.above
        numbers.append(
            RowNumbers(
                name=row.path.name,
                title=row.title,
                folder=row.path,
                values={m.title: scores[place].value(m) for m in metrics},
                steps={} if above is None else _steps(scores, above, place, metrics),
                published=_published(column, scores[place], metrics),
                above="" if above is None else rows[above].title,
                changed=() if above is None else _changed(columns[above], column),
                seconds=scores[place].seconds,
            )
        )
    return SetLadder(data_set, len(scores[0].evaluated), metrics, tuple(numbers))


def _metrics(scores: SetScores) -> tuple[Metric, ...]:
    """What ranks on the set, and what has intervals: VOC's two rules, or COCO's AP50 and AP."""
    if scores.metric.key == "mean_ap":
        return tuple(dict.fromkeys((scores.metric, scores.gain_metric)))
    return (COCO_AP50, scores.metric)


def _steps(
    scores: Sequence[SetScores], above: int, place: int, metrics: Sequence[Metric]
) -> dict[str, LadderStep]:
    intervals = image_intervals(scores, Pair((above,), (place,), "other"))
    steps = {}
    for metric in metrics:
        before, after = scores[above].value(metric), scores[place].value(metric)
        if before is not None and after is not None:
            rule = metric.rule if metric.key == "mean_ap" else metric.key
            steps[metric.title] = LadderStep(after - before, intervals.get(rule))
    return steps


def _published(
    column: Column, scores: SetScores, metrics: Sequence[Metric]
) -> dict[str, ProtocolMatch]:
    matches = matches_for(column, scores)
    # VOC's own rule ranks; the paper's number is of that alone.
    return {m.title: matches[m.key] for m in metrics
            if m.key in matches and (m.key != "mean_ap" or m == scores.metric)}  # fmt: skip


def _changed(above: Column, column: Column) -> tuple[str, ...]:
    runs = (above, column)
    differences = config_differences(
        [c.config for c in runs], [c.card for c in runs], [c.loaded for c in runs]
    )
    # Of another net its name and weights stand for all that is its own.
    return tuple(
        f"{d.key} {value_text(d.values[1])}"
        for d in differences
        if d.kind == "other"
        or (d.kind == "backbone" and d.key in ("MODEL.NET.NAME", "MODEL.WEIGHTS"))
    )


# -- as text, JSON and page ---------------------------------------------------------------------


def cells(ladder: SetLadder) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table, as text."""
    head = ["row"]
    for metric in ladder.metrics:
        head += [metric.title, "step", "95 % interval", "paper"]
    head.append("seconds")
    rows = []
    for row in ladder.rows:
        line = [row.title]
        for metric in ladder.metrics:
            step = row.steps.get(metric.title)
            match = row.published.get(metric.title)
            line += [
                percent(row.values[metric.title]),
                points(step.difference) if step else "",
                _limits(step.interval) if step else "",
                percent(match.value) if match and match.shown else "–",
            ]
        line.append("–" if row.seconds is None else f"{row.seconds:.0f}")
        rows.append(line)
    return head, rows


def _limits(interval: Interval | None) -> str:
    return "–" if interval is None else f"{points(interval.low)} to {points(interval.high)}"


def notes(report: LadderReport) -> list[str]:
    """What stands below the tables."""
    lines = [f"{title} is not there: {why}." for title, why in report.absent.items()]
    for ladder in report.sets:
        for row in ladder.rows:
            if row.changed:
                lines.append(f"{row.title}, from {row.above}: {', '.join(row.changed)}.")
        lines += dict.fromkeys(_beside_paper(ladder))
        if ladder.images < MIN_IMAGES:
            lines.append(
                f"{ladder.data_set}: no interval, which needs {MIN_IMAGES} images "
                f"({ladder.images:,} here)."
            )
        elif any(metric.rule == "VOC 11-point" for metric in ladder.metrics):
            lines.append("VOC's 11-point number has no interval: resampling does not describe it.")
    lines.append(
        "Steps are in points, with the 95 % interval of the noise of the images (paired "
        "bootstrap), not of seeds: rows of one training share its seed. Seconds are of detecting, "
        "without what a row shares with those above."
    )
    return list(dict.fromkeys(lines))


def _beside_paper(ladder: SetLadder) -> list[str]:
    lines = []
    for row in ladder.rows:
        for match in row.published.values():
            few = "; ".join(str(d) for d in match.listed[:DEPARTURES_SHOWN])
            more = len(match.listed) - DEPARTURES_SHOWN
            few += f"; and {more} more" if more > 0 else ""
            if match.shown:
                differs = f", but for: {few}" if few else ""
                lines.append(f"{row.title}: {match.paper}, {match.source}{differs}.")
            else:
                lines.append(f"{row.title}: no number of the paper, as this is another: {few}.")
    if not lines:
        lines.append(f"{ladder.data_set}: the paper has no number of this net on this set.")
    return lines


def to_text(report: LadderReport) -> str:
    """For a terminal."""
    parts = []
    for ladder in report.sets:
        head, rows = cells(ladder)
        parts.append(f"{report.title} on {ladder.data_set}, {ladder.images:,} images, percent")
        parts += ruled(head, rows)
        parts.append("")
    return "\n".join([*parts, *notes(report)])


def to_json(report: LadderReport) -> dict[str, Any]:
    """Numbers as fractions."""
    return {
        "made": utc_now(),
        "version": __version__,
        "detector": report.title,
        "absent": dict(report.absent),
        "sets": [
            {
                "data_set": ladder.data_set,
                "images": ladder.images,
                "rows": [_row_json(row) for row in ladder.rows],
            }
            for ladder in report.sets
        ],
    }


def _row_json(row: RowNumbers) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "above": row.above or None,
        "folder": str(row.folder),
        "values": dict(row.values),
        "steps": {
            title: {
                "difference": step.difference,
                "interval": step.interval and step.interval.to_json(),
            }
            for title, step in row.steps.items()
        },
        "published": {
            title: {
                "value": match.value,
                "source": match.source,
                "paper": match.paper,
                "departures": [dataclasses.asdict(d) for d in match.departures],
            }
            for title, match in row.published.items()
            if match.shown
        },
        "changed": list(row.changed),
        "seconds": row.seconds,
    }


def write_ladder(report: LadderReport, output: Path) -> tuple[Path, Path]:
    """ladder.json and ladder.html in a folder, which is made where needed; gives both paths.

    Raises:
        RunError: Jinja2 is missing, or the folder cannot be written.
    """
    tables = [(ladder, *cells(ladder)) for ladder in report.sets]
    page = html_of(
        "ladder.html",
        styles=("report.css", "classifier.css"),
        report=report,
        tables=tables,
        notes=notes(report),
        made=utc_now(),
        version=__version__,
    )
    json_path, page_path = output / "ladder.json", output / "ladder.html"
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_json(json_path, to_json(report))
        write_text(page_path, page)
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror}. Give --output.") from None
    return json_path, page_path
