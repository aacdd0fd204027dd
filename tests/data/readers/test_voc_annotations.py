"""VOC's annotations: every fault named with file and object, every repair counted (F4 to F15)."""

from __future__ import annotations

import numpy as np
import pytest

from resdet.data.checks.faults import BrokenSet
from resdet.errors import DataError
from tests.support.reading import boxes, load

pytestmark = pytest.mark.usefixtures("private_cache")


# -- annotations ------------------------------------------------------------------------------


def broken(tree, *objects: str, **options) -> str:
    """The page of a set whose only image has these objects."""
    tree.add("000123", *objects)
    tree.list("train", "000123")
    with pytest.raises(BrokenSet) as caught:
        load(tree, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Dog", 'class "Dog" is not among the 20 classes of mine; did you mean "dog"?'),
        ("motorbik", 'did you mean "motorbike"?'),
        ("zebra", 'class "zebra" is not among the 20 classes of mine\n'),
    ],
)
def test_unknown_classes_are_refused_with_a_suggestion(voc_tree, name: str, message: str) -> None:
    """F4: file, object, name, and the nearest known one."""
    page = broken(voc_tree, voc_tree.object(), voc_tree.object(name))
    assert "\n  Annotations/000123.xml, object 2: " in page
    assert message in page


def test_blanks_around_a_class_are_fixed(voc_tree) -> None:
    """F4."""
    voc_tree.add("a", voc_tree.object(" dog\n"))
    voc_tree.list("train", "a")
    data = load(voc_tree)
    assert data.records[0]["annotations"][0]["category_id"] == 11
    assert data.counts["blanks around a class name"] == 1


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((300, 11, 120, 40), "object 1 (dog): xmin 300 is not left of xmax 120"),
        ((11, 40, 50, 38), "object 1 (dog): ymin 40 is not above ymax 38"),
        ((201, 11, 250, 40), "(201, 11) to (250, 40) lies wholly outside the image, 100 wide"),
        (("nan", 11, 50, 40), 'object 1 (dog): xmin is "nan". Write a finite number.'),
        ((11, "inf", 50, 40), 'ymin is "inf"'),
        ((11, 11, "45,7", 40), 'xmax is "45,7"'),
        ((11, 11, "", 40), 'xmax is ""'),
        ((11, 11, "1_0", 40), 'xmax is "1_0"'),
        ((11, 11, 101, 40), "object 1 (dog): xmax 101 in an image 100 wide"),
        ((11, 11, 50, 90), "ymax 90 in an image 80 high"),
        ((-4, 11, 50, 40), "xmin -4 in an image 100 wide"),
    ],
)
def test_bad_boxes_are_refused_in_the_numbers_of_the_file(voc_tree, box, message: str) -> None:
    """F11, F12: nothing is clipped or dropped unasked."""
    page = broken(voc_tree, voc_tree.object(box=box))
    assert "Annotations/000123.xml, object 1" in page
    assert message in page


def test_decimals_are_legal(voc_tree) -> None:
    """F90: VOC 2012 has 45.70; minus 1 that is 44.7."""
    voc_tree.add("a", voc_tree.object(box=("45.70", "1.5", "50.0", " 4e1 ")))
    voc_tree.list("train", "a")
    np.testing.assert_allclose(boxes(load(voc_tree)), [[44.7, 0.5, 50, 40]])


def test_boxes_without_area_are_dropped_by_their_exact_number(voc_tree) -> None:
    """F11: from the records, which the evaluator reads as well."""
    bad = voc_tree.object(box=(50, 11, 20, 40))
    page = broken(voc_tree, voc_tree.object(), bad, bad)
    assert "to leave out all 2 such objects: DATASETS.DROP_DEGENERATE mine=2." in page
    with pytest.raises(DataError, match=r"DROP_DEGENERATE mine=2 \(not 1\)"):
        load(voc_tree, drop_degenerate=1)
    data = load(voc_tree, drop_degenerate=2)
    assert boxes(data) == [[10, 10, 50, 40]]
    assert data.counts["objects without area dropped"] == 2


