"""ILSVRC's rules worked by hand and by plain loops, and its files line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.ilsvrc import ilsvrc_files, ilsvrc_metrics
from resdet.evaluation.ilsvrc.ilsvrc_files import DetResults, LocResults


def det_truth(*objects: tuple[int, int, list[float]], images: int = 1, classes: int = 2) -> Any:
    """(image, label, box) each."""
    return ilsvrc_metrics.DetTruth(
        images,
        np.array([o[0] for o in objects], dtype=np.int64),
        np.array([o[1] for o in objects], dtype=np.int64),
        np.array([o[2] for o in objects], dtype=float).reshape(-1, 4),
        classes,
    )


def detections(*found: tuple[int, int, float, list[float]]) -> DetResults:
    """(image, label, score, box) each."""
    return DetResults(
        np.array([f[0] for f in found], dtype=np.int64),
        np.array([f[1] for f in found], dtype=np.int64),
        np.array([f[2] for f in found], dtype=float),
        np.array([f[3] for f in found], dtype=float).reshape(-1, 4),
    )


def ap(truth: Any, found: DetResults, label: int = 1, **options: Any) -> float | None:
    return ilsvrc_metrics.evaluate_det(truth, found, **options).classes[label].ap


# -- DET ---------------------------------------------------------------------------------------


def test_thresholds_of_small_objects() -> None:
    """Readme 2.3: min(0.5, mn / ((m+10)(n+10))); 10 x 10: 100/400; 24 x 24: 576/1156; 25: 0.5."""
    boxes = np.array([[1.0, 1, 10, 10], [5, 5, 28, 28], [5, 5, 29, 29], [0, 0, 0, 0]])
    expected = [0.25, 576 / 1156, 0.5, 1 / 121]
    assert ilsvrc_metrics.det_thresholds(boxes) == pytest.approx(expected)


def test_a_window_of_twice_the_size_finds_an_object_of_ten_pixels() -> None:
    """Readme 2.3, the devkit's own example: 10 x 10 in 20 x 20 is 100/400 = 0.25, and is right."""
    truth = det_truth((1, 1, [6, 6, 15, 15]))
    assert ap(truth, detections((1, 1, 0.9, [1, 1, 20, 20]))) == 1.0
    # One pixel wider it is 100/420, which is not.
    assert ap(truth, detections((1, 1, 0.9, [1, 1, 21, 20]))) == 0.0


def test_each_object_asks_for_its_own_overlap() -> None:
    """20 x 20 overlaps a 20 x 60 by 1/3 < 0.5 and a 10 x 10 by 1/4: it takes the small one."""
    truth = det_truth((1, 1, [1, 1, 20, 60]), (1, 1, [6, 6, 15, 15]))
    result = ilsvrc_metrics.evaluate_det(truth, detections((1, 1, 0.9, [1, 1, 20, 20])))
    assert result.classes[1] == ilsvrc_metrics.DetScore(0.5, 2, 1)


def test_a_second_detection_is_wrong_unless_another_object_is_free() -> None:
    """By hand: right, wrong, right of 2 objects: 1/2 + 1/2 x 2/3; beside a free one: 1."""
    near, far = [1, 1, 100, 100], [301, 301, 400, 400]
    again = [2, 1, 101, 100]  # 99/101 with the first object, 81/119 with its neighbour
    found = detections((1, 1, 0.9, near), (1, 1, 0.8, again), (1, 1, 0.7, far))
    apart = det_truth((1, 1, near), (1, 1, far))
    assert ap(apart, found) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # VOC's rule would give the second one the object that it overlaps most, and call it wrong.
    neighbours = det_truth((1, 1, near), (1, 1, [21, 1, 120, 100]))
    assert ap(neighbours, found) == 1.0


def test_equal_scores_are_taken_by_image_then_as_given() -> None:
    """The devkit sorts stably: the wrong one of image 1 stands before the right one of image 2."""
    truth = det_truth((2, 1, [1, 1, 50, 50]), images=2)
    right, wrong = (2, 1, 0.5, [1, 1, 50, 50]), (1, 1, 0.5, [1, 1, 50, 50])
    assert ap(truth, detections(right, wrong)) == 0.5
    same = (2, 1, 0.5, [200, 1, 250, 50])
    assert ap(truth, detections(right, same)) == 1.0
    assert ap(truth, detections(same, right)) == 0.5


