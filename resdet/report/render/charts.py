"""Plots as SVG text: lines and bars, drawn here, coloured by the page.

Drawn by hand rather than by a plotting library: text stays text in the reader's font, colours are
classes that the style sheet gives for light and dark (`templates/chart.css`), the same data give
the same bytes, and no display, backend or font file is asked for (`docs/faults.md` F78).
Coordinates are pixels of a 340 wide drawing, so that type has its true size on a phone, and three
of them stand side by side on a desk.

Colour is never the only cue: runs differ by hue, by dashes, and by name in the legend.

Not for: what the numbers are; a series is drawn as it comes, without `None`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from resdet.printable import one_line

WIDTH = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 10, 40
_FONT = 12
# Mean width of a letter in the common sans-serif fonts, in ems.
_LETTER = 0.56
_MAX_POINTS = 220


@dataclass(frozen=True)
class Look:
    """How a run is drawn everywhere: name in legends, hue 0 to 5, dash 0 (solid) or more."""

    name: str
    hue: int
    dash: int = 0

    @property
    def css(self) -> str:
        return f"hue-{self.hue} dash-{self.dash}"


@dataclass(frozen=True)
class Series:
    """One line: x ascending; `faint` is an optional second y, drawn thin behind it."""

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    faint: Sequence[float] = ()


@dataclass(frozen=True)
class Bars:
    """One row of bars, one per look; `None` where there is no number. `note` stands at the end."""

    name: str
    values: tuple[float | None, ...]
    note: str = ""


@dataclass(frozen=True)
class Span:
    """An interval on the x axis; `name` stands at its end."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class SpanRow:
    """One value with its intervals; `note` stands below its name."""

    name: str
    note: str
    value: float
    spans: tuple[Span, ...]
    look: Look


@dataclass(frozen=True)
class Stack:
    """One bar of parts that add up to 1; each part has a fill of its own, 0 to 3."""

    look: Look
    shares: tuple[float, ...]


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    x_title: str,
    y_title: str,
    x_max: float | None = None,
    y_max: float | None = None,
    width: int = WIDTH,
    plot_height: int = 190,
    legend: bool = True,
    markers: bool = False,
) -> str:
    """Lines over a common x axis that starts at 0.

    Args:
        series: in drawing order; an empty one is left out.
        label: what the picture shows, for those who do not see it.
        x_max, y_max: ends of the axes; by default the next round number.
        plot_height: of the space between the axes' ends.
        markers: dots on the points, for few of them.
    """
    series = [s for s in series if len(s.x)]
    x_ticks = ticks(x_max or max((max(s.x) for s in series), default=1.0), 5, exact=x_max)
    y_ticks = ticks(y_max or max((_top(s) for s in series), default=1.0), 5, exact=y_max)
    key, key_height = legend_of([s.look for s in series], width) if legend else ("", 0)
    top, left, bottom = _TOP + key_height, _LEFT if y_title else 30, _BOTTOM if x_title else 20
    plot_width, height = width - left - _RIGHT, top + plot_height + bottom

    def at(x: float, y: float) -> tuple[float, float]:
        return left + plot_width * x / x_ticks[-1], top + plot_height * (1 - y / y_ticks[-1])

    parts = [key]
    for y in y_ticks:
        _, row = at(0, y)
        parts.append(f'<path class="grid" d="M{left} {row:.1f}H{width - _RIGHT}"/>')
        parts.append(text(left - 6, row + 4, number(y), "end"))
    for x in x_ticks:
        column, _ = at(x, 0)
        parts.append(text(column, top + plot_height + 16, number(x), "middle"))
    for s in series:
        if len(s.faint):
            parts.append(_path(s, s.faint, at, y_ticks[-1], "faint"))
        parts.append(_path(s, s.y, at, y_ticks[-1], "line"))
        if markers:
            spots = [at(x, y) for x, y in zip(s.x, s.y, strict=True)]
            parts += [
                f'<circle class="dot {s.look.css}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
                for x, y in spots
            ]
    if x_title:
        parts.append(text(left + plot_width / 2, height - 6, x_title, "middle", "title"))
    if y_title:
        middle = top + plot_height / 2
        turn = f' transform="rotate(-90 13 {middle:.1f})"'
        parts.append(text(13, middle, y_title, "middle", "title", turn))
    return svg(parts, width, height, label)


