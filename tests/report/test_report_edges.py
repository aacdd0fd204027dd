"""Rare runs and hostile files: reported all the same, and nothing beyond their contents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from resdet.report import compare, runs
from resdet.report.comparison import backbone_gains, gain_noise
from resdet.report.comparison.backbone_gains import BackboneGain
from resdet.report.comparison.contrasts import Contrast, contrasts, rule
from resdet.report.comparison.error_shares import _moves_table
from resdet.report.comparison.pairs import Pair, pairs
from resdet.report.document import gather
from resdet.report.foreign_results import as_runs
from resdet.report.render import charts, tables
from resdet.report.render.charts import Look, Span, SpanRow
from resdet.report.runs import read_columns
from resdet.report.scores import read_scores
from tests.report.test_report_bets import bet, results_run
from tests.report.test_report_words import column
from tests.support.fabricate import detections, fabricate_run, ground_truth

SHARED = {"num_images": 8, "num_samples": 0}


def truth(num_images: int = 60, classes: Sequence[str] = ("cat", "dog")) -> dict[str, Any]:
    """A COCO set without difficult objects."""
    made = ground_truth("x", classes, classes, num_images, ("coco",), None)
    for item in made["annotations"]:
        item["difficult"] = 0
    return made


def report_of(
    folder: Path,
    gt: dict[str, Any],
    found: Sequence[tuple[str, Any]],
    images: Path | None = None,
) -> SimpleNamespace:
    """The report of results files by name: its page and its JSON."""
    (folder / "gt.json").write_text(json.dumps(gt), encoding="utf-8")
    named = []
    for number, (name, entries) in enumerate(found):
        file = folder / f"{number}.json"
        file.write_text(json.dumps(entries), encoding="utf-8")
        named.append((name, file))
    made = as_runs(named, folder / "gt.json", folder / "runs", images=images)
    paths = compare(made, folder / "report")
    return SimpleNamespace(
        html=paths.html.read_text(encoding="utf-8"),
        json=json.loads(paths.json.read_text(encoding="utf-8")),
    )


def pictures_of(gt: dict[str, Any], folder: Path, size: tuple[int, int] = (144, 144)) -> Path:
    folder.mkdir()
    for image in gt["images"]:
        Image.new("RGB", size).save(folder / image["file_name"])
    return folder


# -- nothing breaks the report ---------------------------------------------------------------


@pytest.mark.parametrize("skill", [0.7, None], ids=["the-same-twice", "no-detection"])
def test_detectors_without_any_difference_are_level(tmp_path: Path, skill: float | None) -> None:
    """Every draw has a gap of 0, and so has the interval."""
    found = detections(truth(), skill, 1) if skill else []
    report = report_of(tmp_path, truth(), [("a", found), ("b", found)])
    assert report.json["headline"] == "a and b are level"


def test_an_interval_of_nothing_is_drawn() -> None:
    """An axis needs two ends, though all stands at 0."""
    row = SpanRow("A → B", "AP", 0.0, (Span("images", 0.0, 0.0),), Look("B", 0))
    assert "nan" not in charts.interval_chart([row], label="x", x_title="points").lower()


def test_a_file_that_cannot_be_looked_for_is_no_picture(tmp_path: Path) -> None:
    """A name of 300 letters, and one that is a number: both without a file."""
    gt = truth()
    folder = pictures_of(gt, tmp_path / "images")
    gt["images"][0]["file_name"], gt["images"][59]["file_name"] = "a" * 300, 7
    found = [("a", detections(gt, 0.7, 1)), ("b", [])]
    assert "data:image/jpeg" in report_of(tmp_path, gt, found, folder).html


def test_an_image_one_pixel_high_is_drawn(tmp_path: Path) -> None:
    """2000 x 1, made 400 wide, would be a fifth of a pixel high."""
    gt = truth()
    for image in gt["images"]:
        image["width"], image["height"] = 2000, 1
    for item in gt["annotations"]:
        item["bbox"][1], item["bbox"][3] = 0.0, 1.0
        item["area"] = item["bbox"][2]
    folder = pictures_of(gt, tmp_path / "images", (2000, 1))
    found = [{**a, "score": 0.9} for a in gt["annotations"]]
    report = report_of(tmp_path, gt, [("a", found), ("b", [])], folder)
    assert 'width="400" height="1"' in report.html


def test_a_line_break_in_a_class_name_fails_no_picture(tmp_path: Path) -> None:
    """Pillow measures single lines only."""
    gt = truth(classes=("two\nlines", "dog"))
    folder = pictures_of(gt, tmp_path / "images")
    found = [("a", detections(gt, 0.7, 1)), ("b", [])]
    assert "data:image/jpeg" in report_of(tmp_path, gt, found, folder).html


def test_a_backslash_cannot_take_the_escape_from_a_bar() -> None:
    r"""CommonMark: \\| is a backslash and a bar that divides cells; \\\| is both as text."""
    assert tables.escape_markdown(r"a\|b") == r"a\\\|b"


# -- nothing is reported beyond what is known ----------------------------------------------------


def test_three_foreign_detectors_are_not_called_under_one_detector(tmp_path: Path) -> None:
    """How they were made is not known."""
    found = [(name, detections(truth(), 0.7 - n / 10, n)) for n, name in enumerate("abc")]
    assert report_of(tmp_path, truth(), found).json["headline"] == "a, b and c on the same images"


def test_few_images_and_many_seeds_tell_of_seeds_alone(tmp_path: Path) -> None:
    """30 images have no interval (fewer than 50); three seeds have Welch's."""
    gt = truth(30)
    found = [(n, detections(gt, s, i)) for n, s in (("a", 0.3), ("b", 0.7)) for i in (1, 2, 3)]
    report = report_of(tmp_path, gt, found)
    assert "for other seeds; too few images to know of others" in report.html
    assert "Welch" in report.html and "fewer than 50" in report.html
    assert "another seed would move them is not known" not in report.html


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([0.5], [0.6], "one seed each"),
        ([0.5], [0.6, 0.61], "one seed on one side"),
        ([0.5, 0.5], [0.6, 0.6], "all seeds of a side equal"),
    ],
)
def test_why_seeds_are_not_known_is_reported_as_it_is(
    before: list[float], after: list[float], words: str
) -> None:
    """One seed, or a spread of 0, has no interval."""
    made = bet(before, after, 0.05, 0.15)
    assert made.answer == gain_noise.IMAGES_ONLY
    assert made.words == f"for other images; {words}, so seeds are not known"


