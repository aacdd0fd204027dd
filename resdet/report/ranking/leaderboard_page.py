"""A ranking as a table for a terminal, as JSON, and as one HTML page with everything inside.

Not for: the numbers (`leaderboard`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resdet import __version__
from resdet.evaluation.analysis.image_noise import MIN_IMAGES, points
from resdet.evaluation.transferability.rank_correlation import RankCorrelation
from resdet.printable import counted
from resdet.report.ranking.leaderboard import Behind, Leaderboard, LeaderRow
from resdet.report.ranking.pareto_chart import front_of, pareto_chart
from resdet.report.render.charts import Look, Span, SpanRow, interval_chart
from resdet.report.render.html_template import html_of
from resdet.run.folder import utc_now, write_json, write_text
from resdet.text_table import ruled

FROZEN = (
    "The order is that of frozen backbones: what a full training learns is in no interval, and can "
    "turn it, between families most (--finalists trains the first ones in full)."
)
# Share of its measuring that a row waited for a core; more is told.
MOST_WAITED = 0.2
HEAD = (
    "rank", "backbone", "AP", "behind the first", "LogME", "with boxes", "parameters",
    "multiply-adds", "ms", "memory", "licence", "full training",
)  # fmt: skip


def cells(board: Leaderboard) -> list[list[str]]:
    """The rows of the table, as text; columns as `HEAD` has them."""
    return [_cells(board, place, row) for place, row in enumerate(board.rows)]


def _cells(board: Leaderboard, place: int, row: LeaderRow) -> list[str]:
    facts = row.facts
    group = board.groups[row.group - 1]
    rank = f"{place + 1}" if len(group) == 1 else f"{group[0] + 1}–{group[-1] + 1}"
    return [
        rank,
        row.label,
        f"{100 * row.ap:.1f}",
        _limits(row.behind),
        _decimal(facts.get("logme")),
        _decimal(facts.get("total_logme")),
        in_millions(facts.get("parameters")),
        in_millions(facts.get("multiply_adds")),
        _whole(facts.get("ms")),
        _whole(facts.get("memory_mb"), " MB"),
        str(facts.get("license") or "–"),
        " ".join(f"{100 * value:.1f}" for value in row.full) or "–",
    ]


def _limits(behind: Behind | None) -> str:
    if behind is None:
        return ""
    if behind.low is None or behind.high is None:
        return points(behind.difference)
    low, high = points(behind.low), points(behind.high)
    return f"{points(behind.difference)} ({low} to {high})"


def _decimal(value: Any) -> str:
    return f"{value:.3f}".replace("-", "−") if isinstance(value, int | float) else "–"


def _whole(value: Any, unit: str = "") -> str:
    return f"{value:.0f}{unit}" if isinstance(value, int | float) else "–"


def in_millions(value: Any) -> str:
    """Of parameters and multiply-adds.

    Example:
        >>> in_millions(25_557_032), in_millions(4_089_184_256), in_millions(None)
        ('25.6 M', '4.1 G', '–')
    """
    if not isinstance(value, int | float):
        return "–"
    return f"{value / 1e9:.1f} G" if value >= 1e9 else f"{value / 1e6:.1f} M"


def table(board: Leaderboard) -> str:
    """For a terminal."""
    lines = [
        f"{len(board.rows)} backbones on {board.data_set}, {board.images:,} test images; "
        f"{board.metric.title} and differences in percent, 95 % intervals"
    ]
    shown = [n for n in range(len(HEAD)) if n < 4 or any(row[n] != "–" for row in cells(board))]
    rows = [[row[n] for n in shown] for row in cells(board)]
    lines += ruled([HEAD[n] for n in shown], rows, left=(1,))
    return "\n".join([*lines, "", *notes(board)])


def notes(board: Leaderboard) -> list[str]:
    """What stands below the table."""
    lines = board.group_sentences()
    if board.verdict.comparable:
        lines.append(f"{board.verdict.stamp}. {board.verdict.sentence}")
    else:
        lines.append(f"{board.verdict.stamp}: {'; '.join(board.verdict.reasons)}.")
    if all(row.behind is None or row.behind.low is None for row in board.rows):
        lines.append(
            f"{counted(board.images, 'test image')}, fewer than an interval needs "
            f"({MIN_IMAGES}), or other images of each row: the order is not known."
        )
    elif board.seed_deviation is None:
        lines.append("One seed each: intervals hold the noise of the images alone (--seeds 2).")
    else:
        lines.append(
            "Intervals hold the noise of the images and of the seeds; one training moves AP by "
            f"{100 * board.seed_deviation:.1f} points (standard deviation over all rows)."
        )
    if not any(row.full for row in board.rows):
        lines.append(FROZEN)
    if busy := waiting({row.label: row.facts for row in board.rows}):
        lines.append(
            f"Column ms: the machine had other work, a quota or a slow disk while it was measured "
            f"({busy}). Remove rows/LABEL/cost.json of such a row, and rank measures it again."
        )
    if board.full_metric and board.full_metric != board.metric:
        lines.append(f"Full training: {board.full_metric.title}, as its set is scored.")
    lines += [f"{name}: {correlation_text(c)}." for name, c in board.correlations.items()]
    return lines


def waiting(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows that had no core while they were measured, for people; "" for none.

    Args:
        costs: of each label what its row was measured to cost (cost.json).

    Example:
        >>> waiting({"A": {"waited": 0.634}, "B": {"waited": 0.01}, "C": {}})
        'no core for a part of the time: A 63 %'
    """
    shares = {label: float(cost.get("waited", 0)) for label, cost in costs.items()}
    found = [
        f"{label} {100 * share:.0f} %" for label, share in shares.items() if share > MOST_WAITED
    ]
    return f"no core for a part of the time: {', '.join(found)}" if found else ""


