"""Every rule by itself: against pycocotools, Detectron2's evaluator, brute force, and by hand."""

from __future__ import annotations

import argparse
import copy
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.cli import evaluate
from resdet.evaluation.analysis import explain
from resdet.evaluation.analysis.detection_errors import dissect
from resdet.evaluation.analysis.image_noise import mean_ap
from resdet.evaluation.analysis.ranked_detections import rank_coco
from resdet.evaluation.analysis.rule_outcomes import VERDICTS, as_written
from resdet.evaluation.coco.coco_rules import judge_coco
from resdet.evaluation.coco.matching import RECALLS
from resdet.evaluation.inputs.detections import read_columns
from resdet.evaluation.inputs.ground_truth import read_ground_truth
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.evaluation.voc.class_scores import ClassDetections, ClassObjects, best_objects, overlaps
from tests.support import coco_json
from tests.support.voc_xml import annotation, voc_object

Box = Sequence[float]


def problem(
    objects: Sequence[tuple[Any, ...]],
    found: Sequence[tuple[int, int, float, Box]],
    images: int = 1,
    classes: int = 1,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Instances and results; objects: (image, class, box[, flags]), boxes x, y, width, height."""
    annotations = []
    for number, (image, category, box, *flags) in enumerate(objects):
        entry = coco_json.annotation(number + 1, image, category, box)
        annotations.append({**entry, **(flags[0] if flags else {})})
    gt = {
        "images": [{"id": i, "width": 1000, "height": 1000} for i in range(1, images + 1)],
        "categories": [{"id": k, "name": f"class{k}"} for k in range(1, classes + 1)],
        "annotations": annotations,
    }
    results = [coco_json.detection(i, k, b, s) for i, k, s, b in found]
    return gt, results


def explained(gt: Any, results: Any) -> explain.Explanation:
    return explain.explain(gt, results)


def by_pycocotools(gt: Any, results: Any) -> float:
    """AP50 as everybody gets it: COCO, loadRes, COCOeval."""
    return float(coco_json.by_pycocotools(gt, results).stats[1])


def random_problem(
    seed: int, *, crowds: bool = True, whole: bool = False, ties: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Four images, three classes, near and far detections. whole: of whole pixels."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for _ in range(30):
        image, category = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        x, y, w, h = (float(v) for v in rng.integers([0, 0, 10, 10], [300, 300, 90, 90]))
        flags = {"difficult": int(rng.random() < 0.2)}
        if crowds:
            flags["iscrowd"] = int(rng.random() < 0.2)
        objects.append((image, category, (x, y, w, h), flags))
        for _ in range(rng.integers(0, 4)):
            dx, dy, dw, dh = rng.normal(0, 8, 4)
            box = [max(0.0, x + dx), max(0.0, y + dy), max(2.0, w + dw), max(2.0, h + dh)]
            score = float(rng.integers(1, 9)) / 8 if ties else float(rng.uniform(0.01, 1))
            found.append((image, category, score, np.round(box, 0 if whole else 3).tolist()))
    unique = {json.dumps(d): d for d in found}
    return problem(objects, list(unique.values()), images=4, classes=3)


@pytest.mark.parametrize("seed", range(8))
def test_coco_rules_equal_pycocotools_on_files_changed_so(seed: int) -> None:
    """Oracle: pycocotools on the same JSON with iscrowd 0, without crowds, with numbers cut."""
    gt, results = random_problem(seed)
    lost, without = copy.deepcopy(gt), copy.deepcopy(gt)
    for item in lost["annotations"]:
        item["iscrowd"] = 0
    without["annotations"] = [a for a in gt["annotations"] if not a["iscrowd"]]
    boxes = [{**r, "bbox": [round(v, 1) for v in r["bbox"]]} for r in results]
    scores = [{**r, "score": round(r["score"], 3)} for r in results]
    explanation = explained(gt, results)
    for key, expected in {
        "coco": by_pycocotools(gt, results),
        "coco-crowds-ordinary": by_pycocotools(lost, results),
        "coco-crowds-false": by_pycocotools(without, results),
        "coco-boxes-1": by_pycocotools(gt, boxes),
        "coco-scores-3": by_pycocotools(gt, scores),
    }.items():
        assert explanation[key].ap50 == pytest.approx(expected, abs=1e-12), key
    assert explanation["coco-crowds-ordinary"].positives == len(gt["annotations"])


def test_100_per_image_is_not_100_per_image_and_class() -> None:
    """F55: two classes with 60 false boxes and a true one at the end of each; then the best 100."""
    far = [(1, k, 0.9 - i / 1000, (500 + i, 500, 20, 20)) for i in range(60) for k in (1, 2)]
    true = [(1, k, 0.1, (10, 10, 20, 20)) for k in (1, 2)]
    gt, results = problem([(1, k, (10, 10, 20, 20)) for k in (1, 2)], far + true, classes=2)
    best = sorted(results, key=lambda r: -r["score"])[:100]
    explanation = explained(gt, results)
    assert explanation["coco"].ap50 == pytest.approx(1 / 61)
    assert explanation["coco-per-image"].ap50 == by_pycocotools(gt, best) == 0
    assert explanation["coco-per-image"].touched == 22
    assert explanation["coco-per-image"].first[0] == (
        "entry 100 (image 1), score 0.85: wrong, by this rule cut off"
    )


def test_a_box_larger_than_every_range_is_neither_right_nor_wrong() -> None:
    """Oracle: pycocotools, whose range "all" ends at an area of 1e10; what is larger and takes
    nothing is left out, and takes nothing away from the best 100."""
    found = [(1, 1, 0.9, (0, 0, 2e5, 2e5)), (1, 1, 0.8, (10, 10, 50, 50))]
    gt, results = problem([(1, 1, (10, 10, 50, 50))], found)
    assert explained(gt, results)["coco"].ap50 == pytest.approx(by_pycocotools(gt, results))
    assert by_pycocotools(gt, results) == pytest.approx(1)
    truth = read_ground_truth(gt)
    columns = read_columns(results, truth.index)[0]
    judged = judge_coco(truth, columns)
    assert [VERDICTS[v] for v in judged.verdict] == ["neither", "right"]
    anatomy = dissect(truth, columns)
    assert anatomy.ap50 == pytest.approx(1)
    assert sum(anatomy.counts.values()) == 0
    ap = mean_ap(rank_coco(truth, columns), np.ones((1, 1), dtype=np.int64), RECALLS)
    assert ap[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("decimals", [0, 1, 3])
def test_numbers_read_back_as_python_writes_them(decimals: int) -> None:
    """Oracle: format(). Halves are rounded by what the number is: 0.25 to 0.2, but 0.35 to 0.3."""
    rng = np.random.default_rng(5)
    values = np.concatenate([
        rng.uniform(-900, 900, 4000), np.round(rng.uniform(0, 900, 4000), decimals + 1),
        (rng.integers(0, 9999, 4000) + 0.5) / 10**decimals,
        [0.0, -0.0, -0.04, 0.25, 0.35, 1e15 + 0.3, 1e300, -1e300, 5e-324],
    ])  # fmt: skip
    expected = np.array([float(f"{v:.{decimals}f}") for v in values])
    written = as_written(values, decimals)
    np.testing.assert_array_equal(written, expected)
    np.testing.assert_array_equal(np.signbit(written), np.signbit(expected))
    columns = np.asfortranarray(values[:8000].reshape(-1, 4))
    np.testing.assert_array_equal(as_written(columns, decimals).ravel(), expected[:8000])


def test_an_overlap_of_a_half_is_right_or_not() -> None:
    """F53: exactly 0.5, once 10 x 10 in 10 x 20: by >= AP is 1, by > it is 0."""
    explanation = explained(*problem([(1, 1, (10, 10, 10, 20))], [(1, 1, 0.9, (10, 10, 10, 10))]))
    for block in ("coco", "voc-11-point", "voc-area"):
        assert explanation[block].ap50 == pytest.approx(1)
        strict = explanation[f"{block}-strict"]
        assert (strict.ap50, strict.change, strict.touched) == (0, pytest.approx(-1), 1)


def test_the_pixel_decides_small_boxes() -> None:
    """By hand, moved by 3: 9 wide 6/12 with the pixel, 5/11 without; 8 wide 5/11 and 6/12."""
    nine = explained(*problem([(1, 1, (0, 0, 9, 9))], [(1, 1, 0.9, (3, 0, 9, 9))]))
    assert (nine["voc-area"].ap50, nine["voc-area-no-pixel"].ap50) == (1, 0)
    eight = explained(*problem([(1, 1, (0, 0, 8, 9))], [(1, 1, 0.9, (3, 0, 8, 9))]))
    assert (eight["voc-area"].ap50, eight["voc-area-two-pixels"].ap50) == (0, 1)


def test_overlaps_with_and_without_the_pixel() -> None:
    """F53's figures: 0.571 to 0.538, and 0.487 to 0.471; no area at all overlaps nothing."""
    a = np.array([[0.0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 5, 5]])
    b = np.array([[3.0, 0, 13, 10], [4, 4, 24, 24], [5, 5, 5, 5]])
    assert overlaps(a, b).round(3).tolist() == [0.571, 0.487, 1.0]
    assert overlaps(a, b, 0.0).round(3).tolist() == [0.538, 0.471, 0.0]


def test_the_first_of_equal_overlaps_is_taken() -> None:
    """The devkit's rule: a later object must overlap more; objects stand in any order of images."""
    objects = ClassObjects(
        np.array([1, 0, 0]), np.array([[1.0, 1, 9, 9], [1, 1, 5, 5], [1, 1, 5, 5]]),
        np.zeros(3, dtype=bool),
    )  # fmt: skip
    found = ClassDetections(
        np.array([0, 2, 1]), np.array([[1.0, 1, 5, 5]] * 3), np.array([0.9, 0.8, 0.7])
    )
    best, overlap = best_objects(objects, found)
    assert best.tolist() == [1, -1, 0]
    assert overlap.tolist() == pytest.approx([1, 0, 25 / 81])


def test_recalls_of_three_tenths_miss_a_point_as_floats() -> None:
    """F54: 3 of 10 found, 4 points reached and as floats 3: 0.3636 and 0.2727."""
    objects = [(1, 1, (20 * i, 0, 10, 10)) for i in range(10)]
    found = [(1, 1, 0.9 - i / 10, (20 * i, 0, 10, 10)) for i in range(3)]
    explanation = explained(*problem(objects, found))
    assert explanation["voc-11-point"].ap50 == pytest.approx(4 / 11)
    assert explanation["voc-11-point-float-recalls"].ap50 == pytest.approx(3 / 11)


def test_rounding_makes_ties_that_decide() -> None:
    """F51: a right score of 0.00034 over a wrong 0.00031; both are 0.000: AP 1/2 or 1."""
    found = [(1, 1, 0.00031, (500, 0, 10, 10)), (1, 1, 0.00034, (0, 0, 10, 10))]
    explanation = explained(*problem([(1, 1, (0, 0, 10, 10))], found))
    for block in ("coco", "voc-area"):
        assert explanation[block].ap50 == pytest.approx(1)
        rounded = explanation[f"{block}-scores-3"]
        assert (rounded.low, rounded.high) == (pytest.approx(0.5), pytest.approx(1))
        assert rounded.touched == 2
        assert rounded.first[0] == "entry 1 (image 1), score 0.00034: right, in a tie"
        assert explanation[f"{block}-ties"].touched == 0


def test_a_decimal_of_a_box_decides_at_the_edge() -> None:
    """10 x 10, found as 10 x 4.96: 0.496, rounded 0.5; as 10 x 5.04: 0.504, rounded 0.5."""
    under = explained(*problem([(1, 1, (0, 0, 10, 10))], [(1, 1, 0.9, (0, 0, 10, 4.96))]))
    for block in ("coco", "voc-11-point", "voc-area"):
        assert under[block].ap50 == 0
        assert under[f"{block}-boxes-1"].ap50 == pytest.approx(1)
    over = explained(*problem([(1, 1, (0, 0, 10, 10))], [(1, 1, 0.9, (0, 0, 10, 5.04))]))
    assert (over["voc-area-strict"].ap50, over["voc-area-detectron2"].ap50) == (1, 0)


def test_difficult_objects_count_or_not() -> None:
    """By hand: the difficult one is found, the other is not: AP 0 of 1 object, or 1/2 of 2."""
    objects = [(1, 1, (0, 0, 10, 10), {"difficult": 1}), (1, 1, (50, 0, 10, 10))]
    explanation = explained(*problem(objects, [(1, 1, 0.9, (0, 0, 10, 10))]))
    out, counted = explanation["voc-area"], explanation["voc-area-difficult"]
    assert (out.ap50, out.positives) == (0, 1)
    assert (counted.ap50, counted.positives, counted.touched) == (0.5, 2, 1)
    assert counted.first == ("entry 0 (image 1), score 0.9: neither, by this rule right",)
    # COCO's tool does not know the flag.
    assert explanation["coco"].positives == 2


def test_a_class_without_an_object_is_left_out_or_counts_as_zero() -> None:
    """F89: one perfect class of two: 1, or 1/2; Detectron2's area rule has NaN once detected."""
    objects, hit = [(1, 1, (0, 0, 10, 10))], (1, 1, 0.9, (0, 0, 10, 10))
    explanation = explained(*problem(objects, [hit], classes=2))
    assert (explanation["voc-area"].ap50, explanation["voc-area-absent-zero"].ap50) == (1, 0.5)
    assert explanation["voc-area-detectron2"].ap50 == 0.5
    explanation = explained(*problem(objects, [hit, (1, 2, 0.5, (0, 0, 10, 10))], classes=2))
    assert explanation["voc-area-detectron2"].ap50 is None
    assert explanation["voc-11-point-detectron2"].ap50 == pytest.approx(0.5)
    assert "NaN" in explain.explain_table(explanation)


# -- the order of equal scores -----------------------------------------------------------------


def tied_problem(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Five detections of three scores: some on one object, some on none, one above the tie."""
    rng = np.random.default_rng(seed)
    objects = [(i, 1, (100 * k, 0, 40, 40)) for i in (1, 2) for k in range(2)]
    found = []
    for number in range(6):
        image, place = int(rng.integers(1, 3)), int(rng.integers(0, 3))
        box = (100 * place + number / 4, 0.0, 40.0, 40.0)
        score = 0.8 if number == 0 else 0.5 if number < 5 else 0.2
        found.append((image, 1, score, box))
    return problem(objects, found, images=2)


@pytest.mark.parametrize("seed", range(12))
def test_the_range_is_that_of_all_orders(seed: int) -> None:
    """Brute force: every order of the four tied ones, made by scores a hair apart."""
    gt, results = tied_problem(seed)
    truth = voc.ground_truth_from_coco(gt)
    values: dict[str, list[float]] = {"coco": [], "voc-11-point": [], "voc-area": []}
    for order in itertools.permutations(range(4)):
        apart = copy.deepcopy(results)
        for place, number in enumerate(order):
            apart[1 + number]["score"] -= place * 1e-6
        values["coco"].append(by_pycocotools(gt, apart))
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (r["bbox"] for r in apart)]
        found = voc.detections_from_boxes(
            ["class1"], [r["image_id"] for r in apart], [0] * len(apart), boxes,
            [r["score"] for r in apart],
        )  # fmt: skip
        for ap in voc.AP_RULES:
            result = voc.evaluate(truth, found, ap=ap, style="devkit")
            assert result.mean_ap is not None
            values[f"voc-{ap}"].append(result.mean_ap)
    explanation = explained(gt, results)
    for block, all_orders in values.items():
        ties = explanation[f"{block}-ties"]
        assert ties.low == pytest.approx(min(all_orders), abs=1e-12), block
        assert ties.high == pytest.approx(max(all_orders), abs=1e-12), block


def test_a_tie_of_right_and_wrong_touches_both() -> None:
    """F59: a false and a true box of equal score: AP 1/2 or 1, by their order; a third is not."""
    found = [(1, 1, 0.5, (500, 0, 10, 10)), (1, 1, 0.5, (0, 0, 10, 10)),
             (1, 1, 0.4, (500, 90, 10, 10))]  # fmt: skip
    explanation = explained(*problem([(1, 1, (0, 0, 10, 10))], found))
    for block in ("coco", "voc-11-point", "voc-area"):
        ties = explanation[f"{block}-ties"]
        assert (ties.low, ties.high) == (pytest.approx(0.5), pytest.approx(1))
        assert ties.first == (
            "entry 0 (image 1), score 0.5: wrong, in a tie",
            "entry 1 (image 1), score 0.5: right, in a tie",
        )


def test_some_orders_differ() -> None:
    """The brute force above would be empty without it: some seed has a real range."""
    ranges = []
    for seed in range(12):
        ties = explained(*tied_problem(seed))["voc-area-ties"]
        assert ties.low is not None
        assert ties.high is not None
        ranges.append(ties.high - ties.low)
    assert sum(r > 0.01 for r in ranges) >= 6


# -- Detectron2's ------------------------------------------------------------------------------


def by_detectron2(folder: Path, gt: Any, results: Any, *, use_07: bool) -> dict[str, float]:
    """AP of each class by Detectron2's voc_eval, on files written as its evaluator writes them."""
    from detectron2.evaluation.pascal_voc_evaluation import voc_eval

    names = {c["id"]: c["name"] for c in gt["categories"]}
    (folder / "list.txt").write_text("".join(f"{i['id']}\n" for i in gt["images"]), "utf-8")
    for image in gt["images"]:
        items = []
        for a in gt["annotations"]:
            if a["image_id"] == image["id"]:
                x, y, w, h = (int(v) for v in a["bbox"])
                corners = (x + 1, y + 1, x + w, y + h)
                flags = {"pose": "x", "truncated": 0, "difficult": a.get("difficult", 0)}
                items.append(voc_object(names[a["category_id"]], corners, **flags))
        xml = annotation(*items)
        (folder / f"{image['id']}.xml").write_text(xml, "utf-8")
    aps = {}
    for category, name in names.items():
        lines = []
        for r in results:
            x, y, w, h = r["bbox"]
            if r["category_id"] == category:
                lines.append(
                    f"{r['image_id']} {r['score']:.3f} {x + 1:.1f} {y + 1:.1f} "
                    f"{x + w:.1f} {y + h:.1f}"
                )
        (folder / f"{name}.txt").write_text("\n".join(lines), "utf-8")
        _, _, aps[name] = voc_eval(
            str(folder / "{}.txt"), str(folder / "{}.xml"), str(folder / "list.txt"), name,
            0.5, use_07,
        )  # fmt: skip
    return aps


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True], ids=["apart", "tied"])
def test_detectron2s_line_is_detectron2s_number(tmp_path: Path, seed: int, ties: bool) -> None:
    """Oracle: Detectron2's voc_eval; within the range of orders where scores are tied."""
    pytest.importorskip("detectron2")
    gt, results = random_problem(seed, crowds=False, whole=True, ties=ties)
    explanation = explained(gt, results)
    for block, use_07 in (("voc-11-point", True), ("voc-area", False)):
        folder = tmp_path / block
        folder.mkdir()
        expected = np.mean(list(by_detectron2(folder, gt, results, use_07=use_07).values()))
        line = explanation[f"{block}-detectron2"]
        assert line.low is not None
        assert line.high is not None
        assert line.low - 1e-12 <= expected <= line.high + 1e-12
        if not ties and line.low == line.high:
            assert line.ap50 == pytest.approx(expected, abs=1e-12)


