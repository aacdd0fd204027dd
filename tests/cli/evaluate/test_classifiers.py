"""`resdet evaluate cls`: what it prints, writes, keeps and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("detectron2")

from resdet.cli.evaluate import class_members
from resdet.cli.main import main
from resdet.evaluation.classification.score_files import load_scores
from tests.support import children, tiny
from tests.support.small_classifiers import images_in, log_probabilities, save_classifier


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cls")
    tiny.class_folders(place / "data", per_class=5)
    return place


@pytest.fixture(scope="module")
def models(place: Path) -> dict[str, Any]:
    return {name: save_classifier(place / f"{name}.safetensors", seed)
            for seed, name in enumerate(("one", "two"))}  # fmt: skip


@pytest.fixture
def here(place: Path, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RESDET_CACHE", str(place / "cache"))
    return place


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """The JSON of a command that must end well."""
    capsys.readouterr()
    assert main(["evaluate", "cls", *map(str, words), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["evaluate", "cls", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_one_classifier(here: Path, models: dict[str, Any], capsys: Any) -> None:
    """The net's own logits on Pillow's crops; all four files; exact counts."""
    values = evaluate(capsys, "one.safetensors", "--data", "data/val", "--output", "a")
    paths = images_in(here / "data" / "val")
    expected = log_probabilities(models["one"], paths)
    scores = load_scores(values["scores"])
    np.testing.assert_allclose(scores.log_probabilities, expected, atol=1e-4)
    assert scores.images == tuple(f"{p.parent.name}/{p.name}" for p in paths)
    labels = np.repeat([0, 1, 2], 5)
    wrong = expected.argmax(1) != labels
    (one,) = values["classifiers"]
    assert one["top1_error"] == pytest.approx(wrong.mean())
    assert one["top1_standard_error"] == pytest.approx(
        (wrong.mean() * (1 - wrong.mean()) / 15) ** 0.5
    )
    assert one["top5_error"] == 0 and values["ensemble"] is None and values["paired_tests"] == []
    assert values["images"] == {"expected": 15, "evaluated": 15, "missing": 0}
    assert [c["images"] for c in values["per_class"]] == [5, 5, 5]
    (page,) = (here / "a").glob("*/report.html")
    assert json.loads((page.parent / "classifiers.json").read_text()) == values
    confusion = json.loads((page.parent / "confusion.json").read_text())
    assert sum(n for t, p, n in confusion["cells"] if t != p) == wrong.sum()
    assert (page.parent / "confusion.svg").read_text().startswith("<svg")
    text = page.read_text("utf-8")
    assert text.count("<img ") == wrong.sum()
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert not list((here / "a").rglob("*.tmp")) and not list((here / "a").rglob("*.parts"))


def test_scores_are_made_once(here: Path, capsys: Any, monkeypatch: Any) -> None:
    """The second command reads them; another protocol or --again makes new ones."""
    words = ("one.safetensors", "--data", "data/val", "--output", "b")
    first = evaluate(capsys, *words)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(class_members, "score_images", never)
    assert evaluate(capsys, *words) == first
    for more in (["--again"], ["--side", "18"], ["--protocol", "10-crop"]):
        with pytest.raises(AssertionError, match="scored again"):
            class_members.score_members(
                [class_members.member_of("one", Path("one.safetensors"))], arguments(*words, *more)
            )


def arguments(*words: object) -> Any:
    from resdet.cli.main import _parser_of

    return _parser_of("evaluate").parse_args(["cls", *map(str, words)])


def test_several_are_set_against_each_other_and_averaged(
    here: Path, models: dict[str, Any], capsys: Any
) -> None:
    """Mean of the probabilities; wrong by one alone, from both nets' own argmax."""
    values = evaluate(capsys, "one.safetensors", "two.safetensors", "--data", "data/val",
                      "--output", "c")  # fmt: skip
    paths, labels = images_in(here / "data" / "val"), np.repeat([0, 1, 2], 5)
    one, two = (log_probabilities(models[name], paths) for name in ("one", "two"))
    mean = (np.exp(one) + np.exp(two)) / 2
    scores = load_scores(values["scores"])
    np.testing.assert_allclose(np.exp(scores.log_probabilities), mean, atol=1e-5)
    assert values["ensemble"]["top1_error"] == pytest.approx((mean.argmax(1) != labels).mean())
    (test,) = values["paired_tests"]
    a, b = one.argmax(1) != labels, two.argmax(1) != labels
    assert test["top1"]["first_only_wrong"] == (a & ~b).sum()
    assert test["top1"]["second_only_wrong"] == (b & ~a).sum()
    assert (test["first"], test["second"]) == ("one", "two")


