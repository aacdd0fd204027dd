"""VOC's XML, image lists and detection files: read strictly, written in full precision."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.cli import main
from resdet.errors import CheckFailed, DataError
from resdet.evaluation.inputs.annotation_entries import RULES
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.evaluation.voc.annotation_files import read_annotation
from tests.support.voc_xml import annotation, tags, voc_object


def write_xml(root: Path, image_id: str, objects: str, size: tuple[int, int] = (50, 40)) -> Path:
    path = root / "Annotations" / f"{image_id}.xml"
    name = tags(filename=f"{image_id}.jpg")
    path.write_text(annotation(name, objects, size=(*size, 3)), encoding="utf-8")
    return path


def parsed(devkit: Path, objects: str) -> Any:
    return read_annotation(write_xml(devkit, "000001", objects))


# -- annotations ------------------------------------------------------------------------------


def test_decimals_are_legal(devkit: Path) -> None:
    """F90: VOC 2012 has 45.70; Detectron2's evaluator ends in int()."""
    item = parsed(devkit, voc_object("cow", ("45.70", 2, "46.3", 9))).objects[0]
    assert item.box == (45.70, 2.0, 46.3, 9.0)


def test_missing_tags_are_taken_as_0_and_counted(devkit: Path) -> None:
    """F15: labelling tools write neither pose nor truncated nor difficult."""
    annotation = parsed(devkit, voc_object("cow", (1, 1, 5, 5)))
    assert not annotation.objects[0].difficult
    assert not annotation.objects[0].truncated
    assert annotation.repairs == {"difficult missing, read as 0": 1}


def test_truncated_may_be_a_fraction(devkit: Path) -> None:
    """F15: 0.0597 stands in files of tf-faster-rcnn's users; any cut is a cut."""
    objects = voc_object("cow", (1, 1, 5, 5), truncated=0.0597, difficult=1)
    item = parsed(devkit, objects).objects[0]
    assert item.truncated
    assert item.difficult


def test_blanks_around_a_class_name_are_fixed_and_counted(devkit: Path) -> None:
    """F4: Detectron2's evaluator compares and finds no ground truth."""
    annotation = parsed(devkit, voc_object(" cow ", (1, 1, 5, 5), difficult=0))
    assert annotation.objects[0].name == "cow"
    assert annotation.repairs == {"blanks around a class name": 1}


@pytest.mark.parametrize(
    ("objects", "match"),
    [
        (voc_object("cow", (1, 1, "wide", 5)), r'object 1 \(cow\): xmax is "wide"'),
        (voc_object("cow", (1, "nan", 4, 5)), 'ymin is "nan"'),
        (voc_object("cow", (1, 1, 5, 5), difficult=2), 'difficult is "2". Write 0 or 1'),
        (voc_object("", (1, 1, 5, 5)), "object 1 has no <name>"),
        ("<object><name>cow</name></object>", r"object 1 \(cow\) has 0 <bndbox>"),
        (
            "<object><name>cow</name><bndbox><xmin>1</xmin></bndbox></object>",
            "has no <ymin>",
        ),
    ],
    ids=["text", "nan", "flag", "name", "no-box", "part-of-a-box"],
)
def test_faulty_objects_are_named(devkit: Path, objects: str, match: str) -> None:
    """F11, F15: file, object, class and value."""
    parsed(devkit, objects)
    with pytest.raises(DataError, match=match):
        voc.read_devkit_ground_truth(devkit, "test")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<annotation><object>", "000001.xml, line 1: the file ends before"),
        ("", "is empty"),
        ("<html></html>", "is a web page"),
        ("<labels></labels>", "opens with <labels>"),
        (
            "<annotation><size><width>0</width><height>3</height></size></annotation>",
            "width is 0, height is 3",
        ),
    ],
    ids=["cut-off", "empty", "foreign", "other", "size"],
)
def test_files_that_are_no_annotation_are_refused(devkit: Path, text: str, match: str) -> None:
    """F16, F87: names which file and what it is instead."""
    path = devkit / "Annotations" / "000001.xml"
    path.write_text(text, encoding="utf-8")
    (fault,) = read_annotation(path).faults
    assert match in fault
    with pytest.raises(DataError, match=match):
        voc.read_devkit_ground_truth(devkit, "test")


