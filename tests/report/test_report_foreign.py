"""Results files of other tools: scored, set side by side, and nothing claimed beyond them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resdet.cli.compare import add_arguments, run
from resdet.errors import CheckFailed, ConfigError, DataError, UserError
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
        (["run", "other", "--gt", "g.json"], "--accept and --image-ids belong to"),
        (["run", "other", "--images", "."], "--accept and --image-ids belong to"),
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


NO_NUMBER = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": "x"}


def typed(files: Path, *words: str) -> dict[str, Any]:
    """The report of `compare --results`, typed with these words."""
    known = ["--gt", str(files / "gt.json"), "--output", str(files / "report")]
    assert run(arguments("--results", *words, *known)) == 0
    report: dict[str, Any] = json.loads((files / "report" / "report.json").read_text("utf-8"))
    return report


def remedy(page: str) -> list[str]:
    """The words that the last line of a refusal says to add."""
    line = page.strip().splitlines()[-1]
    return shlex.split(line[line.index("--accept") :])


def test_refused_results_are_accepted_by_their_count(files: Path) -> None:
    """The page's own words are typed; entries that are none are left out, swapped boxes stay."""
    swapped = coco_json.detection(1, 1, [10, 10, -30, 30], 0.9)
    bad, both = with_results(files, "bad", NO_NUMBER, swapped), f"both={files / 'both.json'}"
    with pytest.raises(CheckFailed) as refusal:
        compare(files, bad, both)
    words = remedy(str(refusal.value))
    assert words == ["--accept", "text-for-number=1", "--accept", "size=1"]
    report = typed(files, bad, both, *words)
    text = json.dumps(report)
    assert "Accepted: left out." in text
    assert "Accepted: scored as they stand." in text
    # Recorded with the number of the file that has them, and beside it.
    assert report["sets"]["gt"]["coco"]["A"]["accepted"] == {
        "text-for-number": 1, "size": 1
    }  # fmt: skip
    assert "accepted" not in report["sets"]["gt"]["coco"]["B"]
    for name in ("report.md", "report.html"):
        page = (files / "report" / name).read_text(encoding="utf-8")
        assert "Accepted by rule and count: text-for-number=1, size=1." in page
    with pytest.raises(CheckFailed, match="--accept corners: no file given has such a fault"):
        typed(files, bad, both, *words, "--accept", "corners=1")
    with pytest.raises(UserError, match="--image-ids belong to --results"):
        run(arguments("a", "b", "--accept", "duplicates=1"))


def test_files_with_different_counts_are_refused_on_one_page(files: Path) -> None:
    """Two files with one and two such entries: the page names each file, and its words work."""
    one, two = with_results(files, "one", NO_NUMBER), with_results(files, "two", *[NO_NUMBER] * 2)
    with pytest.raises(CheckFailed) as refusal:
        compare(files, one, two)
    page = str(refusal.value)
    assert f"{files / 'one.json'} is not scored:" in page
    assert f"{files / 'two.json'} is not scored:" in page
    words = remedy(page)
    assert words[1::2] == [
        f"{files / 'one.json'}:text-for-number=1", f"{files / 'two.json'}:text-for-number=2"
    ]  # fmt: skip
    report = typed(files, one, two, *words)
    counts = [report["sets"]["gt"]["coco"][c]["accepted"] for c in "AB"]
    assert counts == [{"text-for-number": 1}, {"text-for-number": 2}]
    # By name too; one count for all is not right for both.
    names = ["--accept", "one:text-for-number=1", "--accept", "two:text-for-number=2"]
    assert typed(files, one, two, *names)["sets"] == report["sets"]
    with pytest.raises(CheckFailed, match="it has 2 of text(.|\n)*two.json:RULE=COUNT"):
        typed(files, one, two, "--accept", "text-for-number=1")
    with pytest.raises(ConfigError, match="no file of --results has this name"):
        typed(files, one, two, "--accept", "three:text-for-number=1")


def test_files_may_name_images_each_in_their_way(files: Path) -> None:
    """One by the stem of the file, one by its name, one by the set's ids: all score alike."""
    both = json.loads((files / "both.json").read_text(encoding="utf-8"))
    words = [f"own={files / 'both.json'}"]
    for name, write in (("stems", "{}"), ("files", "{}.jpg")):
        entries = [{**e, "image_id": write.format(e["image_id"])} for e in both]
        (files / f"{name}.json").write_text(json.dumps(entries), encoding="utf-8")
        words.append(f"{name}={files / name}.json")
    with pytest.raises(CheckFailed, match="--image-ids stem to (.|\n)*compare --results"):
        compare(files, *words[:2])
    assert typed(files, *words[:2], "--image-ids", "stem")["verdict"] == "RESULTS ONLY"
    report = typed(files, *words, "--image-ids", "stem", "--image-ids", "files:name")
    scores = [report["sets"]["gt"]["coco"][c]["AP"] for c in "ABC"]
    assert scores == pytest.approx([1, 1, 1])
    with pytest.raises(ConfigError, match="--image-ids text: give one of exact, stem"):
        typed(files, *words, "--image-ids", "text")


def test_a_ground_truth_with_gaps_is_compared_as_it_is_scored(files: Path) -> None:
    """No sizes, iscrowd null, a root category: what exporters write, in every part of the page."""
    truth = json.loads((files / "gt.json").read_text(encoding="utf-8"))
    for image in truth["images"]:
        del image["width"], image["height"]
    for entry in truth["annotations"]:
        entry["iscrowd"] = None
    truth["categories"] = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
    ]
    truth["annotations"].append({**truth["annotations"][0], "id": 9, "bbox": [1, 2]})
    (files / "gt.json").write_text(json.dumps(truth), encoding="utf-8")
    named = [f"a={files / 'both.json'}", f"b={files / 'half.json'}"]
    with pytest.raises(DataError) as refusal:
        compare(files, *named)
    words = remedy(str(refusal.value))
    assert words == ["--accept", "gt-boxes=1"]
    report = typed(files, *named, *words)
    scores = [report["sets"]["gt"]["coco"][c] for c in "AB"]
    assert [s["AP"] for s in scores] == pytest.approx([1, 0.5 * 51 / 101])
    assert [s["accepted"] for s in scores] == [{"gt-boxes": 1}] * 2
    html = (files / "report" / "report.html").read_text(encoding="utf-8")
    assert "iscrowd null, read as 0" in html
    assert "Accepted in gt.json: 1 x boxes that are none" in html
    with pytest.raises(ConfigError, match="about the ground truth of all files"):
        typed(files, *named, "--accept", "a:gt-boxes=1")
