"""Ground truth of a tree, and `evaluate ilsvrc`: files that are right by construction, and wrong
ones whose numbers are worked by hand."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.cli import evaluate
from resdet.errors import CheckFailed, ConfigError, DataError
from resdet.evaluation.ilsvrc.ilsvrc_files import read_det_results
from resdet.evaluation.ilsvrc.ilsvrc_truth import read_det_set, read_loc_set


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args(["ilsvrc", *(str(w) for w in words)]))


def page(capsys: Any, *words: object) -> dict[str, Any]:
    assert run(*words, "--json") == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.fixture
def tree(ilsvrc_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ilsvrc_root, tmp_path / "ILSVRC"))


def perfect_det(root: Path, split: str = "val") -> list[str]:
    """A line for each object, at its own box."""
    data = read_det_set(root, split)
    truth = data.truth
    return [
        f"{data.images.indices[i - 1]} {k} 0.9 {' '.join(map(str, box))}"
        for i, k, box in zip(truth.image.tolist(), truth.label.tolist(), truth.boxes.tolist(),
                             strict=True)
    ]  # fmt: skip


def test_perfect_detections_have_map_1(tree: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "det.txt"
    file.write_text("\n".join(perfect_det(tree)) + "\n")
    result = page(capsys, "det", file, "--root", tree)
    assert result["mean_ap"] == 1.0
    assert result["images"] == {"expected": 12, "evaluated": 12, "missing": 0}
    assert result["blacklisted"] == 1
    assert page(capsys, "det", file, "--root", tree, "--all-pairs")["blacklisted"] == 0


def test_the_blacklist_takes_out_its_pair(tree: Path, tmp_path: Path, capsys: Any) -> None:
    """Without detections on the blacklisted pair its class is still whole; with all pairs it misses
    those objects: recall 1 - missing / all, precision 1, so that is its AP."""
    index, wnid = (
        (tree / "devkit" / "data" / "ILSVRC2015_det_validation_blacklist.txt").read_text().split()
    )
    label = read_det_set(tree).synsets.place()[wnid] + 1
    lines = perfect_det(tree)
    kept = [line for line in lines if line.split()[:2] != [index, str(label)]]
    file = tmp_path / "det.txt"
    file.write_text("\n".join(kept) + "\n")
    assert page(capsys, "det", file, "--root", tree)["classes"][str(label)]["ap"] == 1.0
    every = page(capsys, "det", file, "--root", tree, "--all-pairs")["classes"][str(label)]
    assert every["ap"] == pytest.approx(1 - (len(lines) - len(kept)) / every["positives"])


def test_a_list_with_indices_of_val(tree: Path, tmp_path: Path, capsys: Any) -> None:
    """val2 of two images: their indices are those of val, and others are refused."""
    (tree / "ImageSets" / "DET" / "val2.txt").write_text(
        "ILSVRC2012_val_00000009 9\nILSVRC2012_val_00000004 4\n"
    )
    file = tmp_path / "det.txt"
    file.write_text("\n".join(perfect_det(tree, "val2")) + "\n")
    result = page(capsys, "det", file, "--root", tree, "--split", "val2")
    assert (result["mean_ap"], result["images"]["expected"]) == (1.0, 2)
    with open(file, "a", encoding="utf-8") as f:
        f.write("5 1 0.5 1 1 9 9\n")
    with pytest.raises(CheckFailed, match=r"(?s)1 of \d+ detections are of images.*image 5"):
        run("det", file, "--root", tree, "--split", "val2")


def test_images_that_a_run_did_not_visit_are_refused(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "det.txt"
    file.write_text("\n".join(perfect_det(tree)) + "\n")
    ids = read_det_set(tree).images.ids
    (tmp_path / "images.json").write_text(json.dumps({"evaluated": ids[1:], "expected": ids}))
    with pytest.raises(CheckFailed, match=r"1 of 12 images were not detected on"):
        run("det", file, "--root", tree)


def loc_lines(root: Path) -> list[list[Any]]:
    """[label, box] of each image's first object."""
    truth = read_loc_set(root).truth
    first = {}
    for image, box in zip(truth.image.tolist(), truth.boxes.tolist(), strict=True):
        first.setdefault(image, box)
    return [[label, *first[n]] for n, label in enumerate(truth.labels.tolist(), 1)]


