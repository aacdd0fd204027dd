"""Resampling, pictures and charts, each against outside knowledge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resdet.evaluation.analysis.image_noise import mean_ap
from resdet.evaluation.inputs.result_folder import evaluate_folder
from resdet.report import runs
from resdet.report.render import box_drawing, charts, pictures
from resdet.report.render.charts import Look, Series
from resdet.report.render.plot import WEIGHTS
from resdet.report.scores import read_scores

# -- resampling ----------------------------------------------------------------------------


def test_every_image_once_gives_the_area_rule(demo_runs: list[Path]) -> None:
    """`resdet.evaluation` on the same files."""
    for run in demo_runs[:2]:
        column = runs.read_columns(demo_runs[:2])[demo_runs.index(run)]
        found = read_scores(column, "digits_test")
        ones = np.ones((1, 60), dtype=np.int64)
        expected = evaluate_folder(run / "results" / "digits_test").to_json()["voc"]["area"]
        value = mean_ap(found.ranked_by_set, ones)[0, 0]
        assert value == pytest.approx(expected["mean_ap"], abs=1e-12)


# -- pictures ------------------------------------------------------------------------------

NAMES = {1: "cat", 2: "dog"}


def judged(truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[str]:
    return [box.kind for box in pictures.judged_boxes(truth, found, NAMES)]


def thing(category_id: int, x: float, **more: Any) -> dict[str, Any]:
    return {"category_id": category_id, "bbox": [x, 0.0, 10.0, 10.0], **more}


WIDE_CROWD = {"category_id": 1, "bbox": [0.0, 0.0, 100.0, 10.0], "iscrowd": 1}


@pytest.mark.parametrize(
    ("truth", "found", "kinds"),
    [
        pytest.param([], [], [], id="empty"),
        pytest.param([thing(1, 0)], [], ["missed"], id="missed"),
        pytest.param([thing(1, 0)], [thing(1, 1, score=0.9)], ["right"], id="right"),
        pytest.param([thing(1, 0)], [thing(2, 0, score=0.9)], ["wrong", "missed"], id="class"),
        pytest.param([thing(1, 0)], [thing(1, 5, score=0.9)], ["wrong", "missed"], id="apart"),
        pytest.param([thing(1, 0)], [thing(1, 0, score=0.49)], ["missed"], id="below-threshold"),
        pytest.param([thing(1, 0)], [thing(1, 0, score=0.5)], ["right"], id="at-threshold"),
        pytest.param(
            [thing(1, 0)],
            [thing(1, 0, score=0.6), thing(1, 1, score=0.8)],
            ["right", "wrong"],
            id="duplicate",
        ),
        pytest.param([thing(1, 0, difficult=1)], [thing(1, 0, score=0.9)], [], id="difficult"),
        pytest.param([thing(1, 0, iscrowd=1)], [], [], id="crowd"),
        pytest.param([WIDE_CROWD], [thing(1, 20, score=0.9)], [], id="within-a-crowd"),
        pytest.param(
            [WIDE_CROWD, thing(1, 20)],
            [thing(1, 20, score=0.9), thing(1, 20, score=0.8)],
            ["right"],
            id="right-and-again-within-a-crowd",
        ),
    ],
)
def test_boxes_are_right_wrong_or_missed(
    truth: list[dict[str, Any]], found: list[dict[str, Any]], kinds: list[str]
) -> None:
    """Worked by hand: boxes of 10 px, IoU of a shift by 1 is 9/11, by 5 is 1/3. COCO: in a crowd
    lies what has half of itself there, though its IoU is 0.1 here; an object comes before it."""
    assert judged(truth, found) == kinds


def test_boxes_are_drawn_where_they_are() -> None:
    """A right box is green on its edge and leaves its inside as it was."""
    photo = Image.new("RGB", (100, 100), "#808080")
    box = pictures.judged_boxes([thing(1, 10)], [thing(1, 10, score=0.97)], NAMES)[0]
    assert box.text == "cat .97"
    box_drawing.draw_boxes(photo, [box], (4.0, 4.0))
    assert photo.getpixel((40, 35)) == (0x1F, 0xD6, 0x7F)
    assert photo.getpixel((60, 35)) == (0x80, 0x80, 0x80)


BOTTOM_HALF = {"size": [10, 10], "counts": [5] * 20}  # of each column the lower five pixels


@pytest.mark.parametrize(
    "mask",
    [BOTTOM_HALF, [[0, 5, 10, 5, 10, 10, 0, 10]]],
    ids=["run lengths", "polygon"],
)
def test_a_mask_is_a_tint_of_its_own_pixels(mask: Any) -> None:
    """Ten pixels at four times the size: grey 128 above, and below 110 of 255 parts of green, of
    which 0x1f, 0xd6 and 0x7f are the channels."""
    photo = Image.new("RGB", (40, 40), "#808080")
    box = box_drawing.DrawnBox((0, 0, 1, 1), "", "right", mask=mask)
    box_drawing.draw_boxes(photo, [box], (4.0, 4.0))
    assert photo.getpixel((30, 19)) == (0x80, 0x80, 0x80)
    mixed = [round(128 + (c - 128) * 110 / 255) for c in (0x1F, 0xD6, 0x7F)]
    for place in ((30, 20), (39, 39)):
        assert np.abs(np.subtract(photo.getpixel(place), mixed)).max() <= 1


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [10, 10], "counts": "0"},
        {"size": [10, 10], "counts": [50, 51]},
        {"size": [10, 10], "counts": [-5, 105]},
        {"size": [20, 5], "counts": [0, 100]},
        {"size": [10, 10]},
        [[0, 0, 5]],
        [[0, 0, float("nan"), 5, 5, 5]],
        [[0, 0, 1e9, 0, 5, 5]],
        "mask",
        [],
    ],
    ids=str,
)
def test_a_damaged_mask_is_not_decoded(mask: Any) -> None:
    """pycocotools would read past its end; the box is drawn all the same."""
    photo, without = (Image.new("RGB", (40, 40), "#808080") for _ in range(2))
    for picture, given in ((photo, mask), (without, None)):
        box = box_drawing.DrawnBox((2, 2, 6, 6), "", "plain", mask=given)
        box_drawing.draw_boxes(picture, [box], (4.0, 4.0))
    assert np.array_equal(np.asarray(photo), np.asarray(without))


def test_labels_of_other_scripts_do_not_fail() -> None:
    """A font may lack glyphs; the caption has the counts in words anyway."""
    names = {1: "кошка 猫 \u200f"}
    box = pictures.judged_boxes([], [thing(1, 0, score=0.9)], names)[0]
    photo = Image.new("RGB", (40, 40))
    box_drawing.draw_boxes(photo, [box], (1.0, 1.0))
    assert box.text.startswith("кошка 猫")
    assert photo.getbbox() is not None  # something was drawn


# -- charts --------------------------------------------------------------------------------


def test_charts_have_no_colour_of_their_own_and_escape_names() -> None:
    """Light and dark come from the page; a file of its own carries the style."""
    look = Look("<b> & co", 1, 1)
    drawing = charts.line_chart(
        [Series(look, [0, 10], [1.0, 2.0])], label='"x"', x_title="x", y_title="y"
    )
    assert "&lt;b&gt; &amp; co" in drawing
    assert "#" not in drawing.replace("&#", "")
    alone = charts.standalone(drawing)
    assert 'xmlns="http://www.w3.org/2000/svg"' in alone
    assert "prefers-color-scheme: dark" in alone


def test_charts_of_nothing_and_of_one_point_are_drawn() -> None:
    """Empty and one, as style 4.6 asks."""
    assert "<svg" in charts.line_chart([], label="", x_title="", y_title="")
    one = Series(Look("a", 0), [5], [0.0])
    assert "M" in charts.line_chart([one], label="", x_title="", y_title="")


def test_every_hue_and_dash_has_its_style() -> None:
    """The looks that `runs` may give, against the style sheet."""
    css = charts.chart_css()
    for hue in range(runs.NUM_HUES):
        assert len(re.findall(rf"--hue-{hue}: #", css)) == 3  # light, dark, print
        assert f".hue-{hue} " in css
    for dash in range(1, 4):
        assert all(f".{weight}.dash-{dash}" in css for weight in WEIGHTS)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_contrast_in_light_and_dark() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for lines, on the page and on panels."""
    page = charts.chart_css() + (Path(charts.__file__).parent / "templates/report.css").read_text(
        "utf-8"
    )
    found = re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6})\b", page)
    values: dict[str, list[str]] = {}
    for name, value in found:
        full = value if len(value) == 7 else "#" + "".join(c * 2 for c in value[1:])
        values.setdefault(name, []).append(full)
    for mode in (0, 1):
        for back in ("paper", "panel"):
            ground = luminance(values[back][mode])
            for name, least in [("ink", 4.5), ("soft", 4.5)] + [(f"hue-{i}", 3) for i in range(6)]:
                colour = luminance(values[name][mode])
                ratio = (max(colour, ground) + 0.05) / (min(colour, ground) + 0.05)
                assert ratio >= least, (name, back, mode, ratio)