def bar_chart(
    rows: Sequence[Bars], looks: Sequence[Look], *, label: str, x_max: float, x_title: str
) -> str:
    """Horizontal bars in groups, one group per row, one bar per look."""
    width = WIDTH
    name_width = min(110.0, 10 + max((_width(r.name) for r in rows), default=0.0))
    note_width = 8 + max((_width(r.note) for r in rows), default=0.0)
    key, key_height = legend_of(looks, width)
    thick = 9 if len(looks) > 1 else 14
    group = len(looks) * (thick + 1) + 7
    top, plot = _TOP + key_height, width - name_width - note_width
    bottom = top + group * len(rows)
    parts = [key]
    for x in ticks(x_max, 4, exact=x_max):
        column = name_width + plot * x / x_max
        parts.append(f'<path class="grid" d="M{column:.1f} {top}V{bottom}"/>')
        parts.append(text(column, bottom + 16, number(x), "middle"))
    for i, row in enumerate(rows):
        y, middle = top + group * i + 3, top + group * i + group / 2 + 4
        parts.append(text(name_width - 6, middle, fitted(row.name, name_width - 8), "end", "name"))
        for j, (look, value) in enumerate(zip(looks, row.values, strict=True)):
            if value is not None:
                length = max(1.0, plot * value / x_max)
                parts.append(
                    f'<rect class="bar {look.css}" x="{name_width:.1f}" rx="1.5" '
                    f'y="{y + j * (thick + 1):.1f}" width="{length:.1f}" height="{thick}"/>'
                )
        parts.append(text(width, middle, row.note, "end", "note"))
    parts.append(text(name_width + plot / 2, bottom + 34, x_title, "middle", "title"))
    return svg(parts, width, bottom + 40, label)


def interval_chart(rows: Sequence[SpanRow], *, label: str, x_title: str) -> str:
    """Each row a dot with whiskers below each other, on an axis that holds 0."""
    left, right = 14, 58
    ends = [0.0] + [v for r in rows for s in r.spans for v in (s.low, s.high, r.value)]
    step = _step((max(ends) - min(ends)) / 4)
    first, last = math.floor(min(ends) / step), math.ceil(max(ends) / step)
    if first == last:  # all is 0: the same detections twice, or none at all
        first, last = -1, 1
    marks = [round(i * step, 10) for i in range(first, last + 1)]

    def at(value: float) -> float:
        return left + (WIDTH - left - right) * (value - marks[0]) / (marks[-1] - marks[0])

    y, body = float(_TOP), []
    for row in rows:
        body.append(text(left, y + 12, f"{row.name}  {row.note}", "start", "haloed"))
        y += 18
        for span in row.spans:
            y += 16
            low, high = at(span.low), at(span.high)
            body.append(
                f'<path class="whisker {row.look.css}" d="M{low:.1f} {y - 5:.1f}v8M{low:.1f} '
                f'{y - 1:.1f}H{high:.1f}M{high:.1f} {y - 5:.1f}v8"/>'
            )
            body.append(
                f'<circle class="dot hue-{row.look.hue}" cx="{at(row.value):.1f}" '
                f'cy="{y - 1:.1f}" r="4"/>'
            )
            body.append(text(WIDTH - right + 8, y + 3, span.name, "start"))
        y += 14
    grid = []
    for value in marks:
        css = "zero" if value == 0 else "grid"
        grid.append(f'<path class="{css}" d="M{at(value):.1f} {_TOP}V{y:.1f}"/>')
        signed = number(value).replace("-", "−")
        grid.append(text(at(value), y + 16, f"+{signed}" if value > 0 else signed, "middle"))
    body.append(text((left + WIDTH - right) / 2, y + 34, x_title, "middle", "title"))
    return svg([*grid, *body], WIDTH, y + 40, label)


def stacked_chart(stacks: Sequence[Stack], names: Sequence[str], *, label: str) -> str:
    """One full-width bar per look, divided into named parts; each part shows its percent.

    Args:
        names: of the parts, in their order; at most four.
    """
    spots, y = _flow(names, WIDTH, mark=14)
    parts = []
    for i, (name, (x, line)) in enumerate(zip(names, spots, strict=True)):
        place = f'x="{x:.1f}" y="{line - 10}" width="14" height="11"'
        parts.append(f'<rect class="part part-{i} hue-5" {place}/>')
        parts.append(text(x + 20, line, name, "start", "name"))
    y += 2
    for stack in stacks:
        parts.append(text(0, y + 12, fitted(stack.look.name, WIDTH), "start", "name"))
        y += 18
        x = 0.0
        for i, share in enumerate(stack.shares):
            width = WIDTH * share
            parts.append(
                f'<rect class="part part-{i} {stack.look.css}" x="{x:.1f}" y="{y:.1f}" '
                f'width="{width:.1f}" height="18"/>'
            )
            if width >= 30:
                css = "on" if i == 0 else "name"
                parts.append(text(x + width / 2, y + 13, f"{share * 100:.0f}", "middle", css))
            x += width
        y += 26
    return svg(parts, WIDTH, y + 2, label)