def test_files_of_scores_need_neither_torch_nor_the_images(here: Path, capsys: Any) -> None:
    """In a process that cannot import torch; the same numbers."""
    values = evaluate(capsys, "one.safetensors", "two.safetensors", "--data", "data/val",
                      "--output", "d")  # fmt: skip
    files = sorted((here / "d" / "scores").glob("[ot]*-val-centre*.npz"))
    assert len(files) == 2
    code = "from resdet.cli.main import main; main(sys.argv[1:])"
    out = children.printed_by(
        code, "evaluate", "cls", *files, "--output", here / "e", "--json",
        without=["torch", "detectron2", "torchvision"],
    )  # fmt: skip
    again = json.loads(out)
    assert again["ensemble"] == {**values["ensemble"], "protocol": again["ensemble"]["protocol"]}
    assert again["paired_tests"] == values["paired_tests"]
    (page,) = (here / "e").glob("*/report.html")
    assert "<img " not in page.read_text("utf-8")


def test_an_ensemble_of_one_is_the_model(here: Path, capsys: Any) -> None:
    """A file of scores given alone has the same numbers, to the bit."""
    values = evaluate(capsys, "one.safetensors", "--data", "data/val", "--output", "f")
    alone = evaluate(capsys, values["scores"], "--output", "g")
    assert alone["classifiers"] == values["classifiers"]
    assert alone["scores"] == values["scores"]


def test_tables_for_people(here: Path, capsys: Any) -> None:
    words = ["one.safetensors", "two.safetensors", "one.safetensors", "--data", "data/val"]
    assert main(["evaluate", "cls", *words, "--output", "h", "--profile"]) == 0
    done = capsys.readouterr()
    for text in ("data/val: 15 images, 3 classes", "ensemble of 3", "one (2)", " ± ",
                 "two - one (2)", "McNemar's exact test", "most often taken for"):  # fmt: skip
        assert text in done.out
    assert "decode" in done.err and (here / "profile.json").exists()


def test_protocols_differ(here: Path, capsys: Any) -> None:
    """Ten crops and dense are other numbers than the centre, and finite."""
    tables = []
    for more in ([], ["--protocol", "10-crop", "--side", "18"],
                 ["--protocol", "dense", "--sizes", "16", "24"]):  # fmt: skip
        values = evaluate(capsys, "one.safetensors", "--data", "data/val", "--output", "i", *more)
        tables.append(load_scores(values["scores"]).log_probabilities)
    files = sorted((here / "i" / "scores").glob("*.npz"))
    both = evaluate(capsys, *files, "--output", "i")
    assert [c["title"] for c in both["classifiers"]] == [
        "one", "one, centre-16of16", "one, dense-16-24-of16"
    ]  # fmt: skip
    assert all(np.isfinite(t).all() for t in tables)
    assert not np.allclose(tables[0], tables[1]) and not np.allclose(tables[0], tables[2])


def test_images_without_classes_get_scores_and_no_errors(
    here: Path, models: dict[str, Any], capsys: Any
) -> None:
    """The pictures of one class, flat; scores are those of the folders."""
    values = evaluate(capsys, "one.safetensors", "--data", "images:data/val/green", "--output", "j")
    scores = load_scores(values["scores"])
    expected = log_probabilities(models["one"], sorted((here / "data/val/green").iterdir()))
    np.testing.assert_allclose(scores.log_probabilities, expected, atol=1e-4)
    assert scores.images == tuple(f"{i}.png" for i in range(5))
    assert values["classifiers"][0]["top1_error"] is None and values["per_class"] is None
    assert main(["evaluate", "cls", "one.safetensors", "--data", "images:data/val/green",
                 "--output", "j"]) == 0  # fmt: skip
    assert "resdet submit ilsvrc-cls" in capsys.readouterr().out