def test_a_blacklisted_pair_does_not_count() -> None:
    """Readme 2.2.2: neither its objects nor its detections; another class of the image does."""
    box = [1, 1, 50, 50]
    truth = det_truth((1, 1, box), (2, 1, box), (1, 2, box), images=2)
    found = detections((1, 1, 0.9, [200, 1, 250, 50]), (2, 1, 0.8, box), (1, 2, 0.7, box))
    assert ap(truth, found) == pytest.approx(0.25)
    result = ilsvrc_metrics.evaluate_det(truth, found, blacklist=[(1, 1)])
    assert result.classes[1] == ilsvrc_metrics.DetScore(1.0, 1, 1)
    assert result.classes[2].ap == 1.0
    assert result.blacklisted == 1


def test_the_mean_is_over_classes_with_objects() -> None:
    """Class 2 of three has none: mean of 1 and 0; null in JSON, and reported."""
    truth = det_truth((1, 1, [1, 1, 50, 50]), (1, 3, [1, 1, 50, 50]), classes=3)
    found = detections((1, 1, 0.9, [1, 1, 50, 50]), (1, 2, 0.9, [1, 1, 50, 50]))
    result = ilsvrc_metrics.evaluate_det(truth, found)
    assert result.mean_ap == 0.5
    assert result.notes == ["Mean of 2 of 3 classes; no object of: 2."]
    page = result.to_json()
    assert page["classes"]["2"] == {"ap": None, "positives": 0, "detections": 1}
    assert page["images"] == {"expected": 1, "evaluated": 1, "missing": 0}
    nothing = ilsvrc_metrics.evaluate_det(det_truth(), found)
    assert nothing.mean_ap is None


def by_loops(truth: Any, found: DetResults, label: int) -> float:
    """The readme's rule and VOC's area, one object at a time."""
    rows = [i for i in range(len(found.scores)) if found.label[i] == label]
    rows.sort(key=lambda i: (-found.scores[i], found.image[i], i))
    free = [k for k in range(len(truth.label)) if truth.label[k] == label]
    count = len(free)
    verdicts = []
    for i in rows:
        best, chosen = 0.0, None
        for k in free:
            if truth.image[k] != found.image[i]:
                continue
            a, b = found.boxes[i], truth.boxes[k]
            w = min(a[2], b[2]) - max(a[0], b[0]) + 1
            h = min(a[3], b[3]) - max(a[1], b[1]) + 1
            if w <= 0 or h <= 0:
                continue
            area_a, area_b = ((v[2] - v[0] + 1) * (v[3] - v[1] + 1) for v in (a, b))
            overlap = w * h / (area_a + area_b - w * h)
            m, n = b[2] - b[0] + 1, b[3] - b[1] + 1
            if overlap >= min(0.5, m * n / ((m + 10) * (n + 10))) and overlap > best:
                best, chosen = overlap, k
        verdicts.append(chosen is not None)
        if chosen is not None:
            free.remove(chosen)
    area = 0.0
    precisions = [sum(verdicts[: i + 1]) / (i + 1) for i in range(len(verdicts))]
    for i, right in enumerate(verdicts):
        if right:
            area += max(precisions[i:]) / count
    return area