def test_clipping_is_asked_for_counted_and_in_the_records(voc_tree) -> None:
    """F12: 102 in 100 is an excess of 2."""
    page = broken(voc_tree, voc_tree.object(box=(11, 11, 102, 40)), clip_boxes=1.5)
    assert "xmax 102 in an image 100 wide" in page
    assert "DATASETS.CLIP_BOXES" in page
    data = load(voc_tree, clip_boxes=2)
    assert boxes(data) == [[10, 10, 100, 40]]
    assert data.records[0]["annotations"][0]["area"] == 90 * 30
    assert data.counts["boxes clipped"] == 1


def test_boxes_under_a_pixel_are_kept_and_counted(voc_tree) -> None:
    """F11: 11 to 10.5 is half a pixel wide."""
    voc_tree.add("a", voc_tree.object(box=(11, 11, 10.5, 40)))
    voc_tree.list("train", "a")
    assert load(voc_tree).counts["boxes under 1 px"] == 1


# -- origin -----------------------------------------------------------------------------------


def test_a_zero_proves_that_a_tool_counted_from_0(voc_tree) -> None:
    """F13: the way out gives the four numbers as they stand."""
    page = broken(voc_tree, voc_tree.object(box=(0, 11, 50, 40)), voc_tree.object())
    assert "1 box has xmin or ymin 0, but VOC counts pixels from 1 (voc_origin 1)" in page
    assert "first: Annotations/000123.xml, object 1 (dog), xmin 0" in page
    assert "DATASETS.VOC_ORIGIN 0" in page
    assert boxes(load(voc_tree, voc_origin=0)) == [[0, 11, 50, 40], [11, 11, 50, 40]]


def test_many_far_borders_without_a_zero_speak_for_1(voc_tree) -> None:
    """F13: ten boxes end at xmax 100 of 100, none starts at 0; fewer are only noted."""
    for number, stays in ((10, False), (9, True)):
        for i in range(number):
            voc_tree.add(f"{i}", voc_tree.object(box=(11, 11, 100, 40)))
        voc_tree.list("train", *map(str, range(number)))
        assert load(voc_tree).counts["objects"] == number
        if stays:
            assert "9 end at the far border" in load(voc_tree, voc_origin=0).notes[0]
        else:
            with pytest.raises(DataError, match=r"10 boxes end at the far border.*origin is 0"):
                load(voc_tree, voc_origin=0)


def test_the_origin_is_part_of_the_hash(voc_tree) -> None:
    """F13: another meaning of the same numbers is other data."""
    voc_tree.add("a")
    voc_tree.list("train", "a")
    assert load(voc_tree).hash != load(voc_tree, voc_origin=0).hash


def test_sizes_written_as_corners_are_named(voc_tree) -> None:
    """F14, the reverse: x 60, y 50, width 30, height 20 is no box from corner to corner."""
    objects = [voc_tree.object(box=(60, 50, 30, 20))] * 3 + [voc_tree.object(box=(5, 5, 30, 20))]
    page = broken(voc_tree, *objects)
    assert "3 of 4 boxes have no area as corners, and all of them fit as x, y, width, h" in page
    assert "object 1 (dog): xmin 60 is not left of xmax 30" in page


# -- difficult, truncated, part ---------------------------------------------------------------


def test_optional_tags(voc_tree) -> None:
    """F15: no pose, no truncated, no difficult: 0, counted."""
    voc_tree.add("a", voc_tree.object(more=""))
    voc_tree.list("train", "a")
    data = load(voc_tree)
    annotation = data.records[0]["annotations"][0]
    assert (annotation["difficult"], annotation["truncated"]) == (0, 0)
    assert data.counts["difficult missing, read as 0"] == 1