def pretraining(after: float) -> tuple[list[Any], BackboneGain]:
    made = bet([0.5], [after], None, None).gain
    pair = Pair((0,), (1,), "pretraining")
    return [column("V", False), column("V", True)], BackboneGain(
        pair, "s", made.metric, made.values
    )


def test_pretraining_inside_noise_is_not_given_as_a_gain() -> None:
    """The title is all that many read."""
    columns, gain = pretraining(0.503)
    verdict: Any = SimpleNamespace(comparable=True, results_only=False)
    text = backbone_gains.headline(columns, [gain], verdict, {gain.pair})
    assert text == "Pretraining gives +0.3 points to V (inside noise)"


def test_noise_of_images_that_is_not_known_is_not_left() -> None:
    """Only the noise of seeds is known; and a loss is no gain."""
    columns, gain = pretraining(0.6)
    noise = {gain.pair: "Outside the noise of 3 seeds."}
    text = " ".join(backbone_gains.standfirst(columns, [gain], noise, set()))
    assert "test images" not in text
    assert text.endswith("Outside the noise of 3 seeds.")
    columns, gain = pretraining(0.4)
    text = " ".join(backbone_gains.standfirst(columns, [gain], {gain.pair: "x"}, {gain.pair}))
    assert text.endswith("The difference is larger than the noise of the test images.")


# -- who stands with whom --------------------------------------------------------------------


def test_nets_that_are_built_otherwise_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    """Another shortcut is another backbone, under the same name; another seed is not."""
    options: list[dict[str, Any]] = [{"overrides": {"MODEL.NET.SHORTCUT": "A"}}, {}, {}]
    made = [
        fabricate_run(tmp_path / str(i), seed=i, **SHARED, **more) for i, more in enumerate(options)
    ]
    groups = [c.group for c in read_columns(made)]
    assert groups[0] != groups[1] == groups[2]
    assert "runs per backbone differ" in " ".join(gather(made).verdict.reasons)


def test_nets_of_the_same_pretraining_are_set_side_by_side(tmp_path: Path) -> None:
    """V on x and y, R on y and x: x against x, in the order of V's."""
    made = [
        fabricate_run(
            tmp_path / f"{net}{data}",
            net=net,
            card_changes={"data": {"name": data, "hash": data}},
            **SHARED,
        )
        for net, data in (("vgg11", "x"), ("vgg11", "y"), ("resnet18", "y"), ("resnet18", "x"))
    ]
    assert pairs(runs.read_columns(made)) == [
        Pair((0,), (3,), "net"),
        Pair((1,), (2,), "net"),
    ]