@pytest.mark.parametrize("seed", range(10))
def test_ap_equals_plain_loops(seed: int) -> None:
    """Random boxes of 6 to 40 px with ties and crowding, against the rule written out as loops."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> Any:
        corner = rng.integers(1, 25, (count, 2))
        return np.concatenate([corner, corner + rng.integers(5, 40, (count, 2))], axis=1)

    truth = ilsvrc_metrics.DetTruth(
        5, rng.integers(1, 6, 60), rng.integers(1, 4, 60), boxes(60).astype(float), 3
    )
    image, label = rng.integers(1, 6, 300), rng.integers(1, 4, 300)
    found = DetResults(image, label, rng.integers(1, 50, 300) / 50, boxes(300).astype(float))
    _, kept = np.unique(np.column_stack([image, label, found.scores, found.boxes]), axis=0,
                        return_index=True)  # fmt: skip
    kept = np.sort(kept)
    found = DetResults(image[kept], label[kept], found.scores[kept], found.boxes[kept])
    result = ilsvrc_metrics.evaluate_det(truth, found)
    values = [result.classes[k].ap for k in (1, 2, 3)]
    assert values == pytest.approx([by_loops(truth, found, k) for k in (1, 2, 3)], abs=1e-12)
    assert min(v for v in values if v is not None) > 0.01


def test_objects_that_are_not_of_the_set_are_refused() -> None:
    """Image 3 of 1, label 0: a caller's mistake, with the value."""
    with pytest.raises(ValueError, match="image of object 0 is 3, expected 1 to 1"):
        ilsvrc_metrics.evaluate_det(det_truth((3, 1, [1, 1, 9, 9])), detections())
    with pytest.raises(ValueError, match="label of object 0 is 0, expected 1 to 2"):
        ilsvrc_metrics.evaluate_det(det_truth((1, 0, [1, 1, 9, 9])), detections())


# -- LOC ---------------------------------------------------------------------------------------

A, B = [1.0, 1, 100, 100], [201.0, 1, 300, 100]


def guesses(*lines: list[tuple[int, list[float]]]) -> LocResults:
    """Per image its (label, box) guesses, best first."""
    flat = [(n, *g) for n, line in enumerate(lines, 1) for g in line]
    return LocResults(
        len(lines),
        np.array([g[0] for g in flat], dtype=np.int64),
        np.array([g[1] for g in flat], dtype=np.int64),
        np.array([g[2] for g in flat], dtype=float).reshape(-1, 4),
    )


def loc_truth(labels: list[int], *boxes: tuple[int, list[float]]) -> Any:
    return ilsvrc_metrics.LocTruth(
        np.array(labels), np.array([b[0] for b in boxes]), np.array([b[1] for b in boxes])
    )


def test_localisation_wants_label_and_box_in_one_guess() -> None:
    """Four images by hand: right; box of another guess than the label; wrong label; half a box."""
    truth = loc_truth([7, 7, 7, 7], (1, A), (2, A), (3, A), (4, A))
    half = [1.0, 1, 50, 100]  # exactly 0.5: right, as the devkit calls less an error
    found = guesses([(7, A)], [(7, B), (8, A)], [(8, A)], [(9, B), (7, half)])
    result = ilsvrc_metrics.evaluate_loc(truth, found)
    assert result.localization == 0.5
    assert result.classification == 0.25
    assert result.known_class == 0.0
    assert result.to_json()["top5_localization_error"] == 0.5


def test_only_five_guesses_count_and_any_instance_will_do() -> None:
    """The sixth guess would be right; the second box of image 2 is found."""
    truth = loc_truth([7, 7], (1, A), (2, A), (2, B))
    found = guesses([(1, A), (2, A), (3, A), (4, A), (5, A), (7, A)], [(7, B)])
    result = ilsvrc_metrics.evaluate_loc(truth, found)
    assert (result.localization, result.classification) == (0.5, 0.5)
    assert [w.rule for w in result.warnings] == ["over-5"]


def test_guesses_and_labels_of_no_image_are_refused() -> None:
    """A caller's mistakes, with the value: out of order a sixth guess would pass for a first, and
    image 0 for the last."""
    truth = loc_truth([7, 7], (1, A), (2, A))
    columns = np.array([7, 7]), np.array([A, A])
    with pytest.raises(ValueError, match=r"guess 1 is of image 1, the one before it of image 2"):
        ilsvrc_metrics.evaluate_loc(truth, LocResults(2, np.array([2, 1]), *columns))
    for images in ([0, 1], [1, 3]):
        with pytest.raises(ValueError, match=rf"image is {images[0]} to {images[1]}, expected 1"):
            ilsvrc_metrics.evaluate_loc(truth, LocResults(2, np.array(images), *columns))
    with pytest.raises(ValueError, match="label of image 0 is 0, expected 1 to 1000"):
        ilsvrc_metrics.evaluate_loc(loc_truth([0, 7], (1, A), (2, A)), guesses([(7, A)], [(7, A)]))