def test_a_missing_annotation_is_named(devkit: Path) -> None:
    """F1: the file and the way out."""
    (devkit / "Annotations" / "000002.xml").unlink()
    with pytest.raises(DataError, match=r"000002.xml does not exist.*take 000002 out"):
        voc.read_devkit_ground_truth(devkit, "test")


@pytest.mark.parametrize(
    ("box", "match"),
    [((9, 1, 3, 5), "xmin 9 is greater than xmax 3"), ((1, 9, 5, 3), "ymin 9 is greater than")],
)
def test_swapped_boxes_are_found(devkit: Path, box: Any, match: str) -> None:
    """F11: with the object and both values."""
    parsed(devkit, voc_object("cow", box))
    with pytest.raises(DataError, match=match):
        voc.read_devkit_ground_truth(devkit, "test")


@pytest.mark.parametrize("box", [(1, 1, 51, 5), (1, 1, 5, 41), (-1, 1, 5, 5)])
def test_boxes_that_leave_their_image_are_scored_and_counted(devkit: Path, box: Any) -> None:
    """F12: the devkit and Detectron2 score them as they stand; the image is 50 x 40."""
    parsed(devkit, voc_object("cow", box))
    truth = voc.read_devkit_ground_truth(devkit, "test", ["cow"])
    assert truth.repairs["boxes that leave their image, kept"] == 1
    assert truth.boxes.tolist() == [list(box)]
    found = voc.detections_from_boxes(
        ["cow"], ["000001"], [0], [(box[0] - 1, box[1] - 1, box[2], box[3])], [0.9],
        evaluated=truth.image_ids,
    )  # fmt: skip
    assert voc.evaluate(truth, found).mean_ap == pytest.approx(1)


COW = voc_object("cow", (1, 1, 9, 9))


@pytest.mark.parametrize(
    ("text", "rule", "left"),
    [
        ("<annotation><object>", "gt-images", 0),
        (None, "gt-images", 0),
        (annotation(voc_object("cow", (9, 1, 3, 5)), COW), "gt-boxes", 1),
        (annotation(voc_object("cow", ("x", 1, 3, 5)), COW), "gt-entries", 1),
    ],
)
def test_faults_of_annotations_are_accepted_by_their_count(
    devkit: Path, tmp_path: Path, capsys: Any, text: str | None, rule: str, left: int
) -> None:
    """`evaluate voc`: the page's words are typed, and stand in the JSON."""
    path = devkit / "Annotations" / "000001.xml"
    path.unlink()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    dets = written(tmp_path, cow="000002 0.5 1 1 5 5\n")
    words = ["evaluate", "voc", str(dets), "--root", str(devkit), "--split", "test"]
    words += ["--ap", "area", "--json"]
    assert main.main(words) == 2
    page = capsys.readouterr().err
    assert page.strip().endswith(f": --accept {rule}=1")
    assert main.main([*words, "--accept", f"{rule}=1"]) == 0
    captured = capsys.readouterr()
    output = json.loads(captured.out)
    assert output["accepted"] == {rule: 1}
    assert output["images"]["expected"] == (1 if rule == "gt-images" else 2)
    assert output["classes"]["cow"]["positives"] == left
    assert f"1 x {RULES[rule]}" in captured.err
    assert main.main([*words, "--accept", f"{rule}=2"]) == 1


# -- lists ------------------------------------------------------------------------------------


def test_an_unknown_split_lists_the_known_ones(devkit: Path) -> None:
    """F3: what is there instead."""
    with pytest.raises(DataError, match=r"val.txt does not exist.*these splits: test"):
        voc.read_devkit_ground_truth(devkit, "val")


def test_a_root_one_level_off_is_named(devkit: Path) -> None:
    """F3: never guessed, but reported."""
    with pytest.raises(DataError, match=f"Give --root {devkit}"):
        voc.read_devkit_ground_truth(devkit.parent, "test")
    with pytest.raises(DataError, match=f"Give --root {devkit}"):
        voc.read_devkit_ground_truth(devkit / "JPEGImages", "test")