def ticks(top: float, expected: int, *, exact: float | None = None) -> list[float]:
    """Round numbers from 0 to at least `top` (to `exact` where given), about `expected` of them.

    Example:
        >>> ticks(87, 5), ticks(0.7, 4)
        ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.0, 0.2, 0.4, 0.6, 0.8])
    """
    if not math.isfinite(top) or top <= 0:
        return [0.0, 1.0]
    step = _step(top / expected)
    count = math.floor(top / step + 1e-6) if exact else math.ceil(top / step - 1e-6)
    values = [round(i * step, 10) for i in range(count + 1)]
    return values if not exact or math.isclose(values[-1], exact) else [*values[:-1], exact]


def _step(rough: float) -> float:
    """The next round number from this one on."""
    rough = rough or 0.25
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)


def number(value: float) -> str:
    """A tick's text: 0, 0.25, 800, 12k.

    Example:
        >>> number(0.25), number(90000.0), number(800.0)
        ('0.25', '90k', '800')
    """
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def text(x: float, y: float, words: str, anchor: str, css: str = "tick", extra: str = "") -> str:
    """One line of text; `words` is escaped."""
    words = html.escape(one_line(words))
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{words}</text>'
    )


def svg(parts: Sequence[str], width: float, height: float, label: str) -> str:
    label = html.escape(one_line(label))
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def standalone(drawing: str) -> str:
    """The drawing as a file of its own: with the style that the page would have given it."""
    style = chart_css().replace(":root", "svg")
    head, tail = drawing.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{tail}\n'


def chart_css() -> str:
    """The colours of light and dark, and how lines, bars and words look."""
    return (resources.files("resdet.report.render") / "templates" / "chart.css").read_text("utf-8")


def thinned(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """At most `_MAX_POINTS` of the points, first and last among them."""
    if len(x) <= _MAX_POINTS:
        return list(zip(x, y, strict=True))
    picked = sorted({round(i * (len(x) - 1) / (_MAX_POINTS - 1)) for i in range(_MAX_POINTS)})
    return [(x[i], y[i]) for i in picked]


def _path(s: Series, values: Sequence[float], at, y_top: float, css: str) -> str:  # type: ignore[no-untyped-def]
    spots = [at(x, min(y, y_top)) for x, y in thinned(s.x, values)]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    return f'<path class="{css} {s.look.css}" d="M{line}"/>'


def _top(s: Series) -> float:
    return max(s.y)


def legend_of(looks: Sequence[Look], width: float) -> tuple[str, int]:
    """Line samples and names in as many rows as they need, and the height of that."""
    spots, height = _flow([look.name for look in looks], width, mark=22)
    parts = []
    for look, (x, line) in zip(looks, spots, strict=True):
        parts.append(f'<path class="line {look.css}" d="M{x:.1f} {line - 4}h22"/>')
        parts.append(text(x + 28, line, look.name, "start", "name"))
    return "".join(parts), height


def _flow(names: Sequence[str], width: float, *, mark: int) -> tuple[list[tuple[float, int]], int]:
    """Where each name's mark begins and its words stand, in rows of this width; and their height.

    mark: width of what stands before a name.
    """
    spots: list[tuple[float, int]] = []
    x, row = 4.0, 0
    for name in names:
        need = mark + 8 + _width(name) + 14
        if x > 4 and x + need > width:
            x, row = 4.0, row + 1
        spots.append((x, 12 + row * 18))
        x += need
    return spots, (row + 1) * 18 + 6 if names else 0


def _width(words: str) -> float:
    return len(words) * _FONT * _LETTER


def fitted(words: str, width: float) -> str:
    """The words, cut with an ellipsis where they would run into the plot."""
    most = int(width / (_FONT * _LETTER))
    return words if len(words) <= most else words[: max(1, most - 1)] + "…"
