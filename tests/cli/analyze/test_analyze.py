"""`resdet analyze`: what each action prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2")

from resdet import nets
from resdet.cli.main import main
from resdet.run.folder import Run
from tests.support import children, tiny
from tests.support.classifier_runs import write_run
from tests.support.small_classifiers import NET, OPTIONS, save_classifier

TRAIN = {20: 80.0, 40: 60.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("analyze")
    tiny.class_folders(place / "data", per_class=5)
    for seed, name in enumerate(("one", "two")):
        save_classifier(place / f"{name}.safetensors", seed)
    return place


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("RESDET_CACHE", str(place / "cache"))
    return place


def analyze(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """The one JSON object of a command that must end well."""
    capsys.readouterr()
    assert main(["analyze", *map(str, words), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["analyze", *map(str, words)]) == 2
    done = capsys.readouterr()
    assert done.out == "" and "Traceback" not in done.err
    return done.err


# -- counts -------------------------------------------------------------------------------------


def test_counts_of_a_name_a_file_and_a_run_agree(here: Path, capsys: Any) -> None:
    """A file's net has its own classes and size; an unfinished run's classes follow from the
    parameters that it recorded."""
    with torch.device("meta"):
        net = nets.build(NET, 3, **OPTIONS)
    folder = write_run(here / "run", NET, TRAIN, state="training")
    Run.open(folder).update(
        net={"name": NET, "options": OPTIONS, "parameters": nets.parameters(net)}
    )
    words = (f"{NET},width=0.5", "one.safetensors", folder, "--classes", "3", "--size", "16")
    named, file, run = analyze(capsys, "counts", *words, "--output", "c")["nets"]
    for each in (named, file, run):
        assert each["parameters"]["total"] == nets.parameters(net)
        assert each["multiply_adds"]["total"] == nets.multiply_adds(net, 16)
        assert each["num_classes"] == 3 and each["size"] == [16, 16]
    assert [each["title"] for each in (named, file, run)] == [f"{NET},width=0.5", "one", "run"]
    written = json.loads((here / "c" / "counts.json").read_text())
    assert written["nets"] == [named, file, run]
    assert (here / "c" / "counts.svg").read_text().startswith("<svg")


def test_a_net_of_timm_is_counted_at_its_own_size(here: Path, capsys: Any) -> None:
    """A transformer takes no other; 16 x 16 patches of 384 pixels are 576, and a token."""
    pytest.importorskip("timm")
    (net,) = analyze(capsys, "counts", "timm:vit_tiny_patch16_384", "--classes", "10")["nets"]
    assert net["size"] == [384, 384] and net["num_classes"] == 10
    assert net["stages"][0]["output"] == [577, 192]
    assert net["paper_multiply_adds"] is None


def test_counts_for_people_are_table_1(here: Path, capsys: Any) -> None:
    """The paper's number beside ours; sizes by default."""
    assert main(["analyze", "counts", "resnet34,shortcut=A", "cifar_plain20", "--layers"]) == 0
    out = capsys.readouterr().out
    for words in ("21,623,848", "3,644,493,824", "3.6e9", "224x224", "32x32", "40,551,040",
                  "[3x3, 256; 3x3, 256] x6", "56x56, 64", "res4.0.conv1.norm"):  # fmt: skip
        assert words in out


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["resnet33"], "no net is called 'resnet33'; did you mean resnet34"),
        (["resnet34,shortcut"], "'shortcut' is no OPTION=VALUE"),
        (["resnet34,shortcut=D"], "shortcut is 'D', expected one of none, A, B, C"),
        (["resnet34,colour=1"], "resnet34 has no option colour"),
        (["resnet34,width=wide"], "resnet34,width=wide: "),
        (["missing/file.pth"], "missing/file.pth does not exist"),
        (["resnet34", "--size", "0"], "--size is 0"),
        (["resnet34", "--size", "1", "2", "3"], "--size is 1 2 3"),
        (["resnet34", "--classes", "0"], "--classes is 0"),
        (["vgg16", "--size", "20"], "takes no image of 20 x 20 pixels"),
        (["data"], "is not a run folder"),
    ],
)
def test_counts_that_cannot_be_are_pages(
    here: Path, capsys: Any, words: list[str], page: str
) -> None:
    assert page in refused(capsys, "counts", *words)