# -- ground truth -----------------------------------------------------------------------------


def test_ground_truth_of_a_tree(devkit: Path) -> None:
    """The tree of the fixture: two cows, one difficult, an empty image; VOC's twenty classes."""
    truth = voc.read_devkit_ground_truth(devkit, "test")
    assert truth.image_ids == ("000001", "000002")
    assert len(truth.classes) == 20
    assert truth.boxes.tolist() == [[1, 1, 10, 10], [21, 21, 30, 30]]
    assert truth.difficult.tolist() == [False, True]
    assert [truth.classes[i] for i in truth.label] == ["cow", "cow"]


def test_a_class_in_another_case_is_refused_with_a_suggestion(devkit: Path) -> None:
    """F4: the comparison would simply find nothing."""
    write_xml(devkit, "000002", voc_object("Person", (1, 1, 5, 5)))
    with pytest.raises(DataError, match=r'class "Person" is not among the 20.*mean "person"'):
        voc.read_devkit_ground_truth(devkit, "test")


def test_classes_of_a_home_made_set_are_those_found(devkit: Path) -> None:
    """Names of its own, and one that has a list in ImageSets/Main but no object here."""
    write_xml(devkit, "000002", voc_object("7", (1, 1, 5, 5)))
    (devkit / "ImageSets" / "Main" / "9_test.txt").write_text("000001 -1\n", encoding="utf-8")
    assert voc.read_devkit_ground_truth(devkit, "test").classes == ("7", "9", "cow")


def test_coco_boxes_become_vocs(instances: dict[str, Any]) -> None:
    """x, y, w, h = 10, 10, 40, 40 covers the pixels 11 to 50; a crowd is not to be found."""
    instances["annotations"][1]["iscrowd"] = 1
    instances["annotations"][2]["difficult"] = 1
    truth = voc.ground_truth_from_coco(instances)
    assert truth.boxes[0].tolist() == [11, 11, 50, 50]
    assert truth.difficult.tolist() == [False, True, True]
    assert truth.repairs == {"crowds, taken as difficult": 1}


def test_a_crowd_that_lists_its_objects_becomes_them(instances: dict[str, Any]) -> None:
    """As VOC's XML has them: single, difficult; [5, 5, 9, 9] covers the pixels 6 to 14."""
    crowd = instances["annotations"][2]
    crowd.update(iscrowd=1, members=[[5, 5, 9, 9], [16, 5, 9, 20]])
    truth = voc.ground_truth_from_coco(instances)
    assert truth.boxes[2:].tolist() == [[6, 6, 14, 14], [17, 6, 25, 25]]
    assert truth.difficult.tolist() == [False, False, True, True]
    assert truth.image.tolist() == [0, 1, 1, 1]
    assert truth.repairs == {}
    crowd["members"] = [[5, 5, 9]]
    with pytest.raises(DataError, match="annotation 13, members: bbox is"):
        voc.ground_truth_from_coco(instances)


# -- detection files --------------------------------------------------------------------------


def detections(count: int = 200) -> voc.VocDetections:
    rng = np.random.default_rng(0)
    boxes = rng.random((count, 4)).astype(np.float32) * 100
    return voc.detections_from_boxes(
        ["cow", "dog", "traffic_light"],
        [f"{i % 7:06d}" for i in range(count)],
        np.sort(rng.integers(0, 2, count)),
        boxes,
        rng.random(count).astype(np.float32),
    )


@pytest.mark.parametrize("packed", [False, True], ids=["txt", "gz"])
def test_what_is_written_reads_back_to_the_bit(tmp_path: Path, packed: bool) -> None:
    """F51: no digit is lost; a class without detections has an empty file (F87)."""
    before = detections()
    paths = voc.write_detections(tmp_path, before)
    assert [p.name for p in paths] == [
        f"comp4_det_test_{name}.txt" for name in ("cow", "dog", "traffic_light")
    ]
    assert paths[2].read_bytes() == b""
    if packed:
        for path in paths:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    after = voc.read_detections(tmp_path, before.classes)
    assert list(after.image_ids) == list(before.image_ids)
    np.testing.assert_array_equal(after.boxes, before.boxes)
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(after.label, before.label)
    assert after.unread == ()


