"""The plots of a report: learning curves, precision against recall, gains per class.

Not for: drawing (`charts`), or the numbers (`scores`, `backbone_gains`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resdet.report.comparison.backbone_gains import BackboneGain, letters, percent, points, side
from resdet.report.curves import RECALL, Curves
from resdet.report.render import charts
from resdet.report.render.charts import Bars, Look, Series
from resdet.report.runs import Column

MAX_SMALL_MULTIPLES = 80
MAX_BARS = 28


@dataclass(frozen=True)
class Figure:
    """A drawing with what stands below it; `name` is its file name in the Markdown report."""

    name: str
    title: str
    caption: str
    svg: str


def look(column: Column) -> Look:
    return Look(f"{column.letter}  {column.label}", column.hue, column.dash)


def _side_look(columns: Sequence[Column], places: Sequence[int]) -> Look:
    """Of one side of a pair: its run, or its seeds together."""
    first = columns[places[0]]
    name = f"{letters(columns, places)}  {side(columns, places)}"
    return Look(name, first.hue, first.dash)


def learning_curves(columns: Sequence[Column]) -> Figure | None:
    """Total training loss against iterations; None where no run has any."""
    series, widths = [], set()
    for column in columns:
        by_iteration = _by_iteration(column, lambda row: row.get("total_loss"))
        if by_iteration:
            x, losses = list(by_iteration), list(by_iteration.values())
            width = max(1, len(losses) // 12)
            widths.add(width)
            series.append(Series(look(column), x, moving_mean(losses, width), losses))
    if not series:
        return None
    span = f"{min(widths)} to {max(widths)}" if len(widths) > 1 else f"{max(widths)}"
    return Figure(
        "learning_curves",
        "Learning curves",
        f"Training loss, all terms. Bold: moving mean over {span} entries of the log; "
        "faint: each entry.",
        charts.line_chart(
            series,
            label="Training loss of each run against iterations",
            x_title="iteration",
            y_title="total loss",
        ),
    )


def validation_curves(columns: Sequence[Column]) -> Figure | None:
    """AP50 measured during training, where the runs did; None where none has two points."""
    series = []
    for column in columns:
        spots = _by_iteration(column, _validation_ap50)
        if spots:
            series.append(Series(look(column), list(spots), list(spots.values())))
    if max((len(s.x) for s in series), default=0) < 2:
        return None
    return Figure(
        "validation_curves",
        "During training",
        "AP50 on the set that was evaluated during training, percent.",
        charts.line_chart(
            series,
            label="AP50 of each run against iterations",
            x_title="iteration",
            y_title="AP50",
            y_max=100,
            markers=True,
        ),
    )


def precision_recall(columns: Sequence[Column], curves: Sequence[Curves]) -> Figure:
    """Mean over the classes of precision at each recall, IoU 0.5."""
    series = [
        Series(look(c), (RECALL * 100).tolist(), (one.mean() * 100).tolist())
        for c, one in zip(columns, curves, strict=True)
    ]
    return Figure(
        "precision_recall",
        "Precision and recall",
        "IoU 0.5, percent. Mean over classes of the best precision at this recall or beyond.",
        charts.line_chart(
            series,
            label="Precision of each run against recall",
            x_title="recall",
            y_title="precision",
            x_max=100,
            y_max=100,
        ),
    )


def precision_recall_per_class(
    columns: Sequence[Column], curves: Sequence[Curves]
) -> list[tuple[str, str]]:
    """(class, small drawing) for each class that has objects; none for very many classes."""
    names = [name for name in curves[0].classes if all(name in one.classes for one in curves)]
    if len(names) > MAX_SMALL_MULTIPLES:
        return []
    x = (RECALL[::2] * 100).tolist()
    return [
        (
            name,
            charts.line_chart(
                [
                    Series(look(c), x, (one.classes[name][::2] * 100).tolist())
                    for c, one in zip(columns, curves, strict=True)
                ],
                label=f"Precision against recall for {name}",
                x_title="",
                y_title="",
                x_max=100,
                y_max=100,
                width=200,
                plot_height=115,
                legend=False,
            ),
        )
        for name in names
    ]


def class_gains(columns: Sequence[Column], gain: BackboneGain) -> list[Figure]:
    """AP of each class in both runs, the class with the largest gain first.

    Many classes are spread over several drawings, so that none is taller than a screen.
    """
    before, after = (_side_look(columns, places) for places in (gain.pair.before, gain.pair.after))
    a, b = (letters(columns, places) for places in (gain.pair.before, gain.pair.after))
    pair = f"{a} → {b}"
    parts = [gain.classes[i : i + MAX_BARS] for i in range(0, len(gain.classes), MAX_BARS)]
    return [
        Figure(
            f"class_gains_{a}{b}_{number}".replace(", ", ""),
            f"Per class, {pair}" + (f" ({number} of {len(parts)})" if len(parts) > 1 else ""),
            f"{gain.metric.title}, percent; at the right the gain in points. "
            f"Mean of all {percent(gain.before)} → {percent(gain.after)}.",
            charts.bar_chart(
                [Bars(c.name, (c.before * 100, c.after * 100), points(c.absolute)) for c in part],
                [before, after],
                label=f"AP per class of {before.name} and {after.name}, largest gain first",
                x_max=100,
                x_title=gain.metric.title,
            ),
        )
        for number, part in enumerate(parts, 1)
    ]


def moving_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean over up to `width` entries around each, fewer at the ends.

    Example:
        >>> moving_mean([1, 2, 6], 3)
        [1.5, 3.0, 4.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low = np.maximum(places - width // 2, 0)
    high = np.minimum(places + (width - 1) // 2 + 1, len(values))
    return [float(v) for v in (sums[high] - sums[low]) / (high - low)]


def _by_iteration(column: Column, value: Callable[[Mapping[str, Any]], Any]) -> dict[int, float]:
    """Iteration (from 1) to a value of metrics.json, ascending.

    A run that went on after a stop has written some iterations twice; the later line counts.
    """
    values = {
        int(row["iteration"]) + 1: float(number)
        for row in column.run.metrics()
        if _finite(number := value(row)) and "iteration" in row
    }
    return dict(sorted(values.items()))


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _validation_ap50(row: Mapping[str, Any]) -> float | None:
    """The last "…AP50" of a row of metrics.json, percent as Detectron2 writes it."""
    values = [v for k, v in row.items() if re.fullmatch(r"(.*/)?AP50", k) and _finite(v)]
    return float(values[-1]) if values else None
