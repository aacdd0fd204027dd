"""Multiply-adds of each stage as bars, one for each net.

Not for: counting (`resdet.nets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resdet.report.render.charts import Bars, Look, bar_chart, ticks

NUM_HUES = 6


def looks_of_titles(titles: Sequence[str]) -> list[Look]:
    """A hue for each, then dashes."""
    return [Look(title, i % NUM_HUES, i // NUM_HUES % 4) for i, title in enumerate(titles)]


def count_picture(titles: Sequence[str], stages: Sequence[Mapping[str, int]]) -> str:
    """The drawing as SVG.

    Args:
        stages: per net the multiply-adds of each stage by its name, in order.
    """
    names = list(dict.fromkeys(name for each in stages for name in each))
    most = max((v for each in stages for v in each.values()), default=1) or 1
    unit = "1e9" if most >= 1e8 else "1e6" if most >= 1e5 else "1"
    scale = float(unit)
    rows = [
        Bars(name, tuple(each[name] / scale if name in each else None for each in stages))
        for name in names
    ]
    x_title = "multiply-adds" + ("" if unit == "1" else f", {unit}")
    return bar_chart(rows, looks_of_titles(titles), x_max=ticks(most / scale, 4)[-1],
                     x_title=x_title, label="Multiply-adds of each stage")  # fmt: skip
