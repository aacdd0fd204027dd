"""Scores to ImageNet's text file: ids, order of lines, counts, the check of anyone's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.errors import CheckFailed, ConfigError
from resdet.evaluation.classification.classifier_errors import errors_in
from resdet.evaluation.classification.score_files import ClassScores, save_scores
from resdet.evaluation.ilsvrc.ilsvrc_synsets import sorted_wnids, wnids_by_id
from resdet.submission import ledger
from resdet.submission.ilsvrc_package import package


def scores_of(images: tuple[str, ...], labels: np.ndarray | None = None) -> ClassScores:
    """Random logits over the thousand outputs of a net, in the order of sorted wnids."""
    values = np.random.default_rng(0).normal(scale=3, size=(len(images), 1000))
    logs = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    if labels is None:
        labels = np.full(len(images), -1)
    return ClassScores(logs.astype(np.float32), labels, images, sorted_wnids(), "val", "hash")


# In folders of classes the second file comes first.
VAL = ("n01440764/ILSVRC2012_val_00000002.JPEG", "n15075141/ILSVRC2012_val_00000001.JPEG",
       "n15075141/ILSVRC2012_val_00000003.JPEG")  # fmt: skip


def test_lines_follow_file_names_and_ids_the_kit(tmp_path: Path) -> None:
    """By hand: the five largest of each row, mapped by wnid; the tench is id 449 of the development
    kit, output 0 of nets."""
    assert wnids_by_id()[449 - 1] == sorted_wnids()[0] == "n01440764"
    scores = scores_of(VAL, np.array([0, 999, 999]))
    save_scores(tmp_path / "scores" / "s.npz", scores)
    made = package(tmp_path / "scores" / "s.npz")
    assert made.path == tmp_path / "submissions" / "ilsvrc-cls" / "ilsvrc-cls.txt"
    lines = made.path.read_text().splitlines()
    expected = []
    for row in (1, 0, 2):
        best = np.argsort(-scores.log_probabilities[row])[:5]
        ids = [1 + wnids_by_id().index(sorted_wnids()[k]) for k in best]
        expected.append(" ".join(map(str, ids)))
    assert lines == expected
    errors = errors_in(scores)
    assert made.errors == (errors.top1.wrong, errors.top5.wrong)
    assert made.test_set is not None and made.test_set.images == 50_000


def test_a_right_guess_is_right_in_the_file(tmp_path: Path) -> None:
    """Labels taken from the scores themselves: 1 wrong of 3 at top-1, none at top-5."""
    best = np.argsort(-scores_of(VAL).log_probabilities, axis=1)
    labels = np.array([best[0, 0], best[1, 4], best[2, 0]])
    save_scores(tmp_path / "s.npz", scores_of(VAL, labels))
    assert package(tmp_path / "s.npz", output=tmp_path / "o").errors == (1, 0)


def test_all_test_images_or_none(tmp_path: Path) -> None:
    """One missing would move every line behind it."""
    images = tuple(f"ILSVRC2012_test_{n:08d}.JPEG" for n in (1, 2, 4))
    save_scores(tmp_path / "s.npz", scores_of(images))
    with pytest.raises(CheckFailed, match="3 of the 100,000 test images(.|\n)*_00000003.JPEG"):
        package(tmp_path / "s.npz", output=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_other_classes_are_refused(tmp_path: Path) -> None:
    scores = ClassScores(np.log(np.full((1, 2), 0.5, np.float32)), np.array([0]), ("a",),
                         ("cat", "dog"), "pets", "h")  # fmt: skip
    save_scores(tmp_path / "s.npz", scores)
    with pytest.raises(ConfigError, match="2 classes .cat, dog, ….*2 are not among ImageNet's"):
        package(tmp_path / "s.npz")


def test_names_of_two_images_must_differ(tmp_path: Path) -> None:
    save_scores(tmp_path / "s.npz", scores_of(("a/1.png", "b/1.png")))
    with pytest.raises(ConfigError, match="1 images have the file name of another"):
        package(tmp_path / "s.npz")


def test_the_command_and_its_check(submit: Any, tmp_path: Path, ledger_path: Path) -> None:
    save_scores(tmp_path / "scores" / "s.npz", scores_of(VAL, np.array([0, 999, 999])))
    done = submit("ilsvrc-cls", tmp_path / "scores" / "s.npz")
    assert done.returncode == 0, done.stderr
    for words in (
        "3 lines of at most five ids, in the order of the file names",
        "Of the file, read back: top-1 error ",
        "ImageNet's server for classification: uncertain when last seen, June 2015",
        "ILSVRC2012_val has 50,000 images, this package is of 3: a rehearsal.",
        "Nothing was uploaded.",
    ):
        assert words in done.stdout
    (entry,) = ledger.read(ledger_path)
    assert entry["server"] == "ilsvrc-cls" and entry["images"] == 3 and entry["run"] is None
    file = tmp_path / "submissions" / "ilsvrc-cls" / "ilsvrc-cls.txt"
    done = submit("check", file, "--ilsvrc-cls", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "ok": True,
        "detections": 15,
        "images": {"expected": 3, "evaluated": 3, "missing": 0},
        "findings": [],
    }
    done = submit("check", file, "--ilsvrc-cls")
    assert done.returncode == 1
    assert "15 labels on 3 of 100,000 images\nnot clean:" in done.stdout
    assert "[missing-images] 3 lines for 100,000 images." in done.stdout
    file.write_text("0 1\n")
    done = submit("check", file, "--ilsvrc-cls", "1")
    assert done.returncode == 1 and "they count from 0" in done.stdout
    done = submit("check", file, "--ilsvrc-cls", "1", "--task", "segm")
    assert done.returncode == 2 and "for COCO's results, not for --ilsvrc-cls" in done.stderr
