"""Whether a gain can be bet on, which errors it removes, and where two detectors differ most."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resdet.evaluation.analysis.image_noise import Interval
from resdet.report.comparison import backbone_gains, gain_noise
from resdet.report.comparison.contrasts import contrasts, rule
from resdet.report.comparison.error_shares import errors
from resdet.report.comparison.gain_noise import Bet
from resdet.report.comparison.pairs import Pair
from resdet.report.document import gather
from resdet.report.render import pictures
from resdet.report.runs import read_columns
from resdet.report.scores import Metric, read_scores
from resdet.run.folder import write_json
from tests.support import coco_json
from tests.support.fabricate import fabricate_run

METRIC = Metric("AP", "COCO bbox", "AP (COCO)")


def bet(before: list[float], after: list[float], low: float | None, high: float | None) -> Bet:
    """A gain with these seeds and this interval of image noise."""
    values = [*before, *after]
    pair = Pair(tuple(range(len(before))), tuple(range(len(before), len(values))), "net")
    interval = None
    if low is not None and high is not None:
        interval = Interval(low, high, 1000, 500, (low + high) / 2, (high - low) / 4)
    made = backbone_gains.gain(pair, "s", METRIC, values, [{}] * len(values), interval)
    assert made is not None
    return Bet(made)


@pytest.mark.parametrize(
    ("made", "answer", "why"),
    [
        pytest.param(bet([0.5], [0.6], 0.05, 0.15), gain_noise.IMAGES_ONLY, "", id="one-seed"),
        pytest.param(bet([0.5], [0.6], -0.01, 0.2), gain_noise.NO, "the images", id="few-images"),
        pytest.param(bet([0.5], [0.6], None, None), gain_noise.UNKNOWN, "", id="nothing-known"),
        pytest.param(
            bet([0.50, 0.51], [0.60, 0.61], 0.05, 0.15), gain_noise.YES, "", id="small-spread"
        ),
        pytest.param(
            bet([0.40, 0.60], [0.50, 0.70], 0.05, 0.15),
            gain_noise.NO,
            "the seeds",
            id="large-spread",
        ),
        pytest.param(
            bet([0.495, 0.505, 0.5], [0.5095, 0.5195, 0.5145], 0.001, 0.028),
            gain_noise.NO,
            "together",
            id="only-together",
        ),
    ],
)
def test_a_bet_needs_a_gap_outside_both_noises(made: Bet, answer: str, why: str) -> None:
    """By hand: 0 in an interval or not. Two seeds 1 point apart: Welch's half width is 4.303
    (t, 2 degrees) times 0.00707 = 3.0 points of a gap of 10; 20 points apart: 61 points. Three
    seeds 0.5 points apart: 2.776 times 0.408 = 1.13 points of 1.45, images 1.35: together 1.76."""
    assert made.answer == answer
    assert why in made.unsupported_reason
    assert bool(why) == bool(made.unsupported_reason)


def test_both_noises_together_are_wider_than_either() -> None:
    """3.042 points (4.3027 x 0.7071) and 5 points as the legs of a right angle: 5.853."""
    low, high = bet([0.50, 0.51], [0.60, 0.61], 0.05, 0.15).together or (0.0, 0.0)
    assert (high - low) / 2 == pytest.approx(0.05853, abs=2e-5)
    assert (high + low) / 2 == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [
        pytest.param(3, 0.01, id="seeds-like-images"),
        pytest.param(3, 0.003, id="small-seed-noise"),
        pytest.param(5, 0.03, id="large-seed-noise"),
    ],
)
def test_both_noises_together_hold_the_true_gap(seeds: int, spread: float) -> None:
    """By simulation of normal noises whose sizes are known, 600 problems: at least 94 of 100 hold
    it (the interval is on the wide side; 2 standard errors of 95 are 1.8), and without the noise
    of seeds fewer do."""
    generator = np.random.default_rng(seeds)
    true, of_images, problems = 0.02, 0.01, 600
    held, held_by_images = 0, 0
    for _ in range(problems):
        shared = generator.normal(0, of_images)
        before = (0.5 + generator.normal(0, spread, seeds)).tolist()
        after = (0.5 + true + shared + generator.normal(0, spread, seeds)).tolist()
        gap = float(np.mean(after) - np.mean(before))
        limits = gap - 1.96 * of_images, gap + 1.96 * of_images
        low, high = bet(before, after, *limits).together or (0.0, 0.0)
        held += low <= true <= high
        held_by_images += limits[0] <= true <= limits[1]
    assert held >= 0.94 * problems
    assert held_by_images < held


def test_a_report_of_seeds_tells_two_noises_apart(tmp_path: Path) -> None:
    """Three seeds of two nets: one gain of means, its spread, an interval for each noise."""
    made = [
        fabricate_run(
            tmp_path / f"{net}{seed}", net=net, seed=seed, skill=skill + 0.01 * seed, num_images=60
        )
        for net, skill in (("vgg16", 0.5), ("resnet101", 0.8))
        for seed in (1, 2, 3)
    ]
    report = gather(made)
    (one,) = report.sets
    (gain,) = one.gains
    each = [s.value(one.gain_metric) for s in one.scores]
    assert gain.before == pytest.approx(np.mean(each[:3]))
    assert gain.after == pytest.approx(np.mean(each[3:]))
    assert one.trust.seeds is not None
    spreads = [row[3].text for row in one.trust.seeds.rows]
    assert spreads == [f"{100 * v:.1f}" for v in np.std(np.reshape(each, (2, 3)), axis=1, ddof=1)]
    assert report.headline.startswith("ResNet-101 is")
    assert "seed" not in report.headline
    (shown,) = one.trust.bets
    assert shown.together is not None
    assert one.trust.table is not None
    assert one.trust.table.rows[0][0].text == "A, B, C → D, E, F"


def test_title_gains_and_bet_are_of_one_metric_where_11_points_rank(make_report: Any) -> None:
    """VOC 2007's protocol ranks by 11 points, which have no interval: every gain that the page
    claims, and its interval, is by the area rule, as `evaluate` writes it. 11 points come after."""
    report = make_report({"skill": 0.5}, {"net": "vgg11"}, num_images=60)
    one = next(iter(report.json["sets"].values()))
    assert one["metric"]["protocol"] == "VOC 11-point"
    assert one["values"] == {x: one["voc"][x]["11-point"]["mean_ap"] for x in "AB"}
    first, second = one["gains"]
    gaps = {
        rule: one["voc"]["B"][rule]["mean_ap"] - one["voc"]["A"][rule]["mean_ap"]
        for rule in ("area", "11-point")
    }
    assert f"{100 * gaps['area']:.1f}" != f"{100 * gaps['11-point']:.1f}"  # or nothing is tested
    assert first["protocol"] == one["gain_metric"]["protocol"] == "VOC area"
    assert first["absolute"] == pytest.approx(gaps["area"])
    assert first["interval"]["difference"] == pytest.approx(first["absolute"], abs=1e-9)
    assert (second["protocol"], second["interval"]) == ("VOC 11-point", None)
    assert second["absolute"] == pytest.approx(gaps["11-point"])
    assert f"{abs(100 * gaps['area']):.1f} points" in report.json["headline"]
    for text in (report.text, report.markdown, report.html):
        assert "Two rules: AP50 (VOC 2007, 11 points) ranks" in text


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"voc_year": 2012}, id="area-ranks"),
        pytest.param({"evaluators": ("coco",), "voc_year": None}, id="coco"),
    ],
)
def test_one_rule_is_reported_to_be_one(make_report: Any, options: dict[str, Any]) -> None:
    report = make_report({"skill": 0.5}, {"net": "vgg11"}, **options)
    one = next(iter(report.json["sets"].values()))
    assert one["metric"] == one["gain_metric"]
    assert one["gains"][0]["protocol"] == one["metric"]["protocol"]
    assert "Two rules" not in report.html + report.markdown + report.text


def test_coco_sets_have_intervals_of_ap_and_ap50(make_report: Any) -> None:
    """Both from the same draws, and each holds its own measured gain."""
    report = make_report(
        {"skill": 0.5}, {"net": "vgg11"}, num_images=60, evaluators=("coco",), voc_year=None
    )
    gains = next(iter(report.json["sets"].values()))["gains"]
    assert [g["metric"] for g in gains] == ["AP (COCO, IoU .50 to .95)", "AP50 (COCO)"]
    for g in gains:
        assert g["interval"]["difference"] == pytest.approx(g["absolute"], abs=1e-9)
        assert g["interval"]["low"] < g["absolute"] < g["interval"]["high"]
        assert g["noise"]["answer"] in (gain_noise.IMAGES_ONLY, gain_noise.NO)


# -- errors, and where two differ ------------------------------------------------------------

CATS = {
    "images": [{"id": i, "width": 100, "height": 80, "file_name": f"{i}.png"} for i in range(1, 5)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "info": {"data_set": "cats", "evaluators": ["coco"]},
}


def results_run(folder: Path, found: list[tuple[int, int, float]], pictures: Path | None) -> Path:
    """Four images with three cats each; `found` are (image, cat or dog at place, score)."""
    run = fabricate_run(folder, net=folder.name, num_images=2, data_set="cats", num_samples=0)
    here = run / "results" / "cats"
    boxes = [[10.0 + 30 * n, 10.0, 20.0, 20.0] for n in range(3)]
    annotations = [
        coco_json.annotation(3 * i + n, i, 1, box)
        for i in range(1, 5)
        for n, box in enumerate(boxes)
    ]
    write_json(here / "ground_truth.json.gz", {**CATS, "annotations": annotations})
    detections = [coco_json.detection(i, 1, boxes[n], score) for i, n, score in found]
    write_json(here / "coco_instances_results.json", detections)
    ids = [1, 2, 3, 4]
    about = {"data_set": "cats", "expected": ids, "evaluated": ids}
    write_json(here / "images.json", {**about, "image_folder": pictures and str(pictures)})
    for file in here.glob("comp4_*"):
        file.unlink()
    return run


@pytest.fixture
def two(tmp_path: Path) -> Any:
    """vgg11 finds one cat of image 1 and all of 2; resnet18 all of 1 and 3, two of 4, none of 2."""

    def make(pictures: Path | None) -> tuple[list[Any], list[Any]]:
        a = [(1, 0, 0.9), *((2, n, 0.8) for n in range(3)), (4, 0, 0.3)]
        b = [(i, n, 0.9) for i in (1, 3) for n in range(3)] + [(4, 0, 0.9), (4, 1, 0.7)]
        made = [
            results_run(tmp_path / "vgg11", a, pictures),
            results_run(tmp_path / "resnet18", b, pictures),
        ]
        columns = read_columns(made)
        return columns, [read_scores(c, "cats") for c in columns]

    return make


def test_objects_are_counted_by_who_finds_them(two: Any) -> None:
    """By hand, at any score: A has 1 + 3 + 0 + 1, B 3 + 0 + 3 + 2 of 12; both 1 + 0 + 0 + 1."""
    columns, scores = two(None)
    found = errors(columns, scores, [Pair((0,), (1,), "net")])
    assert found is not None
    (pair,) = found.pairs
    assert [cell.text for cell in pair.table.rows[0]] == ["all objects", "6", "3", "2", "1"]
    assert pair.sentences[0] == "Both find 2 of 12 objects, neither 1."
    missed = next(row for row in found.table.rows if row[0].text == "missed")
    assert [cell.note for cell in missed[1:]] == ["7", "4"]


def test_contrasts_follow_their_rule_and_list_what_is_missing(two: Any, tmp_path: Path) -> None:
    """At score 0.5: B is ahead by 2 in image 1, by 3 in 3, by 2 in 4; A by 3 in 2. Of equal ones
    4 comes first: both find none of it, but one of 1. There is no file of image 3."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in (1, 2, 4):
        Image.new("RGB", (100, 80), "#808080").save(pictures / f"{i}.png")
    _, scores = two(pictures)
    by_b, by_a = contrasts(scores, [Pair((0,), (1,), "net")])
    assert (by_b.winner, by_b.loser, by_a.winner, by_a.loser) == (1, 0, 0, 1)
    assert [s.image_id for s in by_b.samples] == ["4", "1"]
    assert [p.words for p in by_b.samples[0].panels] == [
        "2 right, 0 wrong, 1 missed",
        "0 right, 0 wrong, 3 missed",
    ]
    assert [s.image_id for s in by_a.samples] == ["2"]
    assert by_b.unseen == 1
    assert "1 that come before some of these" in rule([by_b, by_a])


