"""Figure 7 of He et al. 2015: standard deviations of the responses of 3x3 layers, of several nets.

Top: in the order of the layers. Bottom: the same values from the largest to the smallest.

Not for: measuring (`resdet.pretrain.analysis`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resdet.report.classifiers.count_picture import looks_of_titles
from resdet.report.render.charts import Look
from resdet.report.render.plot import PlotLine, axis_over, plot


@dataclass(frozen=True)
class NetResponses:
    """One net's responses.

    Attributes:
        layers: as `LayerResponse.to_json` has them, in the order of the net.
        facts: "net", "file" and so on, for JSON and tables.
    """

    title: str
    layers: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any]

    @property
    def stds(self) -> list[float]:
        return [float(layer["std"]) for layer in self.layers]

    @property
    def mean_std(self) -> float:
        """The mean over the layers."""
        return sum(self.stds) / len(self.stds)

    @property
    def without_norm(self) -> int:
        """How many responses are of a convolution that no norm follows."""
        return sum(layer["after"] != "norm" for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            **self.facts,
            "mean_std": self.mean_std,
            "median_std": median(self.stds),
            "layers_without_norm": self.without_norm,
            "layers": [dict(layer) for layer in self.layers],
            "sorted_std": sorted(self.stds, reverse=True),
        }


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def response_pictures(
    nets: Sequence[NetResponses], looks: Sequence[Look] | None = None, *, log_y: bool = False
) -> tuple[str, str]:
    """Two drawings as SVG: by layer, and sorted.

    Args:
        looks: one for each net; by default a hue for each.
    """
    looks = looks or looks_of_titles([net.title for net in nets])
    names = ", ".join(net.title for net in nets)
    values = [net.stds for net in nets]
    ordered = [sorted(stds, reverse=True) for stds in values]
    return (
        _drawn(looks, values, "3x3 layer, in the order of the net", f"by layer: {names}", log_y),
        _drawn(looks, ordered, "3x3 layer, sorted by magnitude", f"sorted: {names}", log_y),
    )


def _drawn(
    looks: Sequence[Look], values: Sequence[Sequence[float]], title: str, what: str, log_y: bool
) -> str:
    places = [list(range(1, len(v) + 1)) for v in values]
    x_axis = axis_over([float(max(map(len, values)))], title, is_log=False)
    y_axis = axis_over([s for v in values for s in v], "standard deviation", is_log=log_y)
    lines = [
        PlotLine(look, x, y, "line", has_dots=len(y) <= 40)
        for look, x, y in zip(looks, places, values, strict=True)
    ]
    return plot(lines, x_axis, y_axis, plot_height=220,
                label=f"Standard deviation of the responses of 3x3 layers, {what}")  # fmt: skip
