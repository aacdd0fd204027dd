"""Classifiers side by side as one HTML page with everything inside, and as Markdown.

Names of users go through jinja2's or Markdown's escaping; our own drawings alone are inserted as
they are.

Not for: gathering (`side_by_side`).
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resdet.atomic import write_text
from resdet.evaluation.classification.classifier_result import TestedPair, rate
from resdet.report.classifiers.count_picture import count_picture, looks_of_titles
from resdet.report.classifiers.curve_picture import CAPTION, curve_picture
from resdet.report.classifiers.degradation import HEAD
from resdet.report.classifiers.response_picture import response_pictures
from resdet.report.classifiers.side_by_side import ClassRow, SideBySide, gap
from resdet.report.render import charts
from resdet.report.render.charts import Bars, Look, Span, SpanRow
from resdet.report.render.html_template import html_of
from resdet.report.render.tables import escape_markdown

# A table of classes is folded where it has more.
OPEN_CLASSES, SHOWN_CLASSES = 60, 20


def pictures(page: SideBySide) -> dict[str, str]:
    """Drawings by file name, those that there are numbers for."""
    looks = looks_of_titles([one.title for one in page.singles])
    by_title = {look.name: look for look in looks}
    found = {"pairs": _pairs_picture(page, looks), "classes": _classes_picture(page, looks)}
    if all(page.counts):
        stages = [{s["name"]: s["multiply_adds"] for s in c["stages"]} for c in page.counts if c]
        found["counts"] = count_picture([look.name for look in looks], stages)
    if page.runs:
        dashed = [replace(by_title[r.title], dash=1 if r.is_plain else 0) for r in page.runs]
        found["curves"] = curve_picture(page.runs, dashed)
    if page.responses:
        found["responses"], found["responses_sorted"] = response_pictures(
            page.responses, [by_title[net.title] for net in page.responses]
        )
    return found


def _pairs_picture(page: SideBySide, looks: Sequence[Look]) -> str:
    by_title = {look.name: look for look in looks}
    rows = [
        SpanRow(
            _shortened(t),
            "",
            100 * t.top1.difference,
            (Span("95 %", 100 * t.top1.low, 100 * t.top1.high),),
            by_title[t.first],
        )
        for t in page.result.tests
    ]
    return charts.interval_chart(rows, label="Differences of top-1 error with their intervals",
                                 x_title="difference of top-1 error, points")  # fmt: skip


def _shortened(test: TestedPair) -> str:
    """The difference and the pair, cut to the width of a chart."""
    words = f"{100 * test.top1.difference:+.2f}  {test.first} − {test.second}"
    return charts.fitted(words.replace("-", "−", 1), charts.WIDTH - 20)


def _classes_picture(page: SideBySide, looks: Sequence[Look]) -> str:
    shown = sorted_classes(page)[:SHOWN_CLASSES]
    rows = [Bars(row.name, tuple(100 * e.value for e in row.errors)) for row in shown]
    most = charts.ticks(max((v or 0.0 for row in rows for v in row.values), default=1.0), 4)[-1]
    return charts.bar_chart(rows, looks, label="Top-1 error of each class", x_max=most,
                            x_title="top-1 error, %")  # fmt: skip


def sorted_classes(page: SideBySide) -> list[ClassRow]:
    """Those that the classifiers differ on most come first."""
    return sorted(page.classes, key=lambda row: -row.range)


def to_html(page: SideBySide, paths: Sequence[Path], version: str) -> str:
    """One page with everything inside.

    Args:
        paths: the files of scores.

    Raises:
        RunError: Jinja2 is not installed.
    """
    return html_of(
        "side_by_side.html",
        styles=("report.css", "classifier.css"),
        page=page,
        drawings=pictures(page),
        classes=sorted_classes(page),
        open_classes=OPEN_CLASSES,
        shown_classes=SHOWN_CLASSES,
        curve_caption=CAPTION,
        head=HEAD,
        degradation_rows=[r.cells() for r in page.degradation.rows] if page.degradation else [],
        error_head=error_head(page),
        error_rows=error_rows(page),
        pair_head=PAIR_HEAD,
        pair_rows=[test.cells() for test in page.result.tests],
        class_head=class_head(page),
        class_rows=class_cells(page),
        setting_head=("setting", *(one.title for one in page.singles)),
        setting_rows=setting_rows(page),
        paths=[str(path) for path in paths],
        version=version,
        made=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def write_markdown(page: SideBySide, folder: Path) -> None:
    """report.md, and its drawings beside it as SVG files."""
    drawings = pictures(page)
    for name, drawing in drawings.items():
        write_text(folder / f"{name}.svg", charts.standalone(drawing))
    write_text(folder / "report.md", to_markdown(page, drawings))


def to_markdown(page: SideBySide, drawings: dict[str, str]) -> str:
    """The page's tables; `drawings` are those that stand beside it as files."""
    lines = [f"# {escape_markdown(page.headline)}", "", escape_markdown(page.standfirst), ""]
    lines += ["## Errors", "", *_table(error_head(page), error_rows(page)), ""]
    lines += ["## Pairs", "", *_table(PAIR_HEAD, [t.cells() for t in page.result.tests]), "",
              _picture("pairs", drawings), ""]  # fmt: skip
    lines += ["## Classes", "", *_table(class_head(page), class_cells(page)), "",
              _picture("classes", drawings), ""]  # fmt: skip
    if page.runs:
        lines += ["## Training", "", _picture("curves", drawings), "", CAPTION, ""]
    if page.degradation:
        found = page.degradation
        steps = [s.sentence() for s in (*found.by_depth, *found.by_family)]
        lines += [*_table(HEAD, [row.cells() for row in found.rows]), "", found.caption, ""]
        lines += [f"- {escape_markdown(text)}" for text in (*steps, *found.cautions)] + [""]
    if "counts" in drawings:
        lines += ["## Multiply-adds", "", _picture("counts", drawings), ""]
    if page.responses:
        lines += ["## Layer responses", "", _picture("responses", drawings),
                  _picture("responses_sorted", drawings), ""]  # fmt: skip
    lines += ["## Settings that differ", ""]
    lines += _table(("setting", *(one.title for one in page.singles)), setting_rows(page)) if (
        page.settings) else ["None that is recorded."]  # fmt: skip
    lines += ["", *(f"- {escape_markdown(note)}" for note in page.notes), ""]
    return "\n".join(lines)