def test_a_picture_of_another_shape_is_not_drawn_on(two: Any, tmp_path: Path) -> None:
    """Another file under the image's name would show boxes where nothing is."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(1, 5):
        Image.new("RGB", (80, 100) if i == 2 else (200, 160)).save(pictures / f"{i}.png")
    _, scores = two(pictures)
    found = contrasts(scores, [Pair((0,), (1,), "net")])
    assert [[s.image_id for s in c.samples] for c in found] == [["3", "4", "1"]]


@pytest.mark.parametrize(("exif", "corner"), [("apply", 0), ("ignore", 255)])
def test_pictures_are_turned_as_the_run_turned_them(
    two: Any, tmp_path: Path, exif: str, corner: int
) -> None:
    """Orientation 3 is half a turn: applied, the white corner is at the lower right."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    photo = Image.new("RGB", (200, 160))
    photo.paste("white", (0, 0, 8, 8))
    orientation = Image.Exif()
    orientation[0x0112] = 3
    for i in range(1, 5):
        photo.save(folder / f"{i}.png", exif=orientation)
    _, scores = two(folder)
    drawings = pictures.draw_sample([replace(s, exif=exif) for s in scores], 4)
    assert drawings is not None
    assert [d.picture.getpixel((2, 2)) for d in drawings] == [(corner,) * 3] * 2