# -- ends, JSON, the command -------------------------------------------------------------------


def test_nothing_found_and_nothing_to_find() -> None:
    """F60: no detection is 0 under every rule; no object is undefined under every rule."""
    explanation = explained(*problem([(1, 1, (0, 0, 10, 10))], []))
    assert len(explanation.rules) >= 25
    assert {rule.ap50 for rule in explanation.rules} == {0.0}
    explanation = explained(*problem([], [(1, 1, 0.5, (0, 0, 10, 10))]))
    assert {rule.ap50 for rule in explanation.rules} == {None}
    assert "-" in explain.explain_table(explanation)


def test_an_unknown_rule_lists_the_known_ones() -> None:
    """Style 4.4: no silent fall-through."""
    with pytest.raises(KeyError, match="no rule 'voc'; there are coco, coco-per-image"):
        explained(*problem([(1, 1, (0, 0, 10, 10))], []))["voc"]


def test_the_command_prints_a_table_or_one_object(tmp_path: Path, capsys: Any) -> None:
    """docs/commands.md: --json is one object with fractions; else a table in percent."""
    gt, results = problem([(1, 1, (10, 10, 10, 20))], [(1, 1, 0.9, (10, 10, 10, 10))], images=2)
    for name, content in (("gt", gt), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    words = ["explain", str(tmp_path / "results.json"), "--gt", str(tmp_path / "gt.json")]
    assert evaluate.run(parser.parse_args([*words, "--json"])) == 0
    out, err = capsys.readouterr()
    page = json.loads(out)
    assert page["images"] == {"expected": 2, "evaluated": 2, "missing": 0}
    assert page["engine"] == "fast (cross-checked on 1 image)"  # the other has no object
    lines = {rule["rule"]: rule for rule in page["rules"]}
    assert lines["voc-area-strict"]["change"] == -1
    assert lines["voc-area-strict"]["used_by"] == "Detectron2, py-faster-rcnn"
    assert lines["coco-ties"]["by_order_of_ties"] == pytest.approx([1, 1])
    assert "50 % of the images have no detection" in err
    assert evaluate.run(parser.parse_args(words)) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[4].split() == ["rule", "AP50", "change", "to", "find", "touched", "used", "by"]
    assert any("overlap > 0.5 for >=" in row and "-100.00" in row for row in rows)