def test_less_than_half_is_an_error() -> None:
    """49 of 100 columns: 0.49."""
    truth = loc_truth([7], (1, A))
    assert ilsvrc_metrics.evaluate_loc(truth, guesses([(7, [1.0, 1, 49, 100])])).localization == 1.0


def test_blacklisted_images_count_for_the_label_alone() -> None:
    """Readme 3.2.2 and eval_clsloc: out of the localisation, in the classification."""
    truth = loc_truth([7, 7, 7], (1, A), (2, A))
    found = guesses([(7, A)], [(7, B)], [(8, B)])
    with pytest.raises(DataError, match=r"1 of 3 images have no box of their class.*\n  image 3"):
        ilsvrc_metrics.evaluate_loc(truth, found)
    result = ilsvrc_metrics.evaluate_loc(truth, found, blacklist=[3])
    assert result.localization == 0.5
    assert result.classification == pytest.approx(1 / 3)
    assert result.blacklisted == 1
    with pytest.raises(ValueError, match="blacklist names images 4 to 4, expected 1 to 3"):
        ilsvrc_metrics.evaluate_loc(truth, found, blacklist=[4])


def test_an_image_without_a_guess_is_an_error() -> None:
    """Counted, and warned of."""
    truth = loc_truth([7, 7], (1, A), (2, A))
    result = ilsvrc_metrics.evaluate_loc(truth, guesses([(7, A)], []))
    assert (result.localization, result.known_class) == (0.5, 0.5)
    assert [w.rule for w in result.warnings] == ["images-without-guess"]
    assert result.warnings[0].first == ["line 2"]


# -- files -------------------------------------------------------------------------------------


def test_det_files_read_back_as_written(tmp_path: Path) -> None:
    """The readme's line: image, id, score, corners; every float as it was."""
    found = detections((1, 200, 1 / 3, [1, 2.5, 10, 20]), (2, 1, 1e-7, [0.1, 0.2, 0.3, 0.4]))
    path = tmp_path / "out" / "det.txt"
    warnings = ilsvrc_files.write_det_results(path, found, num_images=3)
    assert [(w.rule, w.first) for w in warnings] == [("images-without-detections", ["image 3"])]
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"1 200 {1 / 3!r} 1.0 2.5 10.0 20.0"
    back = ilsvrc_files.read_det_results(path)
    for name in ("image", "label", "scores", "boxes"):
        assert np.array_equal(getattr(back, name), getattr(found, name))
    assert back.name(1) == "line 2"
    assert [p.name for p in path.parent.iterdir()] == ["det.txt"]