def test_a_run_that_is_no_classifiers_is_refused(here: Path, capsys: Any) -> None:
    folder = write_run(here / "other", NET, TRAIN)
    assert "has not begun to train" in refused(capsys, "counts", folder)
    run = Run.open(folder)
    run.update(kind="detection")
    assert "is a detection run" in refused(capsys, "counts", folder)
    assert "is a detection run" in refused(capsys, "curves", folder)


# -- responses ----------------------------------------------------------------------------------


def test_responses_of_two_nets(here: Path, capsys: Any) -> None:
    """Every number of both pictures; another batch size changes rounding alone."""
    words = ("responses", "one.safetensors", "two.safetensors", "--data", "data/val")
    values = analyze(capsys, *words, "--output", "r", "--batch-size", "4")
    assert [net["title"] for net in values["nets"]] == ["one", "two"]
    for net in values["nets"]:
        stds = [layer["std"] for layer in net["layers"]]
        assert len(stds) == 7 and net["layers_without_norm"] == 0
        assert net["sorted_std"] == sorted(stds, reverse=True)
        assert net["mean_std"] == pytest.approx(np.mean(stds)) and net["images"] == 15
    assert json.loads((here / "r" / "responses.json").read_text()) == values
    assert all((here / "r" / f"responses{s}.svg").exists() for s in ("", "_sorted"))
    again = analyze(capsys, *words, "--output", "r2", "--batch-size", "15")
    for one, two in zip(values["nets"], again["nets"], strict=True):
        assert two["sorted_std"] == pytest.approx(one["sorted_std"], rel=1e-5)
    part = analyze(capsys, *words, "--output", "r3", "--images", "6")
    assert [net["images"] for net in part["nets"]] == [6, 6]
    assert part["nets"][0]["images_in_set"] == 15


def test_responses_that_cannot_be_are_pages(here: Path, capsys: Any) -> None:
    assert "--images is -1" in refused(capsys, "responses", "one.safetensors", "--data",
                                       "data/val", "--images", "-1")  # fmt: skip
    assert "--batch-size is 0" in refused(capsys, "responses", "one.safetensors", "--data",
                                          "data/val", "--batch-size", "0")  # fmt: skip
    folder = write_run(here / "unfinished", NET, TRAIN, state="training")
    page = refused(capsys, "responses", folder, "--data", "data/val")
    assert "has no model.safetensors yet" in page


# -- curves -------------------------------------------------------------------------------------


def test_curves_of_runs_in_any_state(here: Path, capsys: Any) -> None:
    runs = [
        write_run(here / "plain20", "cifar_plain20", TRAIN, {30: 70.0}, final=55.0, steps=(30,)),
        write_run(here / "plain56", "cifar_plain56", {20: 90.0}, state="interrupted"),
    ]
    values = analyze(capsys, "curves", *runs, "--output", "k", "--x", "log", "--y", "log")
    assert [run["state"] for run in values["runs"]] == ["finished", "interrupted"]
    assert values["degradation"]["by_depth"][0]["train_difference"] == pytest.approx(0.1)
    assert json.loads((here / "k" / "curves.json").read_text()) == values
    assert (here / "k" / "curves.svg").read_text().startswith("<svg")
    assert main(["analyze", "curves", *map(str, runs), "--output", "k", "--y-max", "90"]) == 0
    out = capsys.readouterr().out
    for words in ("CIFAR-Plain-20", "interrupted", "100 of 100", "degradation", "Caution: "):
        assert words in out
    assert "--y-max is 0" in refused(capsys, "curves", *runs, "--y-max", "0")
    assert "is not a run folder" in refused(capsys, "curves", here / "data")


# -- side by side -------------------------------------------------------------------------------


@pytest.fixture
def scored(here: Path, capsys: Any) -> list[Path]:
    """Folders with the scores of both nets."""
    folders = []
    for name in ("one", "two"):
        assert main(["evaluate", "cls", f"{name}.safetensors", "--data", "data/val",
                     "--output", f"s/{name}"]) == 0  # fmt: skip
        folders.append(here / "s" / name)
    return folders