def test_boxes_are_written_from_1(tmp_path: Path) -> None:
    """Detectron2's rule: 1 is added to xmin and ymin only."""
    one = voc.detections_from_boxes(["cow"], ["000005"], [0], [[0, 1.5, 20, 30.25]], [0.125])
    path = voc.write_detections(tmp_path, one, set_name="val")[0]
    assert path.name == "comp4_det_val_cow.txt"
    assert path.read_text(encoding="utf-8") == "000005 0.125 1.0 2.5 20.0 30.25\n"


def test_numbers_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    """F80: nothing is left behind either."""
    one = voc.detections_from_boxes(["cow"], ["5"], [0], [[0, 1, 20, 30]], [float("nan")])
    with pytest.raises(CheckFailed, match="score nan"):
        voc.write_detections(tmp_path / "out", one)
    assert not (tmp_path / "out").exists()


def test_an_image_id_with_a_line_break_is_refused(tmp_path: Path) -> None:
    """It would read back as two lines."""
    one = voc.detections_from_boxes(["cow"], ["5\n6"], [0], [[0, 1, 20, 30]], [0.5])
    with pytest.raises(CheckFailed, match="cannot stand in a line"):
        voc.write_detections(tmp_path, one)


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"comp4_det_test_{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_a_misspelt_class_is_refused(tmp_path: Path) -> None:
    """F87: it would be an empty class."""
    written(tmp_path, cow="", person="", persn="1 0.5 1 1 5 5\n")
    with pytest.raises(CheckFailed, match=r'"persn" is not among the 2 .*mean "person"'):
        voc.read_detections(tmp_path, ["cow", "person"])


def test_a_class_without_a_file_is_not_scored(tmp_path: Path, devkit: Path) -> None:
    """Nobody gave its detections: null, left out of the mean, and reported."""
    written(tmp_path, cow="000001 0.5 1 1 10 10\n")
    write_xml(devkit, "000002", voc_object("dog", (1, 1, 5, 5), difficult=0))
    truth = voc.read_devkit_ground_truth(devkit, "test")
    result = voc.evaluate(truth, voc.read_detections(tmp_path, truth.classes))
    assert result.classes["dog"].ap is None
    assert result.to_json()["classes"]["dog"]["detections"] is None
    assert result.mean_ap == 1.0
    assert any("no detections file for: dog" in note for note in result.notes)
    (warning,) = [item for item in result.warnings if item.rule == "no-file"]
    assert "classes have objects and no file" in warning.what and warning.first == ["dog"]
    assert result.to_json()["without_a_file"] == ["dog"]


def test_class_names_that_end_alike_are_told_apart(tmp_path: Path) -> None:
    """comp4_det_test_red_cow.txt ends with _cow.txt too: the longest name wins."""
    written(tmp_path, cow="1 0.5 1 1 5 5\n", red_cow="2 0.5 1 1 5 5\n3 0.5 1 1 5 5\n")
    read = voc.read_detections(tmp_path, ["cow", "red_cow"])
    assert read.label.tolist() == [0, 1, 1]
    assert read.name(2) == "comp4_det_test_red_cow.txt, line 2"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../../../../../victim", "comp4_det_test_%2E.%2F..%2F..%2F..%2F..%2Fvictim.txt"),
        ("/victim", "comp4_det_test_%2Fvictim.txt"),
        ("a/b", "comp4_det_test_a%2Fb.txt"),
        ("50%", "comp4_det_test_50%25.txt"),
        ("a\n\x00b", "comp4_det_test_a%0A%00b.txt"),
        ("caf\u00e9 cr\u00e8me", "comp4_det_test_caf\u00e9 cr\u00e8me.txt"),
    ],
)
def test_a_class_name_never_leaves_the_folder(tmp_path: Path, name: str, file: str) -> None:
    """A name in anyone's XML is data, not a path; what is written is read back."""
    folder = tmp_path / "a" / "b" / "results"
    one = voc.detections_from_boxes([name, "cow"], ["5"], [0], [[0, 1, 20, 30]], [0.5])
    paths = voc.write_detections(folder, one)
    assert [path.name for path in paths] == [file, "comp4_det_test_cow.txt"]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(paths)
    read = voc.read_detections(folder, [name, "cow"])
    assert read.label.tolist() == [0] and not read.unread