def correlation_text(found: RankCorrelation) -> str:
    """Kendall's tau in words."""
    if found.tau is None:
        return "no correlation, as one of them has a single value"
    interval = "" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    text = f"Kendall's tau {found.tau:.2f}{interval} over {found.count} backbones"
    return text.replace("-", "−")  # as in the tables


def write_page(board: Leaderboard, page: Path, as_json: Path) -> None:
    """Writes the page and its numbers.

    Raises:
        RunError: Jinja2 is not installed.
    """
    looks = {row.label: Look(row.label, min(row.group - 1, 5)) for row in board.rows}
    spans = [
        SpanRow(
            row.label,
            f"AP {100 * row.ap:.1f}",
            100 * row.behind.difference,
            (Span("", 100 * row.behind.low, 100 * row.behind.high),),
            looks[row.label],
        )
        for row in board.rows[1:]
        if row.behind and row.behind.low is not None and row.behind.high is not None
    ]
    charts = {
        "time": pareto_chart(board.rows, "ms", "ms an image"),
        "size": pareto_chart(board.rows, "parameters", "parameters of the trunk, millions", 1e-6),
    }
    text = html_of(
        "leaderboard.html",
        styles=("report.css", "classifier.css"),
        board=board,
        head=HEAD,
        rows=list(zip(cells(board), sort_values(board), board.rows, strict=True)),
        notes=notes(board),
        intervals=interval_chart(
            spans, label="AP behind the first backbone", x_title="points of AP behind the first"
        )
        if spans
        else "",
        charts=charts,
        front=[row.label for row in front_of(board.rows, "ms")],
        metric=board.metric.title,
        version=__version__,
        made=utc_now(),
    )
    write_text(page, text)
    write_json(as_json, {"version": __version__, "made": utc_now(), **board.to_json()})


def sort_values(board: Leaderboard) -> list[list[Any]]:
    """What each cell is sorted by: numbers as numbers, names as names."""
    found = []
    for place, row in enumerate(board.rows):
        facts = row.facts
        found.append([
            place, row.label, row.ap, row.behind.difference if row.behind else 0.0,
            *(facts.get(k) if facts.get(k) is not None else ""
              for k in ("logme", "total_logme", "parameters", "multiply_adds", "ms", "memory_mb")),
            facts.get("license") or "", max(row.full, default=""),
        ])  # fmt: skip
    return found