def test_classifiers_side_by_side(here: Path, scored: list[Path], capsys: Any) -> None:
    """Errors of evaluate cls, counts of the nets, responses by their tensors; three files."""
    analyze(capsys, "responses", "two.safetensors", "--data", "data/val", "--output", "q")
    values = analyze(capsys, "classifiers", *scored, "--responses", "q/responses.json",
                     "--output", "p")  # fmt: skip
    assert json.loads((here / "p" / "report.json").read_text()) == values
    one, two = values["classifiers"]
    assert (one["title"], two["title"]) == ("one", "two")
    assert one["counts"]["parameters"] == two["counts"]["parameters"]
    assert [net["title"] for net in values["responses"]] == ["two"]
    assert any("No responses of one" in note for note in values["notes"])
    assert len(values["per_class"]) == 3 and len(values["paired_tests"]) == 1
    test = values["paired_tests"][0]["top1"]
    assert test["p_value_holm"] == test["p_value"]
    for row in values["per_class"]:
        (against,) = row["against_first"]
        first, second = row["top1_error"]
        assert against["difference"] == pytest.approx(second - first)
    page = (here / "p" / "report.html").read_text("utf-8")
    assert "http" not in page and "Layer responses" in page
    text = (here / "p" / "report.md").read_text("utf-8")
    names = [
        name for name in ("pairs", "classes", "counts", "responses") if f"({name}.svg)" in text
    ]
    assert names == ["pairs", "classes", "counts", "responses"]
    assert all((here / "p" / f"{name}.svg").exists() for name in names)


def test_a_run_is_found_from_any_folder(
    here: Path, scored: list[Path], capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its scores name its file as it was typed then; its curve and settings are there all the
    same. The other member is a file of scores."""
    folder = write_run(here / "whole", NET, TRAIN, final=50.0, max_iter=40)
    (folder / "model.safetensors").write_bytes((here / "one.safetensors").read_bytes())
    assert main(["evaluate", "cls", "whole", "--data", "data/val"]) == 0
    (other,) = (scored[1] / "scores").glob("*.npz")
    monkeypatch.chdir(tmp_path)
    values = analyze(capsys, "classifiers", folder, other, "--output", "p")
    assert [run["title"] for run in values["curves"]] == ["whole"]
    assert [one["title"] for one in values["classifiers"]] == ["whole", "two"]
    assert any(note.startswith("two: no run folder") for note in values["notes"])


def test_without_torch_the_page_is_made_and_nothing_is_counted(
    here: Path, scored: list[Path], capsys: Any
) -> None:
    values = analyze(capsys, "classifiers", *scored, "--output", "p1")
    code = "from resdet.cli.main import main; main(sys.argv[1:])"
    out = children.printed_by(
        code, "analyze", "classifiers", *scored, "--output", here / "p2", "--json",
        without=["torch", "detectron2", "torchvision"],
    )  # fmt: skip
    alone = json.loads(out)
    assert [one["counts"] for one in alone["classifiers"]] == [None, None]
    assert any("torch is not installed" in note for note in alone["notes"])
    assert alone["paired_tests"] == values["paired_tests"]


def test_side_by_side_is_refused_where_nothing_fits(
    here: Path, scored: list[Path], capsys: Any
) -> None:
    assert "two or more" in refused(capsys, "classifiers", scored[0])
    page = refused(capsys, "classifiers", scored[0], "one.safetensors")
    assert "resdet evaluate cls one.safetensors" in page
    page = refused(capsys, "classifiers", scored[0], here / "data")
    assert "has no scores" in page and "resdet evaluate cls" in page
    page = refused(capsys, "classifiers", *scored, "--protocol", "dense")
    assert "has no scores of dense" in page
    (here / "bad.json").write_text("{}")
    page = refused(capsys, "classifiers", *scored, "--responses", "bad.json")
    assert "bad.json is damaged" in page


def test_several_scores_of_a_folder_must_be_chosen(
    here: Path, scored: list[Path], capsys: Any
) -> None:
    for name in ("one", "two"):
        words = ["evaluate", "cls", f"{name}.safetensors", "--data", "data/val", "--protocol",
                 "10-crop", "--side", "18", "--output", f"m/{name}"]  # fmt: skip
        assert main(words) == 0
        for file in (here / "s" / name / "scores").glob("*.npz"):
            (here / "m" / name / "scores" / file.name).write_bytes(file.read_bytes())
    folders = [here / "m" / name for name in ("one", "two")]
    page = refused(capsys, "classifiers", *folders)
    assert "several sets or protocols in common" in page and "--protocol" in page
    values = analyze(capsys, "classifiers", *folders, "--protocol", "10-crop", "--output", "p3")
    assert values["classifiers"][0]["protocol"]["kind"] == "10-crop"