def test_a_class_name_of_300_letters_has_a_file_of_its_own(tmp_path: Path) -> None:
    """File systems take 255 bytes; two names that begin alike stay apart."""
    names = ["x" * 300 + "a", "x" * 300 + "b", "\u4e16" * 100]
    none = voc.detections_from_boxes(names, [], [], np.zeros((0, 4)), [])
    paths = voc.write_detections(tmp_path, none)
    assert len(set(paths)) == 3 and all(path.is_file() for path in paths)
    assert not voc.read_detections(tmp_path, names).unread


def test_an_unquoted_file_of_another_tool_is_read(tmp_path: Path) -> None:
    written(tmp_path, **{"50%": "1 0.5 1 1 5 5\n"})
    assert voc.read_detections(tmp_path, ["50%"]).label.tolist() == [0]


def test_two_files_for_a_class_are_refused(tmp_path: Path) -> None:
    """Two sets' files in one folder: either may be meant."""
    written(tmp_path, cow="")
    (tmp_path / "comp4_det_val_cow.txt").write_text("", encoding="utf-8")
    with pytest.raises(CheckFailed, match="two files for cow"):
        voc.read_detections(tmp_path, ["cow"])


@pytest.mark.parametrize("line", ["000001 0.5 1 1 5", "000001 high 1 1 5 5", "000001"])
def test_lines_of_another_form_are_named(tmp_path: Path, line: str) -> None:
    """F87: file and line."""
    written(tmp_path, cow=f"000001 0.5 1 1 5 5\n{line}\n")
    with pytest.raises(CheckFailed, match=f'comp4_det_test_cow.txt, line 2: "{line}"'):
        voc.read_detections(tmp_path, ["cow"])


def test_a_folder_without_such_files_is_refused(tmp_path: Path) -> None:
    """A near match is named."""
    (tmp_path / "dets").mkdir()
    with pytest.raises(DataError, match="is not a folder"):
        voc.read_detections(tmp_path / "none", ["cow"])
    with pytest.raises(DataError, match="holds no comp4_det_"):
        voc.read_detections(tmp_path, ["cow"])
    written(tmp_path / "dets", cow="")
    with pytest.raises(DataError, match=r"Give .*dets"):
        voc.read_detections(tmp_path, ["cow"])


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("000001 nan 1 1 5 5\n", "line 1: score nan"),
        ("zzz 0.5 1 1 5 5\n", "image zzz is not among the 2 images"),
        ("000001 0.5 5 1 1 5\n", "negative width or height"),
        ("000001 0.5 5 5 3 2\n", "They look like x, y, width, height: write corners"),
        ("000001 5 1 4 3 0.5\n", "The score seems to stand last"),
        ("".join(f"000001 0.{i} 1 1 5 5\n" for i in (5, 4, 3)) * 2, "every detection 2 times"),
        (
            "".join(f"000001 0.5 0.1 0.1 0.{i:03d} 0.5\n" for i in range(200, 230)),
            "All 30 boxes lie in the first pixel",
        ),
    ],
    ids=["F80", "F81", "F82", "x-y-width-height", "score-last", "F84", "F83"],
)
def test_nonsense_in_the_files_is_refused(
    tmp_path: Path, devkit: Path, lines: str, match: str
) -> None:
    """F80 to F84 hold for VOC's files as for COCO's."""
    truth = voc.read_devkit_ground_truth(devkit, "test", ["cow"])
    found = voc.read_detections(written(tmp_path, cow=lines), ["cow"])
    with pytest.raises(CheckFailed, match=match):
        voc.evaluate(truth, found)