def test_loc_files_read_back_as_written(tmp_path: Path) -> None:
    """Readme 3.3: a line per image, groups of five numbers, an empty line without a guess."""
    found = guesses([(7, A), (1000, B)], [], [(3, B)])
    path = tmp_path / "loc.txt"
    ilsvrc_files.write_loc_results(path, found, num_images=3)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "7 1.0 1.0 100.0 100.0 1000 201.0 1.0 300.0 100.0"
    assert lines[1] == ""
    back = ilsvrc_files.read_loc_results(path)
    assert back.num_images == 3
    for name in ("image", "label", "boxes"):
        assert np.array_equal(getattr(back, name), getattr(found, name))
    assert back.name(1) == "line 1, guess 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("1 2 0.5 1 1 9", "1 line is not `image_index DET_id", id="six-numbers"),
        pytest.param("1 cat 0.5 1 1 9 9\n1 2 0.5 1 1 9 9\n1 dog 1 1 1 9 9",
                     '2 lines are not .*\n  line 1: "1 cat 0.5.*\n  line 3', id="names"),
        pytest.param("1.5 2 0.5 1 1 9 9", "the first two whole", id="half-an-image"),
        pytest.param("1 nan 0.5 1 1 9 9", "the first two whole", id="nan-id"),
        pytest.param("inf 2 0.5 1 1 9 9", "the first two whole", id="infinite-image"),
    ],
)  # fmt: skip
def test_det_lines_that_are_none_are_named(tmp_path: Path, text: str, message: str) -> None:
    """Count, line, its text."""
    (tmp_path / "det.txt").write_text(text, encoding="utf-8")
    with pytest.raises(CheckFailed, match=message):
        ilsvrc_files.read_det_results(tmp_path / "det.txt")


def test_loc_lines_that_are_none_are_named(tmp_path: Path) -> None:
    """Four numbers, a label of 7.5; a file that is not there is another error."""
    (tmp_path / "loc.txt").write_text("7 1 1 9 9\n7 1 1 9\n7.5 1 1 9 9\n", encoding="utf-8")
    with pytest.raises(CheckFailed, match=r"2 lines are not groups of .*\n  line 2: .*\n  line 3"):
        ilsvrc_files.read_loc_results(tmp_path / "loc.txt")
    with pytest.raises(DataError, match="none.txt does not exist"):
        ilsvrc_files.read_loc_results(tmp_path / "none.txt")


def rules(found: DetResults, images: int = 1) -> dict[str, Any]:
    return {f.rule: f for f in ilsvrc_files.check_det_results(found, images, 200)}


def test_det_faults_are_found_with_their_first() -> None:
    """One fault of each kind, and nothing about a clean file."""
    good = (1, 1, 0.9, [1.0, 1, 50, 50])
    assert rules(detections(good)) == {}
    findings = rules(detections(good, (2, 201, 0.9, [1, 1, 50, 50])))
    assert findings["unknown-image"].first == ["detection 1 (image 2): 2"]
    assert findings["unknown-category"].what == "DET ids outside 1 to 200: 1 of 2 entries."
    findings = rules(detections(good, (1, 1, float("nan"), [1, 1, 50, 50])))
    assert findings["not-finite"].count == 1
    findings = rules(detections(good, (1, 1, 0.8, [30, 30, 20, 20])))
    assert findings["size"].first == ["detection 1 (image 1): box 30 30 20 20"]
    findings = rules(detections(good, good))
    assert findings["duplicates"].count == 1
    tiny = [(1, 1, 0.5 + i / 100, [0.1, 0.1, 0.5, 0.5 + i / 1000]) for i in range(21)]
    assert rules(detections(*tiny))["normalised"].count == 21
    with pytest.raises(ValueError, match="have \\[1, 1, 1, 2\\] rows"):
        found = detections(good)
        ilsvrc_files.check_det_results(
            DetResults(found.image, found.label, found.scores, np.zeros((2, 4))), 1
        )


def test_ids_counted_from_zero_are_reported() -> None:
    """0 to 199 instead of 1 to 200: the classic mistake of sorted class lists."""
    found = detections((1, 0, 0.9, [1, 1, 50, 50]), (1, 199, 0.9, [1, 1, 50, 50]))
    findings = rules(found)["unknown-category"]
    assert findings.what == "DET ids lie between 0 and 199, of 1 to 200: they count from 0."
    assert findings.fix.startswith("Add 1.")


def test_a_file_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    """write_* check first."""
    with pytest.raises(CheckFailed, match="DET ids lie between 0 and 0"):
        ilsvrc_files.write_det_results(
            tmp_path / "det.txt", detections((1, 0, 0.9, [1, 1, 50, 50])), 1
        )
    with pytest.raises(CheckFailed, match="1 lines for 2 images"):
        ilsvrc_files.write_loc_results(tmp_path / "loc.txt", guesses([(7, A)]), 2)
    with pytest.raises(CheckFailed, match="Labels outside 1 to 1,000"):
        ilsvrc_files.write_loc_results(tmp_path / "loc.txt", guesses([(1001, A)]), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_file_has_no_number(tmp_path: Path) -> None:
    """Validation before every number, from the file on."""
    (tmp_path / "det.txt").write_text("1 1 0.9 50 50 1 1\n", encoding="utf-8")
    found = ilsvrc_files.read_det_results(tmp_path / "det.txt")
    with pytest.raises(CheckFailed, match=r"det.txt is not scored:\n- Boxes that end before"):
        ilsvrc_metrics.evaluate_det(det_truth((1, 1, [1, 1, 50, 50])), found)