def test_class_lists_are_read_or_refused(here: Path, capsys: Any) -> None:
    """A net that knows more classes than the set; one that knows others; a list by hand."""
    save_classifier(here / "four.safetensors", classes=("blue", "green", "grey", "red"))
    values = evaluate(capsys, "four.safetensors", "--data", "data/val", "--output", "k")
    assert [c["images"] for c in values["per_class"]] == [5, 5, 0, 5]
    save_classifier(here / "other.safetensors", classes=("blue", "green", "pink"))
    page = refused(capsys, "other.safetensors", "--data", "data/val", "--output", "k")
    assert "not among the 3 of the training set: red" in page
    (here / "names.txt").write_text("blue\ngreen\nred\n")
    values = evaluate(capsys, "other.safetensors", "--data", "data/val", "--output", "k",
                      "--classes", "names.txt")  # fmt: skip
    page = refused(capsys, "four.safetensors", "one.safetensors", "--data", "data/val",
                   "--output", "k")  # fmt: skip
    assert "class 2 is grey in four, red in one" in page
    (here / "names.txt").write_text("blue\ngreen\n")
    page = refused(capsys, "one.safetensors", "--data", "data/val", "--output", "k",
                   "--classes", "names.txt")  # fmt: skip
    assert "has 3 outputs, and names.txt has 2 classes" in page


def test_members_of_other_images_are_refused(here: Path, capsys: Any) -> None:
    val = evaluate(capsys, "one.safetensors", "--data", "data/val", "--output", "l")
    train = evaluate(capsys, "two.safetensors", "--data", "data/train", "--output", "l")
    page = refused(capsys, val["scores"], train["scores"], "--output", "l")
    # Their names are alike, the pictures are not.
    assert "one and two have images of the same names, but of other contents" in page
    page = refused(capsys, val["scores"], "--data", "images:data/val/green", "--output", "l")
    assert "has other images than the scores" in page


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["one.safetensors"], "--data is missing"),
        (["nothing.pth", "--data", "data/val"], "nothing.pth"),
        (["one.safetensors", "--data", "nowhere"], "nowhere"),
        (["one.safetensors", "--data", "data/val", "--sizes", "9"], "--protocol dense"),
        (["one.safetensors", "--data", "data/val", "--device", "cuda"], "no GPU here"),
        (["one.safetensors", "--data", "data/val", "--batch-size", "0"], "--batch-size is 0"),
        (["data", "--data", "data/val"], "not a run folder"),
        (["one.safetensors", "--data", "data"], "no image"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_it_starts(
    here: Path, capsys: Any, words: list[str], expected: str
) -> None:
    if "cuda" in words and __import__("torch").cuda.is_available():
        pytest.skip("a GPU is here")
    page = refused(capsys, *words, "--output", "m")
    assert expected in page and "Traceback" not in page
    assert not (here / "m").exists()


def test_options_of_scoring_mean_nothing_to_files_of_scores(here: Path, capsys: Any) -> None:
    values = evaluate(capsys, "one.safetensors", "--data", "data/val", "--output", "n")
    page = refused(capsys, values["scores"], "--protocol", "dense")
    assert "--protocol: all that was given are files of scores" in page
    page = refused(
        capsys, values["scores"], "--device", "cpu", "--batch-size", "8", "--workers", "0"
    )
    assert "--device, --batch-size, --workers: all that was given are files of scores" in page


def test_a_damaged_file_of_scores_is_named(here: Path, capsys: Any) -> None:
    words = ("one.safetensors", "--data", "data/val", "--output", "o")
    path = Path(evaluate(capsys, *words)["scores"])
    raw = bytearray(path.read_bytes())
    raw[200] ^= 1
    path.write_bytes(bytes(raw))
    page = refused(capsys, *words)
    assert str(path) in page and "score again" in page
    assert evaluate(capsys, *words, "--again")["scores"] == str(path)
