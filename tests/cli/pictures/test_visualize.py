"""`resdet visualize` from made-up result files: no torch, one page, a PNG an image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from resdet.cli.main import run_command
from resdet.run.folder import Run, read_json, write_json
from tests.support import children, fabricate


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on one set of 12 images, of which 6 have a sample picture."""
    place = tmp_path_factory.mktemp("runs")
    return [
        fabricate.fabricate_run(place / name, net=net, skill=skill, num_images=12, num_samples=6)
        for name, net, skill in (("a", "resnet18", 0.8), ("b", "vgg11", 0.4))
    ]


def visualize(*words: object) -> int:
    return run_command("visualize", [str(word) for word in words])


def counts(text: str) -> list[int]:
    """The numbers in "2 right, 1 wrong, 0 missed"."""
    return [int(part.split()[0]) for part in text.split(", ")]


def test_the_worst_images_of_one_run(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In falling order of errors; a page with everything inside, and a PNG of each."""
    assert visualize(runs[0], "--worst", 3, "--output", tmp_path / "out", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert len(made["images"]) == 3
    errors = []
    for image in made["images"]:
        titles = [panel["title"] for panel in image["panels"]]
        assert titles == ["ground truth", "ResNet-18"]
        right, wrong, missed = counts(image["panels"][1]["drawn"])
        objects = int(image["panels"][0]["drawn"].split()[0])
        words = f"{wrong + missed} error{'' if wrong + missed == 1 else 's'}"
        assert right + missed == objects and image["measure"] == words
        errors.append(wrong + missed)
        with Image.open(image["picture"]) as picture:
            assert picture.format == "PNG" and picture.width > picture.height
    assert errors == sorted(errors, reverse=True)
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert html.count('src="data:image/jpeg;base64,') == 6 == html.count("<img ")
    assert "http" not in html and "The images with the most errors" in html


def test_two_runs_side_by_side_on_the_images_that_differ_most(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Samples alone are at hand, and the page states how many are left out."""
    assert visualize(*runs, "--output", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "ResNet-18 against VGG-11 on digits_test" in printed
    assert "6 PNGs" in printed
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert html.count("<img ") == 6 * 3
    assert "images that come before some of these are left out: no file of them" in html
    assert visualize(*runs, "--output", tmp_path / "out") == 2
    assert "is not empty. Name another --output, or add --overwrite" in capsys.readouterr().err
    assert "so none is drawn" not in html
    words = (*runs, "--score", 1, "--output", tmp_path / "out", "--overwrite")
    assert visualize(*words) == 0
    told = "No box of ResNet-18 has a score of 1 or more, so none is drawn; highest: 0."
    assert told in capsys.readouterr().out
    assert told in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert visualize(*runs, "--random", 2, "--output", tmp_path / "out", "--overwrite") == 0
    assert "Images by chance, seed 0" in capsys.readouterr().out


def test_named_images_in_their_order(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = read_json(Run.open(runs[0]).results("digits_test") / "samples.json")
    ids = [samples[3]["image_id"], samples[0]["image_id"]]
    words = (runs[0], "--output", tmp_path / "out", "--json", "--images", *ids)
    assert visualize(*words) == 0
    made = json.loads(capsys.readouterr().out)
    assert [image["id"] for image in made["images"]] == ids
    every = read_json(Run.open(runs[0]).results("digits_test") / "images.json")["evaluated"]
    without = next(i for i in every if i not in {s["image_id"] for s in samples})
    assert visualize(runs[0], "--images", without, "--output", tmp_path / "other") == 2
    assert "--image-folder DIR" in capsys.readouterr().err


def test_images_that_were_moved_are_found_in_a_named_folder(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every image then has a file: the twelve, of which six have a sample."""
    folder = Run.open(runs[0]).results("digits_test")
    truth = read_json(folder / "ground_truth.json.gz")
    (tmp_path / "moved").mkdir()
    for image in truth["images"]:
        picture = Image.new("RGB", (image["width"], image["height"]), "#336699")
        picture.save(tmp_path / "moved" / image["file_name"])
    words = (runs[0], "--output", tmp_path / "out", "--image-folder", tmp_path / "moved")
    assert visualize(*words) == 0
    assert "12 PNGs" in capsys.readouterr().out


def test_it_runs_without_torch(runs: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom resdet.cli.main import run_command\n"
        "sys.exit(run_command('visualize', sys.argv[1:]))"
    )
    words = (str(runs[0]), "--worst", "1", "--output", str(tmp_path / "out"))
    printed = children.printed_by(code, *words, without=["torch", "detectron2"])
    assert "1 PNGs" in printed


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["{gone}"], "is not a folder. Give a run folder"),
        (["{empty}"], "is not a run folder: it has no run.json (it holds nothing)"),
        (["{cls}"], "is a classification run, which has no boxes"),
        (["{begun}"], "has no results: the run is training. Finish it: resdet train_det --output"),
        (["{unscored}"], "has no results: it was scored on no set. Score it on one: train_det"),
        (["{rpn}"], "holds an RPN alone, whose proposals have no classes"),
        (["{a}", "--set", "other"], "--set other: not scored by the run. Scored: digits_test"),
        (["{a}", "--images", "nine"], "digits_test has no image nine. Its ids are such as"),
        (["{a}", "--most-different", "3"], "--most-different is of two runs"),
        (["{a}", "--worst", "0"], "--worst is 0, expected 1 or more"),
        (["{a}", "--worst", "201"], "a page holds 200 at most"),
        (["{a}", "--score", "2"], "--score is 2.0, expected 0 to 1"),
        (["{a}", "{b}", "{a}"], "3 runs given"),
        (["{a}", "{a}"], "is given twice"),
        (["{a}", "--best"], "--best is of --explain"),
        (["{a}", "TEST.BOX_REFINEMENT", "on"], "no detector runs here"),
        (["{a}", "{b}", "--explain", "x"], "--explain is of one run"),
        (["{a}", "--image-folder", "{gone}"], "is not a folder"),
        (["{a}", "{other}"], "were scored on other images or objects"),
    ],
)
def test_what_cannot_be_has_a_page(
    runs: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    page: str,
) -> None:
    places = {"a": runs[0], "b": runs[1], "gone": tmp_path / "gone"}
    kinds = {"empty": "", "cls": "classification", "begun": "detection", "unscored": "detection",
             "rpn": "detection"}  # fmt: skip
    for name, kind in kinds.items():
        places[name] = tmp_path / name
        places[name].mkdir()
        if kind:
            state = "training" if name == "begun" else "finished"
            about = {"id": "a", "kind": kind, "state": state, "created": "now"}
            write_json(places[name] / "run.json", about)
    (tmp_path / "rpn" / "results" / "a").mkdir(parents=True)
    (tmp_path / "rpn" / "results" / "a" / "proposals.safetensors").touch()
    if "{other}" in words:
        places["other"] = fabricate.fabricate_run(tmp_path / "other", num_images=5)
    given = [word.format(**places) for word in words]
    assert visualize("--output", tmp_path / "out", *given) == 2
    assert page in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_picture_at_hand_has_a_page(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs[0], tmp_path / "bare")
    folder = Run.open(tmp_path / "bare").results("digits_test")
    shutil.rmtree(folder / "samples")
    assert visualize(tmp_path / "bare", "--worst", 2) == 2
    assert "no file of the images of digits_test is at hand" in capsys.readouterr().err
