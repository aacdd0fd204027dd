"""Lines over two axes, each linear or logarithmic, with marks at places of the x axis, as SVG text.

For curves of trainings and of layers. Thin and bold lines of one look are one run's two numbers.

Not for: charts of the detection report (`charts`, whose parts are used here).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from resdet.report.render.charts import Look, legend_of, number, svg, text, ticks

WIDTH, PLOT_HEIGHT = 680, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 10, 40
WEIGHTS = ("thin", "line", "bold")


@dataclass(frozen=True)
class PlotAxis:
    """One axis.

    Attributes:
        low, high: its ends; above 0 where it is logarithmic.
    """

    title: str
    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands, 0 at the low end and 1 at the high one; cut to that."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)

    def marks(self) -> list[float]:
        """Round numbers on it: of a logarithmic one 1, 2 and 5 times powers of ten."""
        if not self.is_log:
            return [v for v in ticks(self.high, 6, exact=self.high) if v >= self.low]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if len(decades) <= 4 else (1,)
        values = [f * 10.0**d for d in decades for f in factors]
        inside = [v for v in values if self.low * 0.999 <= v <= self.high * 1.001]
        return inside if len(inside) > 1 else [self.low, self.high]


def axis_over(
    values: Sequence[float],
    title: str,
    *,
    is_log: bool,
    top: float | None = None,
    at_most: float = math.inf,
) -> PlotAxis:
    """The axis that holds these values; a linear one begins at 0 and ends at a round number.

    A logarithmic one ends at the values, or at round numbers where few marks would be between.

    Args:
        values: of a logarithmic axis those of 0 and less are passed over.
        top: the end that the user states.
        at_most: what no value can exceed, such as 100 of a percentage.
    """
    values = [v for v in values if math.isfinite(v) and (v > 0 or not is_log)]
    high = top or max(values, default=1.0)
    if not is_log:
        return PlotAxis(title, 0.0, top or min(ticks(high, 6)[-1], at_most))
    low = min(values, default=high / 10)
    axis = PlotAxis(title, low if low < high else high / 10, high, True)
    if len(axis.marks()) > 2:
        return axis
    # Too short for marks of its own: out to the next ones.
    return PlotAxis(title, _round(axis.low, up=False), top or min(_round(high, up=True), at_most),
                    True)  # fmt: skip


def _round(value: float, *, up: bool) -> float:
    """The next of 1, 2 and 5 times a power of ten, above or below; itself where it is one."""
    power = 10.0 ** math.floor(math.log10(value))
    steps = [power * f for f in (1, 2, 5, 10)]
    if up:
        return next(s for s in steps if s >= value * 0.999)
    return next(s for s in reversed(steps) if s <= value * 1.001)


@dataclass(frozen=True)
class PlotLine:
    """One line. `weight` is one of `WEIGHTS`; dots for few points; a NaN breaks it."""

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    weight: str = "line"
    has_dots: bool = False


@dataclass(frozen=True)
class PlotMark:
    """A vertical line at x; of one run where it has a look, else of all."""

    x: float
    look: Look | None = None
    note: str = ""


def plot(
    lines: Sequence[PlotLine],
    x_axis: PlotAxis,
    y_axis: PlotAxis,
    *,
    label: str,
    marks: Sequence[PlotMark] = (),
    width: int = WIDTH,
    plot_height: int = PLOT_HEIGHT,
) -> str:
    """The drawing.

    Args:
        lines: in drawing order; each look stands once in the legend.
        label: what the picture shows, for those who do not see it.
    """
    looks = list(dict.fromkeys(line.look for line in lines))
    key, key_height = legend_of(looks, width)
    top = _TOP + key_height
    plot_width, height = width - _LEFT - _RIGHT, top + plot_height + _BOTTOM
    bottom = top + plot_height

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + plot_width * x_axis.place(x), bottom - plot_height * y_axis.place(y)

    parts = [key]
    for y in y_axis.marks():
        _, row = at(x_axis.low, y)
        parts.append(f'<path class="grid" d="M{_LEFT} {row:.1f}H{width - _RIGHT}"/>')
        parts.append(text(_LEFT - 6, row + 4, number(y), "end"))
    for x in x_axis.marks():
        column, _ = at(x, y_axis.low)
        parts.append(f'<path class="grid" d="M{column:.1f} {bottom}v4"/>')
        parts.append(text(column, bottom + 16, number(x), "middle"))
    for mark in marks:
        column, _ = at(mark.x, y_axis.low)
        css = f"mark {mark.look.css}" if mark.look else "mark"
        parts.append(f'<path class="{css}" d="M{column:.1f} {top}V{bottom}"/>')
        if mark.note:
            parts.append(text(column + 3, top + 11, mark.note, "start"))
    for line in lines:
        parts += _drawn(line, at, y_axis)
    parts.append(text(_LEFT + plot_width / 2, height - 6, x_axis.title, "middle", "title"))
    middle = top + plot_height / 2
    turn = f' transform="rotate(-90 13 {middle:.1f})"'
    parts.append(text(13, middle, y_axis.title, "middle", "title", turn))
    return svg(parts, width, height, label)


def _drawn(line: PlotLine, at, y_axis: PlotAxis) -> list[str]:  # type: ignore[no-untyped-def]
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(y) and (y > 0 or not y_axis.is_log):
            pieces[-1].append(at(x, y))
        elif pieces[-1]:
            pieces.append([])
    moves = ["M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in piece) for piece in pieces if piece]
    css = line.look.css
    parts = [f'<path class="{line.weight} {css}" d="{"".join(moves)}"/>'] if moves else []
    if line.has_dots or any(len(piece) == 1 for piece in pieces):
        parts += [
            f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
            for piece in pieces
            for x, y in piece
        ]
    return parts