def test_loc_errors_of_right_wrong_and_moved_guesses(
    tree: Path, tmp_path: Path, capsys: Any
) -> None:
    """20 images, the last blacklisted. By hand: one wrong label at the right box, one right label
    at a far box, one empty line: top-5 error 3 of 19, box error 2 of 19, classification 2 of 20."""
    rows = loc_lines(tree)
    assert len(rows) == 20
    rows[0][0] = rows[0][0] % 10 + 1
    rows[1][1:] = [1, 1, 2, 2]
    lines = [" ".join(map(str, row)) for row in rows]
    lines[2] = ""
    file = tmp_path / "loc.txt"
    file.write_text("\n".join(lines) + "\n")
    result = page(capsys, "loc", file, "--root", tree)
    assert result["top5_localization_error"] == pytest.approx(3 / 19)
    assert result["known_class_localization_error"] == pytest.approx(2 / 19)
    assert result["top5_classification_error"] == pytest.approx(2 / 20)
    assert result["blacklisted"] == 1


def test_labels_of_the_kit_that_differ_from_the_xml_are_refused(tree: Path) -> None:
    kit = tree / "devkit" / "data" / "ILSVRC2015_clsloc_validation_ground_truth.txt"
    labels = kit.read_text().split()
    kit.write_text("\n".join([str(int(labels[0]) % 10 + 1), *labels[1:]]) + "\n")
    with pytest.raises(DataError, match=r"(?s)1 images have boxes of another class.*_00000001"):
        read_loc_set(tree)
    kit.unlink()
    assert read_loc_set(tree).truth.labels.tolist() == [int(v) for v in labels]


def test_cls_errors_against_the_kits_labels(tree: Path, tmp_path: Path, capsys: Any) -> None:
    """By hand: 20 lines with the true label second; one of them not at all: 100 % and 5 %."""
    labels = [row[0] for row in loc_lines(tree)]
    lines = [f"{label % 10 + 1} {label}" for label in labels]
    lines[7] = f"{labels[7] % 10 + 1}"
    file = tmp_path / "cls.txt"
    file.write_text("\n".join(lines) + "\n")
    result = page(capsys, "cls", file, "--root", tree)
    assert (result["top1_error"], result["top5_error"]) == (1.0, 0.05)
    with pytest.raises(ConfigError, match="--split and --all-pairs are for det and loc"):
        run("cls", file, "--root", tree, "--split", "val2")


def test_tables_for_people(tree: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "det.txt"
    file.write_text("\n".join(perfect_det(tree)) + "\n")
    assert run("det", file, "--root", tree) == 0
    out = capsys.readouterr().out
    assert "mAP (ILSVRC DET), on 12 of 12 images; 1 pairs of image and class blacklisted" in out
    assert "three (n90000003)" in out and "mean of" in out


def test_an_object_of_no_class_is_a_page(tree: Path) -> None:
    path = next((tree / "Annotations" / "DET" / "val").glob("*5.xml"))
    path.write_text(path.read_text().replace("n9000000", "n8000000"))
    with pytest.raises(DataError, match=r"n8000000\d is no class of map_det\.txt"):
        read_det_set(tree)


def test_results_read_back_at_their_places(tree: Path, tmp_path: Path) -> None:
    file = tmp_path / "det.txt"
    file.write_text("\n".join(perfect_det(tree)) + "\n")
    data = read_det_set(tree)
    placed = data.placed(read_det_results(file))
    assert np.array_equal(placed.image, data.truth.image)
    assert np.array_equal(placed.boxes, data.truth.boxes)


def test_labels_and_blacklist_of_val_are_not_taken_for_training_images(ilsvrc_root: Path) -> None:
    """The kit's lists count val's images; train_loc's classes are those of its own objects."""
    data = read_loc_set(ilsvrc_root, "train_loc")
    (kit,) = (ilsvrc_root / "devkit" / "data").glob("*_clsloc_validation_ground_truth.txt")
    assert len(data.images) > len(kit.read_text().split())
    assert data.blacklist == ()
    of_folder = [data.synsets.wnids.index(name.split("/")[0]) + 1 for name in data.images.ids]
    assert data.truth.labels.tolist() == of_folder
    assert read_loc_set(ilsvrc_root, "val").blacklist != ()