def test_no_error_is_counted_where_nothing_is_to_be_found(tmp_path: Path) -> None:
    """A set whose images are empty has no anatomy, and the report none of its tables."""
    made = [fabricate_run(tmp_path / net, net=net, num_images=3) for net in ("vgg11", "resnet18")]
    for run in made:
        here = run / "results" / "digits_test"
        truth = json.loads(json.dumps({**CATS, "annotations": []}))
        truth["info"]["data_set"] = "digits_test"
        write_json(here / "ground_truth.json.gz", truth)
        write_json(here / "coco_instances_results.json", [])
        write_json(here / "images.json", {"expected": [1, 2, 3, 4], "evaluated": [1, 2, 3, 4]})
    columns = read_columns(made)
    scores = [read_scores(c, "digits_test") for c in columns]
    assert errors(columns, scores, [Pair((0,), (1,), "net")]) is None


def test_difficult_objects_need_not_be_found_where_voc_scores(tmp_path: Path) -> None:
    """VOC's rule: the objects are those that its own count has; COCO's alone has them all."""
    for evaluators in (("voc", "coco"), ("coco",)):
        runs = [
            fabricate_run(
                tmp_path / f"{net}{len(evaluators)}", net=net, num_images=20, evaluators=evaluators
            )
            for net in ("vgg11", "resnet18")
        ]
        columns = read_columns(runs)
        scores = [read_scores(c, "digits_test") for c in columns]
        found = errors(columns, scores, [Pair((0,), (1,), "net")])
        assert found is not None
        annotations = scores[0].truth["annotations"]
        difficult = sum(a["difficult"] for a in annotations)
        assert difficult > 0
        asked = len(annotations) - (difficult if "voc" in evaluators else 0)
        assert f"of {asked} objects" in found.pairs[0].sentences[0]
        assert found.fates.svg.count("part-0") == 1 + 2