@pytest.mark.parametrize(
    ("more", "difficult", "truncated"),
    [
        ("<difficult>1</difficult>", 1, 0),
        ("<difficult> 1.0 </difficult><truncated>0.0</truncated>", 1, 0),
        ("<difficult>00</difficult><truncated>0.0597</truncated>", 0, 1),
    ],
)
def test_flags_in_any_spelling_of_a_number(voc_tree, more, difficult, truncated) -> None:
    """F15: a fraction gives how much is cut off."""
    voc_tree.add("a", voc_tree.object(more=more))
    voc_tree.list("train", "a")
    annotation = load(voc_tree).records[0]["annotations"][0]
    assert (annotation["difficult"], annotation["truncated"]) == (difficult, truncated)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("<difficult>yes</difficult>", 'difficult is "yes". Write 0 or 1.'),
        ("<difficult>2</difficult>", 'difficult is "2"'),
        ("<difficult></difficult>", 'difficult is ""'),
        ("<truncated>yes</truncated>", 'truncated is "yes"'),
    ],
)
def test_other_flags_are_refused(voc_tree, more: str, message: str) -> None:
    """F15: with file and object."""
    page = broken(voc_tree, voc_tree.object(more=more))
    assert f"Annotations/000123.xml, object 1 (dog): {message}" in page


def test_a_class_that_is_mostly_difficult_is_noted(voc_tree) -> None:
    """F88: 2 of 3."""
    hard = voc_tree.object("cat", more="<difficult>1</difficult>")
    voc_tree.add("a", hard, hard, voc_tree.object("cat"), voc_tree.object("dog"))
    voc_tree.list("train", "a")
    assert load(voc_tree).notes == (
        "2 of 3 objects of cat are difficult, so they count neither for nor against in VOC's AP",
    )


def test_parts_have_boxes_but_are_no_objects(voc_tree) -> None:
    """A person's head has a <bndbox> of its own, before or after the person's."""
    part = voc_tree.object("head", (90, 70, 95, 75), more="").replace("object>", "part>")
    person = voc_tree.object("person")
    inside = person.replace("<bndbox>", f"{part}<bndbox>", 1)
    after = person.replace("</object>", f"{part}</object>")
    voc_tree.add("a", inside, after)
    voc_tree.list("train", "a")
    assert boxes(load(voc_tree)) == [[10, 10, 50, 40]] * 2


# -- XML ---------------------------------------------------------------------------------------

ENTITY = '<!DOCTYPE a [<!ENTITY lol "ha">]><annotation>&lol;</annotation>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("<annotation><object>", "line 1: the file ends before", id="cut"),
        pytest.param("<!doctype html><p>404", "is a web page", id="web page"),
        pytest.param("<html><p>404</html>", "is a web page", id="html"),
        pytest.param('{"shapes": []}', "line 1, column 1: not well-formed", id="json"),
        pytest.param("<VOC/>", r"opens with <VOC>, a VOC annotation with", id="other root"),
        pytest.param(ENTITY, "declares the entity lol; that is not followed", id="entity"),
        pytest.param(EXTERNAL, "declares the entity x", id="external entity"),
        pytest.param(
            "<annotation><size><width>a</width></size></annotation>",
            "<size>: width is a, height is missing",
            id="size",
        ),
        pytest.param(
            "<annotation><object><bndbox/></object></annotation>", "has no <name>", id="no name"
        ),
        pytest.param(
            "<annotation><object><name>dog</name></object></annotation>",
            r"object 1 \(dog\) has 0 <bndbox>, expected one",
            id="no box",
        ),
        pytest.param(
            "<annotation><object><name>dog</name><bndbox><xmin>3</xmin></bndbox></object>"
            "</annotation>",
            "has no <ymin>",
            id="no corner",
        ),
    ],
)
def test_broken_xml_is_refused_by_file(voc_tree, content: str, message: str) -> None:
    """F31 and the shape of the file; no entity is expanded, no other file is opened."""
    voc_tree.add("000123")
    voc_tree.list("train", "000123")
    (voc_tree.root / "Annotations" / "000123.xml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"(?s)Annotations/000123\.xml.*{message}"):
        load(voc_tree)


def test_xml_in_other_encodings(voc_tree) -> None:
    """F71: what the file declares, whatever the locale; a BOM is fine."""
    voc_tree.add("a")
    voc_tree.list("train", "a")
    text = f"<annotation><filename>v\u00e9lo</filename>{voc_tree.object()}</annotation>"
    for encoding in ("utf-8-sig", "utf-16", "latin-1"):
        declared = encoding.removesuffix("-sig")
        data = f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(encoding)
        (voc_tree.root / "Annotations" / "a.xml").write_bytes(data)
        assert boxes(load(voc_tree)) == [[10, 10, 50, 40]]
