"""A gathered report as Markdown with its figures beside it, and as text for a terminal.

Not for: the page (`page`), whose tables and sentences these are.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from resdet.atomic import atomic_path, write_text
from resdet.file_names import file_name
from resdet.printable import one_line
from resdet.report.comparison.contrasts import rule
from resdet.report.comparison.error_shares import Errors
from resdet.report.model import ComparisonReport, SetReport
from resdet.report.provenance import provenance
from resdet.report.render import charts
from resdet.report.render.figures import Figure
from resdet.report.render.pictures import PICTURES_CAPTION, ImageSample
from resdet.report.render.tables import Table, escape_markdown, to_markdown, to_text

FILES = "report_files"


def write_markdown(report: ComparisonReport, output: Path) -> None:
    """report.md, and its drawings and pictures in report_files/, which is made afresh."""
    folder = output / FILES
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    write_text(output / "report.md", _markdown(report, folder))


def _markdown(report: ComparisonReport, folder: Path) -> str:
    e = escape_markdown
    verdict = report.verdict
    lines = [f"# {e(report.headline)}", "", f"**{verdict.stamp}**", ""]
    lines += [f"- {e(text)}" for text in (*verdict.reasons, *verdict.cautions)]
    lines += [""] + [f"{e(text)}\n" for text in (*report.standfirst, *report.meaning)]
    for one in report.sets:
        lines += _markdown_set(report, one, folder)
    lines += _markdown_table(report.nets, report, 2)
    lines += [line for f in report.figures for line in _markdown_figure(f.name, f, folder)]
    if report.differences:
        lines += _markdown_table(report.differences, report, 2)
    lines += [f"- {e(text)}" for text in (*verdict.notes, *report.left_out)]
    lines += ["", "## Provenance", ""]
    for column in report.columns:
        lines += [f"### {e(column.letter)}: {e(column.label)}", ""]
        lines += [f"- {k}: {e(v)}" for k, v in provenance(column)["rows"]]
        lines += [""]
    lines += [f"Made by resdet {report.version}, {report.made}."]
    return "\n".join(lines) + "\n"


def _markdown_set(report: ComparisonReport, one: SetReport, folder: Path) -> list[str]:
    lines = _markdown_table(one.ranking, report, 2)
    lines += [escape_markdown(one.two_rules), ""] if one.two_rules else []
    if one.beside_published:
        lines += _markdown_table(one.beside_published, report, 3)
    if one.gain_ranking:
        lines += _markdown_table(one.gain_ranking, report, 3)
    if one.gain_table:
        lines += _markdown_table(one.gain_table, report, 3)
    lines += [f"- {escape_markdown(text)}" for text in one.notes] + [""]
    lines += _markdown_trust(report, one, folder)
    for figure in (one.curve, *one.figures):
        lines += _markdown_figure(f"{one.data_set}_{figure.name}", figure, folder)
    if one.errors:
        lines += _markdown_errors(report, one, one.errors, folder)
    for table in (*one.tables, *one.other_tables, *([one.published] if one.published else ())):
        lines += _markdown_table(table, report, 3)
    if one.contrasts:
        lines += ["### Where they differ most", "", escape_markdown(rule(one.contrasts)), ""]
    for number, c in enumerate(one.contrasts, 1):
        winner, loser = report.columns[c.winner].letter, report.columns[c.loser].letter
        lines += [f"{winner} finds what {loser} misses:", ""]
        name = f"{one.data_set}_contrast_{number}"
        lines += _markdown_samples([winner, loser], c.samples, name, folder)
    if one.samples:
        lines += ["### Pictures", "", escape_markdown(PICTURES_CAPTION), ""]
        every = [c.letter for c in report.columns]
        lines += _markdown_samples(every, one.samples, one.data_set, folder)
    if one.sources and (one.samples or one.contrasts):
        lines += ["Sources and licences of the pictures:", ""]
        # Indented: shown as it is, whatever a data set wrote there.
        lines += [f"    {one_line(line)}" for line in one.sources.splitlines()] + [""]
    return lines


def _markdown_trust(report: ComparisonReport, one: SetReport, folder: Path) -> list[str]:
    lines = []
    for table in (one.trust.table, one.trust.seeds):
        if table:
            lines += _markdown_table(table, report, 3)
    lines += [f"- {escape_markdown(text)}" for text in one.trust.sentences]
    lines += ["", escape_markdown(one.trust.how), ""] if one.trust.table else []
    if figure := one.trust.figure:
        lines += _markdown_figure(f"{one.data_set}_{figure.name}", figure, folder)
    return lines


def _markdown_errors(
    report: ComparisonReport, one: SetReport, errors: Errors, folder: Path
) -> list[str]:
    lines = _markdown_table(errors.table, report, 3)
    for figure in (errors.costs, errors.fates):
        lines += _markdown_figure(f"{one.data_set}_{figure.name}", figure, folder)
    for pair in errors.pairs:
        lines += [escape_markdown(" ".join(pair.sentences)), ""]
        lines += _markdown_table(pair.table, report, 4)
    return lines


def _markdown_samples(
    letters: Sequence[str], samples: Sequence[ImageSample], name: str, folder: Path
) -> list[str]:
    """A row per image, a cell per run; the pictures go into the folder."""
    lines = [
        "| " + " | ".join(["image", *letters]) + " |",
        "| --- " * (len(letters) + 1) + "|",
    ]
    for number, sample in enumerate(samples, 1):
        cells = [escape_markdown(sample.image_id)]
        for letter, panel in zip(letters, sample.panels, strict=True):
            file = _file_name(f"{name}_{number}_{letter}") + ".jpg"
            with atomic_path(folder / file) as temporary:
                temporary.write_bytes(panel.jpeg)
            cells.append(f"![{panel.words}]({FILES}/{file})")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _markdown_table(table: Table, report: ComparisonReport, level: int) -> list[str]:
    title = f"{'#' * level} {escape_markdown(table.title)}"
    lines = [title, "", to_markdown(table, report.columns), ""]
    return [*lines, escape_markdown(table.caption), ""] if table.caption else lines


def _markdown_figure(name: str, figure: Figure, folder: Path) -> list[str]:
    file = _file_name(name) + ".svg"
    write_text(folder / file, charts.standalone(figure.svg))
    return [
        f"![{escape_markdown(figure.title)}]({FILES}/{file})",
        "",
        escape_markdown(figure.caption),
        "",
    ]


def _file_name(text: str) -> str:
    """Without what a link in Markdown would have to escape, and not too long."""
    return file_name("".join(c if c.isalnum() or c in "-_" else "-" for c in text))


def _terminal_list(table: Table) -> str:
    """A table whose last column is long: one line a row, as sentences."""
    lines = [table.title]
    for run, number, outcome, differs in table.rows:
        what = "" if differs.text == "–" else f" {differs.text}"
        lines.append(f"  {run.text}: {number.text} ({number.note}). {outcome.text}{what}")
    return "\n".join(lines)


def terminal_text(report: ComparisonReport) -> str:
    """The ranking of each set, the differences, the verdict: what a terminal needs."""
    verdict = report.verdict
    blocks = []
    for one in report.sets:
        table = to_text(one.ranking, report.columns)
        blocks.append(f"{one.ranking.title}\n{table}\n{one.ranking.caption}")
        blocks += [one.two_rules] if one.two_rules else []
        if one.beside_published:
            blocks.append(_terminal_list(one.beside_published))
        if one.gain_ranking:
            blocks.append(f"{one.gain_ranking.title}\n{to_text(one.gain_ranking, report.columns)}")
        if one.gain_table:
            blocks.append(to_text(one.gain_table, report.columns))
        if one.trust.table:
            blocks.append(f"{one.trust.table.title}\n{to_text(one.trust.table, report.columns)}")
    if report.differences:
        blocks.append(f"Config keys that differ\n{to_text(report.differences, report.columns)}")
    elif not verdict.results_only:
        blocks.append("The resolved configs do not differ.")
    findings = [f"  {text}" for text in verdict.reasons]
    findings += [f"  caution: {text}" for text in verdict.cautions]
    findings += [f"  note: {text}" for text in (*verdict.notes, *report.left_out)]
    rule = "" if verdict.comparable else "=" * 72 + "\n"
    because = (
        "only the backbone differs" if verdict.comparable else "more than the backbone differs"
    )
    if verdict.across_recipes and verdict.comparable:
        because = "the backbone and its recipe differ"
    if verdict.across_starts and verdict.comparable:
        because = f"{verdict.sentence[0].lower()}{verdict.sentence[1:]}"
    if verdict.results_only:
        because = verdict.sentence
    blocks.append(
        f"{rule}{verdict.stamp}: {because}\n" + "\n".join(findings) + ("\n" + rule).rstrip()
    )
    blocks.append("\n".join([report.headline + ".", *report.standfirst]))
    return "\n\n".join(block.rstrip() for block in blocks)