def test_two_causes_are_named_with_several_seeds_too(tmp_path: Path) -> None:
    """One net pretrained, the other from scratch, two seeds of each."""
    made = [
        fabricate_run(tmp_path / f"{net}{seed}", net=net, seed=seed, pretrained=p, **SHARED)
        for net, p in (("vgg11", True), ("resnet18", False))
        for seed in (1, 2)
    ]
    assert "the gain mixes two causes" in " ".join(gather(made).verdict.cautions)


# -- objects ---------------------------------------------------------------------------------


def test_difficult_objects_count_in_pictures_where_coco_alone_scores(tmp_path: Path) -> None:
    """Its rules know no difficult objects; VOC's leave them out."""
    for evaluators, flags in ((("coco",), {0}), (("voc", "coco"), {0, 1})):
        made = [
            fabricate_run(tmp_path / f"{net}{len(evaluators)}", net=net, evaluators=evaluators)
            for net in ("vgg11", "resnet18")
        ]
        scores = read_scores(read_columns(made)[0], "digits_test")
        found = {a["difficult"] for i in scores.evaluated for a in scores.truth_of(i)}
        assert found == flags


def test_of_very_many_classes_those_with_the_least_change_are_cut() -> None:
    """101 classes that gain 1 and one that loses 50: the loss is no small change."""

    def part(after: int, before: int) -> dict[str, Any]:
        return {
            "only_after": {"total": after}, "only_before": {"total": before},
            "both": 0, "neither": {"total": 0},
        }  # fmt: skip

    by_class = {f"c{i}": part(1, 0) for i in range(101)} | {"loser": part(0, 50)}
    tree = {"objects": part(101, 50), "by_size": {}, "by_class": by_class}
    moves: Any = SimpleNamespace(to_json=lambda: tree)
    named: Any = [SimpleNamespace(letter="A"), SimpleNamespace(letter="B")]
    table = _moves_table(named, moves, 0, 1)
    assert table.rows[1][0].text == "loser"


def test_contrasts_do_not_depend_on_the_order_of_a_file(tmp_path: Path) -> None:
    """B, whose file lists the same objects backwards, finds one more in images 1 and 4. In 4 both
    find none of the same, in 1 they find cat 0: so 4 comes first."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in (1, 4):
        Image.new("RGB", (100, 80)).save(pictures / f"{i}.png")
    a = [(1, 0, 0.9), (4, 0, 0.9), (2, 0, 0.9)]
    b = [(1, 0, 0.9), (1, 1, 0.9), (4, 1, 0.9), (4, 2, 0.9)]
    made = [results_run(tmp_path / net, f, pictures) for net, f in (("vgg11", a), ("resnet18", b))]
    scores = [read_scores(c, "cats") for c in read_columns(made)]
    scores[1].truth["annotations"].reverse()
    found = contrasts(scores, [Pair((0,), (1,), "net")])
    assert [s.image_id for s in found[0].samples] == ["4", "1"]
    # A is ahead in image 2 alone, which has no file: nothing is shown of it, nothing left out.
    assert len(found) == 1
    assert "left out" not in rule(found)


def test_contrasts_of_many_pairs_stay_within_their_room(tmp_path: Path) -> None:
    """Where the worst quality is too large still, fewer are shown of each; never more than fits."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(1, 5):
        Image.effect_noise((100, 80), 90).save(pictures / f"{i}.png")
    every = [(i, n, 0.9) for i in range(1, 5) for n in range(3)]
    made = [
        results_run(tmp_path / net, f, pictures) for net, f in (("vgg11", []), ("resnet18", every))
    ]
    columns = [read_scores(c, "cats") for c in read_columns(made)]
    pair = [Pair((0,), (1,), "net")]
    (all_of_them,) = contrasts(columns, pair)
    assert len(all_of_them.samples) == 3

    def size(found: list[Contrast]) -> int:
        return sum(len(panel.jpeg) for c in found for s in c.samples for panel in s.panels)

    shown = {}
    whole = size([all_of_them])
    for room in range(whole // 16, whole, whole // 16):
        found = contrasts(columns, pair, max_bytes=room)
        assert size(found) <= room
        shown[room] = sum(len(c.samples) for c in found)
    assert set(shown.values()) == {0, 1, 2, 3}
    assert list(shown.values()) == sorted(shown.values())
