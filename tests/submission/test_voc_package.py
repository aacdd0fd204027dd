"""VOC's package: the tree, all classes, pixels from 1, every digit; read back and compared."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from resdet.errors import CheckFailed, RunError
from resdet.formats.voc_xml import VOC_CLASSES
from resdet.submission import archive, voc_package

SET = "voc_2012_test"


def members(path: Path) -> dict[str, str]:
    """The files in a package, read without our code."""
    with tarfile.open(path, "r:gz") as archive:
        return {m.name: archive.extractfile(m).read().decode() for m in archive}  # type: ignore[union-attr]


@pytest.fixture
def twelve() -> dict[str, Any]:
    """VOC 2012's test set, two images of it: no annotations, ids as text, twenty classes."""
    return {
        "images": [
            {"id": "2008_000001", "width": 500, "height": 375, "file_name": "2008_000001.jpg"},
            {"id": "2008_000004", "width": 500, "height": 375, "file_name": "2008_000004.jpg"},
        ],
        "categories": [{"id": i, "name": n} for i, n in enumerate(VOC_CLASSES, 1)],
    }


RESULTS = [
    # The whole image: 0-based and half-open here, 1 to 500 and 1 to 375 in VOC's files.
    {"image_id": "2008_000004", "category_id": 1, "bbox": [0.0, 0.0, 500.0, 375.0], "score": 0.702},
    {"image_id": "2008_000001", "category_id": 20, "bbox": [88.1, 111.5, 427.25, 353.5],
     "score": 0.10000000149011612},
]  # fmt: skip


def test_the_tree_is_the_servers(make_run: Any, twelve: Any) -> None:
    """The devkit's layout: one file for each of the twenty classes, most of them empty."""
    made = voc_package.package(make_run(SET, twelve, RESULTS, year=2012), SET)
    files = members(made.path)
    assert sorted(files) == [f"results/VOC2012/Main/comp4_det_test_{n}.txt" for n in VOC_CLASSES]
    assert sum(text == "" for text in files.values()) == 18
    assert made.detections == 2 and made.per_class["tvmonitor"] == 1
    assert made.has_vocs_classes and made.score is None


def test_pixels_count_from_1_with_every_digit(make_run: Any, twelve: Any) -> None:
    """Worked by hand: 1 is added to x and y, the far corner stays; a float32 score in full."""
    files = members(voc_package.package(make_run(SET, twelve, RESULTS, year=2012), SET).path)
    main = "results/VOC2012/Main/comp4_det_test"
    assert files[f"{main}_aeroplane.txt"] == "2008_000004 0.702 1.0 1.0 500.0 375.0\n"
    fields = files[f"{main}_tvmonitor.txt"].split()
    assert fields[:2] == ["2008_000001", "0.10000000149011612"]
    assert [float(v) for v in fields[2:]] == [89.1, 112.5, 88.1 + 427.25, 465.0]


def test_the_same_results_give_the_same_bytes(make_run: Any, twelve: Any, tmp_path: Path) -> None:
    run = make_run(SET, twelve, RESULTS, year=2012)
    one, other = (voc_package.package(run, SET, output=tmp_path / n) for n in "ab")
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.path.read_bytes()[4:8] == bytes(4)  # RFC 1952: the time of making, 0 is none
    with tarfile.open(one.path) as packed:
        assert {(m.mtime, m.uid, m.uname) for m in packed} == {(0, 0, "")}


def test_the_year_of_the_set_is_in_the_tree(make_run: Any, pets: Any, found: Any) -> None:
    """A rehearsal on a set of three classes with ground truth: perfect boxes have AP 1."""
    cat, dog, toothbrush = pets["annotations"]
    order = (dog, toothbrush, cat)
    results = [{**f, "bbox": a["bbox"]} for f, a in zip(found, order, strict=True)]
    made = voc_package.package(make_run("pets", pets, results, year=2007), "pets")
    assert made.path.name == "results_VOC2007_comp4_det_test.tar.gz"
    assert sorted(members(made.path)) == [
        f"results/VOC2007/Main/comp4_det_test_{n}.txt" for n in ("cat", "dog", "toothbrush")
    ]
    assert not made.has_vocs_classes
    assert made.score is not None and made.score.mean_ap == 1.0
    assert made.score.ap_rule == "11-point"


def test_an_id_that_the_set_does_not_have_is_refused(make_run: Any, twelve: Any) -> None:
    run = make_run(SET, twelve, RESULTS, year=2012)
    path = run.results(SET) / "comp4_det_test_cat.txt"
    path.write_text("2009_000001 0.5 1 1 5 5\n", encoding="utf-8")
    with pytest.raises(CheckFailed, match="image 2009_000001 is not among the 2 images"):
        voc_package.package(run, SET)
    assert not run.submissions("voc").exists()


def test_a_class_without_a_file_is_refused(make_run: Any, twelve: Any) -> None:
    """It would be an empty class; a class without detections has an empty file."""
    run = make_run(SET, twelve, RESULTS, year=2012)
    (run.results(SET) / "comp4_det_test_cow.txt").unlink()
    with pytest.raises(RunError, match="has no comp4_det_test_cow.txt"):
        voc_package.package(run, SET)


def test_a_set_without_a_year_is_refused(make_run: Any, pets: Any, found: Any) -> None:
    with pytest.raises(RunError, match="has no VOC year"):
        voc_package.package(make_run("coco_2017_val", pets, found), "coco_2017_val")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"cow.txt": None}, "1 files are missing or too many", id="file-missing"),
        pytest.param({"cows.txt": ""}, "1 files are missing or too many", id="file-too-many"),
        pytest.param({"cow.txt": "2008_000001 0.5 1 1 5 5\n"}, "differs", id="other-content"),
    ],
)
def test_a_package_that_reads_back_otherwise_is_none(
    make_run: Any, twelve: Any, monkeypatch: pytest.MonkeyPatch, change: Any, match: str
) -> None:
    """What if writing went wrong: the archive is changed between making and reading."""
    write = archive.write_tar_gz

    def wrong(path: Path, files: dict[str, bytes]) -> None:
        for end, text in change.items():
            name = f"results/VOC2012/Main/comp4_det_test_{end}"
            if text is None:
                del files[name]
            else:
                files[name] = text.encode()
        write(path, files)

    monkeypatch.setattr(archive, "write_tar_gz", wrong)
    run = make_run(SET, twelve, RESULTS, year=2012)
    with pytest.raises(CheckFailed, match=match):
        voc_package.package(run, SET)
    assert list(run.submissions("voc").iterdir()) == []


def test_a_damaged_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    archive.write_tar_gz(path, {"a": b"1" * 5000})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckFailed, match="not readable as a tar.gz"):
        archive.read_tar_gz(path)
