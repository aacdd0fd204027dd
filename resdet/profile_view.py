"""A profile as a table for the terminal and as a picture: bars that nest, drawn as SVG text.

The picture contains its own colours for light and dark. A part too narrow for its name is named
below its bar; every part shows its numbers as a tooltip.

Not for: what is measured (`profile`).
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from resdet.printable import counted, one_line
from resdet.profile import ProfileReport, Row, Section
from resdet.text_table import aligned, rule

OTHER = "other"

# -- the table ------------------------------------------------------------------------------------


def table(report: ProfileReport) -> str:
    """The command by sections, then each section by spans; every block sums to its last line."""
    lines = _block(
        f"Where the time of {report.command} went (wall clock)", ("s", "%"), _summary(report)
    )
    for section in report.sections:
        if section.steps.parts:
            lines += ["", *_section_lines(section)]
    lines += ["", *report.notes] if report.notes else []
    return "\n".join(lines)


def _summary(report: ProfileReport) -> list[tuple[str, ...]]:
    rows = [_line("getting ready", report.ready, report.seconds)]
    for section in report.sections:
        rows.append(_line(section.name, section.seconds, report.seconds))
        if section.unit:
            first, steps = section.first, section.steps
            if first.calls:
                name = f"  the first {counted(first.calls, section.unit)}"
                rows.append(_line(name, first.seconds, report.seconds))
            others = "the other " if first.calls else ""
            name = f"  {others}{counted(steps.calls, section.unit)}"
            rows.append(_line(name, steps.seconds, report.seconds))
            rows.append(_line("  around them", section.around, report.seconds))
    rows.append(_line(OTHER, report.other, report.seconds))
    rows.append(_line("whole", report.seconds, report.seconds))
    return rows


def _section_lines(section: Section) -> list[str]:
    whole, count = section.steps.seconds, section.steps.calls
    per_step = section.unit != ""
    head = ("s", "%", f"ms/{section.unit}") if per_step else ("s", "%")
    rows = []
    for depth, name, row in _walk(section.steps):
        row_cells = _line("  " * depth + name, row.seconds, whole)
        rows.append((*row_cells, _per_step(row.seconds, count)) if per_step else row_cells)
    last = _line("whole", whole, whole)
    rows.append((*last, _per_step(whole, count)) if per_step else last)
    lines = _block(title(section), head, rows)
    for name, row in section.beside.items():
        lines.append(
            f"Beside it, in workers and not in the sum: {name}, {row.seconds:.2f} s in "
            f"{row.calls:,} images."
        )
    return lines


def title(section: Section) -> str:
    """Example: "training: 37 steps of 81.3 ms, without the first 3"."""
    if not section.unit:
        return section.name
    count, first = section.steps.calls, section.first.calls
    words = f"{section.name}: {counted(count, section.unit)} of "
    words += f"{_per_step(section.steps.seconds, count)} ms"
    return f"{words}, without the first {first}" if first else words


def _walk(row: Row, depth: int = 0) -> Iterator[tuple[int, str, Row]]:
    """The parts of a row, each followed by its own, and at each level what no span names."""
    for name, part in row.parts.items():
        yield depth, name, part
        if part.parts:
            yield from _walk(part, depth + 1)
    yield depth, OTHER, Row(row.own)


def _line(name: str, seconds: float, whole: float) -> tuple[str, ...]:
    return name, f"{seconds:.2f}", f"{100 * seconds / whole:.1f}" if whole > 0 else "-"


def _per_step(seconds: float, steps: int) -> str:
    return f"{1000 * seconds / steps:.1f}" if steps else "-"


def _block(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under a ruled head, ruled again above the sum."""
    first, *lines = aligned([("", *head), *rows])
    dashes = rule([("", *head), *rows])
    return [title, first, dashes, *lines[:-1], dashes, lines[-1]]


# -- the picture ----------------------------------------------------------------------------------

WIDTH = 960
# Less of a bar than this is named in the table alone.
NAMED_SHARE = 0.005
_MARGIN = 16
_BAR = 26
_LETTER = 6.8  # mean width of a letter of 12 px in the common sans-serif fonts
_HUES = 6

_STYLE = """
svg { color-scheme: light dark; background: var(--page);
  --page: #fff; --ink: #1a1c1e; --soft: #5a6068;
  --hue-0: #cfe3f3; --hue-1: #f8d9c4; --hue-2: #c9e8dc; --hue-3: #edd3e5; --hue-4: #eee3b5;
  --hue-5: #d3e0e0; --rest: #e9ebee; }
@media (prefers-color-scheme: dark) { svg {
  --page: #131518; --ink: #e8eaed; --soft: #a3abb5;
  --hue-0: #1d4a6b; --hue-1: #6e3a1c; --hue-2: #17523f; --hue-3: #5c2f4d; --hue-4: #574a12;
  --hue-5: #2f4a4a; --rest: #2b2f35; } }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
  "Liberation Sans", Arial, sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
.title { font-size: 15px; font-weight: 650; } .head { font-weight: 650; }
.soft { fill: var(--soft); }
rect { stroke: var(--page); stroke-width: 1.5; }
"""


