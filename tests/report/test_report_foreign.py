"""Results files of other tools: scored, set side by side, and nothing claimed beyond them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resdet.cli.compare import add_arguments, run
from resdet.errors import CheckFailed, DataError, UserError
from resdet.report.foreign_results import split_name
from tests.support import children, coco_json


def arguments(*words: str) -> Any:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(list(words))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two images with one cat each; `both` finds them, `half` finds one and is wrong before."""
    boxes = {1: [10, 10, 30, 30], 2: [40, 20, 20, 40]}
    truth = {
        "images": [coco_json.image(i) for i in boxes],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [coco_json.annotation(i, i, 1, box) for i, box in boxes.items()],
    }
    both = [coco_json.detection(i, 1, box, 0.9) for i, box in boxes.items()]
    wrong = coco_json.detection(1, 1, [60, 50, 20, 20], 0.9)
    half = [wrong, coco_json.detection(1, 1, boxes[1], 0.8)]
    for name, value in (("gt", truth), ("both", both), ("half", half)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return tmp_path


def compare(files: Path, *named: str) -> int:
    return run(
        arguments(
            "--results", *named, "--gt", str(files / "gt.json"), "--output", str(files / "report")
        )
    )


def test_two_files_are_scored_and_no_cause_is_claimed(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: 100; and with one of two found at precision 1/2, recalls 0 to .5: 51/101 of 50."""
    code = compare(files, f"A b={files / 'both.json'}", f"C={files / 'half.json'}")
    assert code == 0
    report = json.loads((files / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "RESULTS ONLY"
    output = capsys.readouterr().out
    assert "A  A b" in output and "100.0" in output
    assert f"{100 * 0.5 * 51 / 101:.1f}" in output
    html = (files / "report" / "report.html").read_text(encoding="utf-8")
    assert "How these detectors were made is not known" in html
    for word in ("Only the backbone", "one seed", "from scratch", "Resolved config"):
        assert word not in html
    assert "1 of 2 images" in html  # half has nothing on image 2: not known to be visited


def test_it_works_where_torch_and_detectron2_are_absent(files: Path) -> None:
    """Item 10: from files alone; the temporary run folders are gone afterwards."""
    code = "from resdet.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["compare", "--results", "a=both.json", "b=half.json", "--gt", "gt.json"]
    alone = children.unimportable(["torch", "detectron2"]) + code
    done = children.python("-c", alone, *words, cwd=files, PATH="")
    assert done.returncode == 0, done.stderr
    assert (files / "reports" / "a-b" / "report.html").exists()


def test_nonsense_is_refused_with_its_entry(files: Path) -> None:
    """F80 and F81 hold for anyone's files."""
    (files / "bad.json").write_text(
        '[{"image_id": 3, "category_id": 1, "bbox": [1, 1, 2, 2], "score": NaN}]', encoding="utf-8"
    )
    with pytest.raises(CheckFailed, match="entry 0"):
        compare(files, f"a={files / 'both.json'}", f"b={files / 'bad.json'}")
    assert not (files / "report").exists()


def test_files_of_one_name_are_seeds_of_one_detector(files: Path) -> None:
    """AP 1 and 51/202 of one name: their mean against the other's 1; twice the same is refused."""
    both, half = files / "both.json", files / "half.json"
    other = files / "other.json"
    more = coco_json.detection(1, 1, [0, 0, 5, 5], 0.1)
    other.write_text(json.dumps([*json.loads(both.read_text("utf-8")), more]))
    compare(files, f"x={both}", f"x={half}", f"y={other}", f"y={both}")
    report = json.loads((files / "report" / "report.json").read_text(encoding="utf-8"))
    gain = report["sets"]["gt"]["gains"][0]
    assert (gain["before"], gain["after"]) == (["A", "B"], ["C", "D"])
    assert gain["before_value"] == pytest.approx((1 + 51 / 202) / 2)
    assert [r["label"] for r in report["runs"].values()][:2] == ["x, both.json", "x, half.json"]
    with pytest.raises(UserError, match="x is given twice with the same content"):
        compare(files, f"x={both}", f"x={both}", f"y={half}")


def test_images_of_the_set_are_shown_where_they_are_given(files: Path) -> None:
    """Both images for both files, and image 2, where `both` finds what `half` does not."""
    for i in (1, 2):
        Image.new("RGB", (100, 80), "#607080").save(files / f"{i}.jpg")
    named = ["--results", f"a={files / 'both.json'}", f"b={files / 'half.json'}"]
    more = ["--gt", str(files / "gt.json"), "--output", str(files / "report")]
    assert run(arguments(*named, *more, "--images", str(files))) == 0
    html = (files / "report" / "report.html").read_text(encoding="utf-8")
    assert html.count("<img ") == 2 * 2 + 2
    assert "A finds what B misses" in html
    with pytest.raises(UserError, match="is no folder"):
        run(arguments(*named, *more, "--images", str(files / "none")))


def test_a_faulty_ground_truth_is_named_before_anything_is_scored(files: Path) -> None:
    """F58: an image without an id, reported with its place."""
    truth = json.loads((files / "gt.json").read_text("utf-8"))
    del truth["images"][1]["id"]
    (files / "gt.json").write_text(json.dumps(truth), encoding="utf-8")
    with pytest.raises(DataError, match=r'gt\.json: 1 fault(.|\n)*"images" entry 1'):
        compare(files, f"a={files / 'both.json'}", f"b={files / 'half.json'}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--results", "a=x.json"], "with their --gt"),
        (["run", "--results", "a=x.json", "--gt", "g.json"], "in place of run folders"),
        (["run", "other", "--gt", "g.json"], "--gt, --images and --accept belong to"),
        (["run", "other", "--images", "."], "--gt, --images and --accept belong to"),
        (["--results", "x.json", "--gt", "g.json"], "give NAME=FILE"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(arguments(*words))


def test_a_name_may_have_blanks_and_a_file_an_equals_sign() -> None:
    assert split_name("my net=a=b.json") == ("my net", Path("a=b.json"))


def with_results(files: Path, name: str, *more: dict[str, Any]) -> str:
    """`both` and more in a file of its own, as NAME=FILE."""
    both = json.loads((files / "both.json").read_text(encoding="utf-8"))
    (files / f"{name}.json").write_text(json.dumps([*both, *more]), encoding="utf-8")
    return f"{name}={files / name}.json"


def test_a_box_without_area_is_scored_and_cautioned(files: Path) -> None:
    """By hand: one wrong detection before two right ones: precision 2/3 at every recall."""
    thin = with_results(files, "thin", coco_json.detection(1, 1, [10, 10, 0, 30], 0.95))
    assert compare(files, thin, f"both={files / 'both.json'}") == 0
    report = json.loads((files / "report" / "report.json").read_text(encoding="utf-8"))
    text = json.dumps(report)
    assert "Boxes of zero width or height: 1 of 3 entries." in text
    assert f"{2 / 3:.6f}" in text


def test_refused_results_are_accepted_by_their_count(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's own words are typed; entries that are none are left out, a repeat stays."""
    bad = with_results(
        files, "bad", {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": "x"},
        coco_json.detection(1, 1, [10, 10, 30, 30], 0.9),
    )  # fmt: skip
    both = f"both={files / 'both.json'}"
    with pytest.raises(CheckFailed, match="--accept text-for-number=1 --accept duplicates=1$"):
        compare(files, bad, both)
    words = ["--results", bad, both, "--gt", str(files / "gt.json"), "--output",
             str(files / "report"), "--accept", "text-for-number=1"]  # fmt: skip
    assert run(arguments(*words, "--accept", "duplicates=1")) == 0
    text = (files / "report" / "report.json").read_text(encoding="utf-8")
    assert "Accepted: left out." in text
    assert "Accepted: scored as they stand." in text
    with pytest.raises(CheckFailed, match="--accept corners: no file given has such a fault"):
        run(arguments(*words, "--accept", "duplicates=1", "--accept", "corners=1"))
    with pytest.raises(UserError, match="--accept belong to --results"):
        run(arguments("a", "b", "--accept", "duplicates=1"))