PAIR_HEAD = (
    "top-1 error of A - B",
    "difference",
    "95 % interval",
    "wrong: A, B alone",
    "p",
    "p, Holm",
)


def error_head(page: SideBySide) -> tuple[str, ...]:
    return ("classifier", "net", "parameters", "multiply-adds", "top-1 error, %", "top-5 error, %",
            "protocol")  # fmt: skip


def error_rows(page: SideBySide) -> list[tuple[str, ...]]:
    """Each classifier, then all averaged."""
    rows: list[tuple[str, ...]] = []
    for one, counts in zip(page.singles, page.counts, strict=True):
        assert one.errors is not None
        rows.append((one.title, str(one.scores.net.get("name") or "-"), *count_cells(counts),
                     rate(one.errors.top1), rate(one.errors.top5), one.protocol))  # fmt: skip
    last = page.result.last
    assert last.errors is not None
    rows.append((last.title, "-", "-", "-", rate(last.errors.top1), rate(last.errors.top5),
                 last.protocol))  # fmt: skip
    return rows


def count_cells(counts: Any) -> tuple[str, str]:
    if counts is None:
        return "-", "-"
    return f"{counts['parameters']['total']:,}", f"{counts['multiply_adds']['total']:,}"


def class_head(page: SideBySide) -> tuple[str, ...]:
    titles = [one.title for one in page.singles]
    gaps = [f"{title} − {titles[0]} (p, Holm)" for title in titles[1:]]
    return ("class", "images", *titles, *gaps)


def class_cells(page: SideBySide) -> list[tuple[str, ...]]:
    """Errors in percent, and points against the first with the corrected p."""
    return [
        (
            row.name,
            f"{row.images:,}",
            *(rate(error) for error in row.errors),
            *(
                f"{100 * gap(t):+.2f} ({p:.2g})"
                for t, p in zip(row.against_first, row.p_holm, strict=True)
            ),
        )
        for row in sorted_classes(page)
    ]


def setting_rows(page: SideBySide) -> list[tuple[str, ...]]:
    return [
        (row.name, *("–" if v is None else str(v) for v in row.values)) for row in page.settings
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(escape_markdown(cell) for cell in cells) + " |"

    return [line(head), "| --- " * len(head) + "|", *map(line, rows)]


def _picture(name: str, drawings: dict[str, str]) -> str:
    return f"![{name}]({name}.svg)" if name in drawings else ""
