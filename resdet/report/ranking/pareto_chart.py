"""AP against a cost, each backbone a dot; the line joins those that none beats in both.

Not for: other charts (`resdet.report.render`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resdet.report.ranking.leaderboard import LeaderRow
from resdet.report.render.charts import number, svg, text
from resdet.report.render.plot import axis_over

WIDTH, HEIGHT = 680, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 20, 24, 40
# So near, two names would cover each other.
_CLOSE = 13.0


def front_of(rows: Sequence[LeaderRow], key: str) -> list[LeaderRow]:
    """Rows that no other beats in AP at the same cost or less, by rising cost."""
    known = [row for row in rows if isinstance(row.facts.get(key), int | float)]
    front: list[LeaderRow] = []
    for row in sorted(known, key=lambda row: (row.facts[key], -row.ap)):
        if not front or row.ap > front[-1].ap:
            front.append(row)
    return front


def pareto_chart(rows: Sequence[LeaderRow], key: str, title: str, factor: float = 1.0) -> str:
    """SVG text; "" where no row has that cost.

    Args:
        key: of the rows' facts. title: of its axis. factor: from a fact to the axis.
    """
    known = [row for row in rows if isinstance(row.facts.get(key), int | float)]
    if not known:
        return ""
    costs = [row.facts[key] * factor for row in known]
    across = axis_over(costs, title, is_log=False)
    up = axis_over([100 * row.ap for row in known], "AP", is_log=False, at_most=100)

    def at(row: LeaderRow) -> tuple[float, float]:
        width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        return (
            _LEFT + width * across.place(row.facts[key] * factor),
            _TOP + height * (1 - up.place(100 * row.ap)),
        )

    parts: list[str] = []
    for mark in up.marks():
        y = _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - up.place(mark))
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(text(_LEFT - 6, y + 4, number(mark), "end"))
    for mark in across.marks():
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * across.place(mark)
        parts.append(text(x, HEIGHT - _BOTTOM + 16, number(mark), "middle"))
    parts.append(text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 4, title, "middle"))
    parts.append(text(_LEFT, _TOP - 12, up.title, "start"))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, front_of(known, key)))
    parts.append(f'<polyline class="thin hue-5" points="{line}"/>')
    parts += _dots(known, at)
    label = f"AP against {title}; the line joins backbones that none beats in both"
    return svg(parts, WIDTH, HEIGHT, label)


def _dots(rows: Sequence[LeaderRow], at: Any) -> list[str]:
    parts: list[str] = []
    placed: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: at(row)[1]):
        x, y = at(row)
        hue = min(row.group - 1, 5)
        parts.append(f'<circle class="dot hue-{hue}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        is_right = x < WIDTH * 0.7
        below = y + 4
        while any(abs(below - other) < _CLOSE and abs(x - left) < 160 for left, other in placed):
            below += _CLOSE
        placed.append((x, below))
        parts.append(
            text(x + (8 if is_right else -8), below, row.label, "start" if is_right else "end")
        )
    return parts
