"""ImageNet's text files of classification: the order of ids, the checks, the errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.ilsvrc.cls_files import (
    check_cls_results,
    cls_errors,
    cls_results,
    read_cls_results,
    write_cls_results,
)
from resdet.evaluation.ilsvrc.ilsvrc_synsets import sorted_wnids, wnids_by_id


def test_ids_are_the_development_kits() -> None:
    """The first ten labels of ILSVRC2012_validation_ground_truth.txt, and the class folders that
    torchvision's and Caffe's lists have the first ten validation images in."""
    truth = [490, 361, 171, 822, 297, 482, 13, 704, 599, 164]
    folders = ["n01751748", "n09193705", "n02105855", "n04263257", "n03125729",
               "n01735189", "n02346627", "n02776631", "n03794056", "n02328150"]  # fmt: skip
    assert [wnids_by_id()[i - 1] for i in truth] == folders
    assert len(set(wnids_by_id())) == 1000
    assert sorted_wnids()[0] == "n01440764" and sorted_wnids()[999] == "n15075141"


def test_sorted_wnids_are_the_outputs_of_nets(shared_data: Path) -> None:
    """synsets.txt beside ImageNet's sample: index, wnid and name in the usual order."""
    listed = (shared_data / "imagenet_sample" / "synsets.txt").read_text("utf-8").splitlines()
    assert [line.split()[1] for line in listed] == list(sorted_wnids())


def test_a_file_comes_back(tmp_path: Path) -> None:
    ids = np.array([[1, 2, 3, 4, 5], [1000, 999, 998, 997, 996]])
    assert write_cls_results(tmp_path / "f.txt", cls_results(ids)) == []
    assert (tmp_path / "f.txt").read_text() == "1 2 3 4 5\n1000 999 998 997 996\n"
    back = read_cls_results(tmp_path / "f.txt")
    assert back.num_images == 2 and back.label.tolist() == ids.reshape(-1).tolist()
    assert back.image.tolist() == [1] * 5 + [2] * 5


def test_errors_by_hand(tmp_path: Path) -> None:
    """Right at once, at the fifth guess, at a sixth that does not count, without a guess."""
    path = tmp_path / "f.txt"
    path.write_text("7 1\n1 2 3 4 7\n1 2 3 4 5 7\n\n")
    assert cls_errors(read_cls_results(path), [7, 7, 7, 7]) == (3, 2)
    with pytest.raises(ValueError, match="3 true labels for 4 images"):
        cls_errors(read_cls_results(path), [7, 7, 7])


@pytest.mark.parametrize(
    ("text", "rule", "severity"),
    [
        ("1 2\n", "missing-images", "refuse"),
        ("0 1\n2 3\n", "unknown-category", "refuse"),
        ("1001\n2\n", "unknown-category", "refuse"),
        ("1 2 3 4 5 6\n2\n", "over-5", "refuse"),
        ("1 2 1\n2\n", "duplicates", "warn"),
        ("\n2\n", "images-without-guess", "warn"),
    ],
)
def test_each_fault_has_its_name(tmp_path: Path, text: str, rule: str, severity: str) -> None:
    path = tmp_path / "f.txt"
    path.write_text(text)
    (fault,) = check_cls_results(read_cls_results(path), 2)
    assert (fault.rule, fault.severity) == (rule, severity)


def test_ids_from_0_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_text("0 1\n999 3\n")
    (fault,) = check_cls_results(read_cls_results(path), 2)
    assert "they count from 0" in fault.what and fault.fix.startswith("Add 1.")


def test_what_is_no_list_of_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    with pytest.raises(DataError, match="does not exist"):
        read_cls_results(path)
    path.write_text("1 2\ncat dog\n3.5\n")
    with pytest.raises(CheckFailed, match='2 lines are not ids.*\n.*line 2: "cat dog"'):
        read_cls_results(path)