@dataclass(frozen=True)
class _Bar:
    """A part of a bar: shares of the width, its hue (-1: what no span names), its numbers."""

    name: str
    start: float
    share: float
    depth: int
    hue: int
    numbers: str
    parent: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.parent}: {self.name}" if self.parent else self.name


def picture(report: ProfileReport) -> str:
    """A bar for the command and one for each section with spans; parts lie below their whole."""
    parts = [_text(_MARGIN, 30, f"Where the time of {report.command} went", "title")]
    y = 44.0
    whole = Row(report.seconds)
    whole.parts = {"getting ready": Row(report.ready)}
    whole.parts |= {s.name: Row(s.seconds) for s in report.sections}
    blocks = [(f"the whole command: {report.seconds:.1f} s", whole, 0, "")]
    blocks += [(title(s), s.steps, s.steps.calls, s.unit) for s in report.sections if s.steps.parts]
    for words, row, count, unit in blocks:
        drawn, y = _block_of_bars(words, row, count, unit, y)
        parts += drawn
    for note in _notes(report):
        parts.append(_text(_MARGIN, y + 14, note, "soft"))
        y += 18
    label = html.escape(f"Where the time of {report.command} went", quote=True)
    height = y + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" role="img" aria-label="{label}">'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _notes(report: ProfileReport) -> Iterator[str]:
    for section in report.sections:
        for name, row in section.beside.items():
            yield f"Beside {section.name}, in workers: {name}, {row.seconds:.1f} s in all."
    for note in report.notes:
        yield from _wrapped(note)


def _block_of_bars(
    words: str, row: Row, count: int, unit: str, y: float
) -> tuple[list[str], float]:
    """The drawing of one bar with what lies below it, and where it ends."""
    parts = [_text(_MARGIN, y + 16, words, "head")]
    y += 24
    plot, deepest, unnamed = WIDTH - 2 * _MARGIN, 0, []
    for bar in _bars(row, row.seconds, count, unit):
        x, width = _MARGIN + plot * bar.start, plot * bar.share
        top = y + bar.depth * _BAR
        fill = "var(--rest)" if bar.hue < 0 else f"var(--hue-{bar.hue})"
        tooltip = f"{bar.full_name}: {bar.numbers}"
        parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{max(width, 0):.1f}" height="{_BAR}" rx="2" '
            f'fill="{fill}"><title>{html.escape(tooltip)}</title></rect>'
        )
        deepest = max(deepest, bar.depth)
        percent = f"{100 * bar.share:.0f} %"
        if width >= len(f"{bar.name} {percent}") * _LETTER + 12:
            parts.append(_text(x + 7, top + 17, f"{bar.name} {percent}", "part"))
        elif width >= len(bar.name) * _LETTER + 10:
            parts.append(_text(x + 6, top + 17, bar.name, "part"))
        elif bar.share >= NAMED_SHARE:
            item = f"{bar.full_name} {100 * bar.share:.1f} %"
            unnamed.append(item.replace(" ", "\N{NO-BREAK SPACE}"))
    y += (deepest + 1) * _BAR + 4
    if unnamed:
        for line in _wrapped("Narrow: " + ", ".join(unnamed)):
            parts.append(_text(_MARGIN, y + 14, line, "soft"))
            y += 17
    return parts, y + 18


def _bars(
    row: Row,
    whole: float,
    count: int,
    unit: str,
    *,
    start: float = 0.0,
    depth: int = 0,
    hue: int | None = None,
    parent: str = "",
) -> Iterator[_Bar]:
    """Parts from the left in their order; what lies inside one is drawn below it, in its hue.

    What no span names is a bar at the top, and blank below.
    """
    if whole <= 0:
        return
    named = list(row.parts.items()) + ([(OTHER, Row(row.own))] if depth == 0 else [])
    for number, (name, part) in enumerate(named):
        is_rest = depth == 0 and number == len(named) - 1
        colour = -1 if is_rest else number % _HUES if hue is None else hue
        numbers = f"{part.seconds:.3f} s, {100 * part.seconds / whole:.1f} %"
        if unit:
            numbers += f", {_per_step(part.seconds, count)} ms a {unit}"
        yield _Bar(name, start, part.seconds / whole, depth, colour, numbers, parent)
        if part.parts:
            yield from _bars(
                part, whole, count, unit, start=start, depth=depth + 1, hue=colour, parent=name
            )
        start += part.seconds / whole


def _wrapped(words: str, letters: int = int((WIDTH - 2 * _MARGIN) / _LETTER)) -> Iterator[str]:
    line = ""
    for word in words.split(" "):
        if line and len(line) + 1 + len(word) > letters:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def _text(x: float, y: float, words: str, css: str) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{html.escape(one_line(words))}</text>'
