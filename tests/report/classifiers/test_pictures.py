"""Drawings: every number inside the picture, thin and bold lines, axes of both scales, escaping."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from resdet.report.classifiers.count_picture import count_picture
from resdet.report.classifiers.curve_picture import curve_picture, looks_of
from resdet.report.classifiers.response_picture import NetResponses, median, response_pictures
from resdet.report.classifiers.training_curves import read_curves
from resdet.report.render.charts import Look, standalone
from resdet.report.render.plot import PlotAxis, PlotLine, axis_over, plot
from tests.support.classifier_runs import write_run

EVIL = '<script>alert("1")</script>'


def elements(drawing: str, tag: str, css: str = "") -> list[ET.Element]:
    root = ET.fromstring(standalone(drawing))
    return [
        e
        for e in root.iter()
        if e.tag.endswith(tag) and (not css or css in e.get("class", "").split())
    ]


def points(path: ET.Element) -> list[tuple[float, float]]:
    pairs = re.findall(r"([\d.]+) ([\d.]+)", path.attrib["d"])
    return [(float(x), float(y)) for x, y in pairs]


def test_a_linear_axis_begins_at_0_and_ends_round() -> None:
    axis = axis_over([3.0, 87.0], "x", is_log=False)
    assert (axis.low, axis.high) == (0.0, 100.0)
    assert axis.place(50.0) == 0.5 and axis.place(1000.0) == 1.0
    assert axis_over([99.9], "x", is_log=False, at_most=100.0).high == 100.0
    assert axis_over([], "x", is_log=False).high == 1.0


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    """By hand: 10 is half way from 1 to 100; marks at 1, 2 and 5 times powers of ten."""
    axis = PlotAxis("x", 1.0, 100.0, True)
    assert axis.place(10.0) == pytest.approx(0.5)
    assert axis.marks() == [1, 2, 5, 10, 20, 50, 100]
    assert axis_over([0.0, -1.0, 4.0], "x", is_log=True) == PlotAxis("x", 0.4, 4.0, True)
    few = axis_over([34.4, 85.9], "x", is_log=True, at_most=100.0)
    assert (few.low, few.high, few.marks()) == (20.0, 100.0, [20, 50, 100])
    assert PlotAxis("x", 1.0, 1e7, True).marks() == [10.0**d for d in range(8)]


def test_a_line_breaks_where_there_is_no_number() -> None:
    line = PlotLine(Look("a", 0), [1, 2, 3, 4, 5], [1.0, 2.0, math.nan, 4.0, 5.0])
    axis = axis_over([5.0], "x", is_log=False)
    (path,) = elements(plot([line], axis, axis, label="l"), "path", "line")[1:]
    assert path.attrib["d"].count("M") == 2


@pytest.mark.parametrize(("log_x", "log_y"), [(False, False), (True, True)])
def test_curves_are_thin_and_bold(tmp_path: Path, log_x: bool, log_y: bool) -> None:
    """One line each per run, all points within the frame; drops that both have are drawn once."""
    runs = read_curves([
        write_run(tmp_path / net, f"cifar_{net}", {20: 80.0, 60: 40.0, 100: 20.0}, {50: 45.0},
                  final=25.0, steps=(50,))
        for net in ("plain20", "resnet20")
    ])  # fmt: skip
    drawing = curve_picture(runs, log_x=log_x, log_y=log_y)
    thin, bold = elements(drawing, "path", "thin"), elements(drawing, "path", "bold")
    assert (len(thin), len(bold)) == (2, 2)
    assert [len(points(path)) for path in (*thin, *bold)] == [3, 3, 2, 2]
    assert len(elements(drawing, "path", "mark")) == 1
    width, height = (float(v) for v in ET.fromstring(drawing).attrib["viewBox"].split()[2:])
    for path in (*thin, *bold):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points(path))
    assert [look.dash for look in looks_of(runs)] == [1, 0]


def test_a_plateau_is_marked_in_the_colour_of_its_run(tmp_path: Path) -> None:
    """A run that has not come so far says nothing against a drop of all others."""
    decisions = [{"step": 30, "why": "plateau", "error": 1.0, "lowest": 0.9}]
    train = {20: 80.0, 40: 60.0}
    runs = read_curves([
        write_run(tmp_path / "a", "resnet18", train, decisions=decisions, steps=(20,)),
        write_run(tmp_path / "b", "resnet34", train, steps=(20,)),
        write_run(tmp_path / "c", "resnet50", {10: 90.0}, state="training", steps=(20,)),
    ])  # fmt: skip
    drawing = curve_picture(runs)
    marks = [e.attrib["class"] for e in elements(drawing, "path", "mark")]
    assert sorted(marks) == ["mark", "mark hue-0 dash-0"]
    assert "plateau" in [e.text for e in elements(drawing, "text")]


def test_many_runs_share_a_hue_per_depth(tmp_path: Path) -> None:
    """Eight nets of four depths: four hues, plain ones dashed."""
    nets = [f"cifar_{kind}{depth}" for depth in (20, 32, 44, 56) for kind in ("plain", "resnet")]
    runs = read_curves([write_run(tmp_path / n, n, {20: 50.0}) for n in nets])
    assert [(look.hue, look.dash) for look in looks_of(runs)] == [
        (hue, dash) for hue in range(4) for dash in (1, 0)
    ]


def net(title: str, stds: list[float]) -> NetResponses:
    layers = tuple({"name": f"l{i}", "after": "norm", "std": s} for i, s in enumerate(stds))
    return NetResponses(title, layers, {"net": "x"})


def test_responses_are_drawn_by_layer_and_sorted() -> None:
    """The second picture has the same heights, falling; names are escaped."""
    nets = [net(EVIL, [1.0, 3.0, 2.0]), net("b", [0.5, 0.1])]
    by_layer, ordered = response_pictures(nets)
    assert "<script" not in by_layer and "&lt;script&gt;" in by_layer
    first = points(elements(by_layer, "path", "line")[2])
    second = points(elements(ordered, "path", "line")[2])
    assert sorted(y for _, y in first) == [y for _, y in second]
    assert len(first) == 3
    values = nets[0].to_json()
    assert (values["mean_std"], values["median_std"], values["sorted_std"]) == (2, 2, [3, 2, 1])
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5


@pytest.mark.parametrize(("most", "unit"), [(2e9, "1e9"), (4e7, "1e6"), (500, "adds")])
def test_counts_have_a_readable_unit(most: float, unit: str) -> None:
    drawing = count_picture([EVIL, "b"], [{"stem": int(most), "head": 1}, {"stem": 0}])
    assert len(elements(drawing, "rect", "bar")) == 3
    assert any(str(e.text).endswith(unit) for e in elements(drawing, "text", "title"))
    assert "<script" not in drawing
