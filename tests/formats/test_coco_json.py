"""The loader and the evaluator on the same odd files: they accept and refuse alike."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from resdet.data.options import DataOptions
from resdet.data.readers.coco_reader import load_coco
from resdet.errors import DataError
from resdet.evaluation.inputs.ground_truth import read_ground_truth

HUGE = 10**400


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESDET_CACHE", str(tmp_path / "cache"))
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (100, 80), (200, 10, 60)).save(tmp_path / name)
    return tmp_path


def content() -> dict[str, Any]:
    """Two images of 100 x 80, two classes, two objects."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 9, "file_name": "b.jpg", "width": 100, "height": 80},
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 10, 30, 20],
             "area": 500, "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 4, "bbox": [5, 5, 20, 20],
             "area": 300, "iscrowd": 0},
        ],
    }  # fmt: skip


Said = tuple[Any, ...]


def by_loader(path: Path) -> Said | None:
    """Image ids and sizes, category ids and names, objects; None where the file is refused."""
    try:
        data = load_coco(path, path.parent, name="mine", options=DataOptions(cache=False))
    except DataError:
        return None
    return (
        [(type(r["image_id"]), r["image_id"]) for r in data.records],
        [(r["width"], r["height"]) for r in data.records],
        list(data.category_ids),
        list(data.classes),
        [
            (r["image_id"], data.category_ids[a["category_id"]], a["area"], a["iscrowd"])
            for r in data.records
            for a in r["annotations"]
        ],
    )


def by_evaluator(path: Path) -> Said | None:
    try:
        truth = read_ground_truth(path)
    except DataError:
        return None
    index = truth.index
    # The evaluator has no picture to ask for a size that the file does not have.
    sizes = [(100, 80) if w != w else (int(w), int(h)) for w, h in index.sizes.tolist()]
    order = sorted(range(len(sizes)), key=index.image_rank().tolist().__getitem__)
    objects = [
        (index.image_ids[i], index.category_ids[c], float(a), int(crowd))
        for i, c, a, crowd in zip(truth.image, truth.category, truth.area, truth.crowd, strict=True)
    ]
    place = {index.image_ids[i]: n for n, i in enumerate(order)}
    return (
        [(type(index.image_ids[i]), index.image_ids[i]) for i in order],
        [sizes[i] for i in order],
        list(index.category_ids),
        list(index.category_names),
        sorted(objects, key=lambda o: place[o[0]]),
    )


IMAGES = [
    ("text id", {"id": "7a"}, True),
    ("id with a decimal point", {"id": 8.0}, True),
    ("fraction", {"id": 7.5}, False),
    ("true as id", {"id": True}, False),
    ("null as id", {"id": None}, False),
    ("id beyond floats", {"id": HUGE}, False),
    ("half a character in an id", {"id": "\ud800"}, False),
    ("id twice", {"id": 9}, False),
    ("id twice, once with a point", {"id": 9.0}, False),
    ("equal as text", {"id": "9"}, False),
    ("no size", {"width": None, "height": None}, True),
    ("size 0 x 0", {"width": 0, "height": 0}, True),
    ("size false", {"width": False, "height": False}, False),
    ("width as text", {"width": "100"}, False),
    ("negative width", {"width": -100}, False),
    ("height alone", {"width": None}, False),
    ("height 0 alone", {"height": 0}, False),
    ("half a pixel", {"width": 100.5}, False),
    ("NaN", {"width": float("nan")}, False),
    ("width with a decimal point", {"width": 100.0}, True),
]
CATEGORIES = [
    ("blanks", {"name": " dog\t"}, True),
    ("nothing but blanks", {"name": "  "}, False),
    ("empty name", {"name": ""}, False),
    ("no text as name", {"name": 7}, False),
    ("half a character in a name", {"name": "\udc00"}, False),
    ("one name twice", {"name": "cat"}, False),
    ("one name twice but for blanks", {"name": "cat "}, False),
    ("category id as text", {"id": "1"}, False),
    ("category id with a decimal point", {"id": 1.0}, True),
    ("category id twice", {"id": 4}, False),
    ("category id beyond floats", {"id": HUGE}, False),
]
ANNOTATIONS = [
    ("annotation id twice", {"id": 2}, False),
    ("annotation id as text", {"id": "1"}, False),
    ("annotation id null", {"id": None}, False),
    ("annotation id 0", {"id": 0}, True),
    ("annotation id with a decimal point", {"id": 1.0}, True),
    ("orphan", {"image_id": 77}, False),
    ("image_id as text", {"image_id": "7"}, True),
    ("image_id as text with a zero", {"image_id": "07"}, False),
    ("image_id with a decimal point", {"image_id": 7.0}, True),
    ("image_id true", {"image_id": True}, False),
    ("image_id a list", {"image_id": [7]}, False),
    ("unknown category", {"category_id": 2}, False),
    ("category_id with a decimal point", {"category_id": 1.0}, True),
    ("category_id as text", {"category_id": "1"}, True),
    ("three numbers", {"bbox": [1, 2, 3]}, False),
    ("text in a box", {"bbox": [1, 2, "3", 4]}, False),
    ("true in a box", {"bbox": [1, 2, True, 4]}, False),
    ("NaN in a box", {"bbox": [1, 2, 3, float("nan")]}, False),
    ("a number beyond floats in a box", {"bbox": [1, 2, 3, HUGE]}, False),
    ("a whole number beyond coordinates", {"bbox": [1, 2, 3, 1 << 53], "area": 9}, False),
    ("negative width of a box", {"bbox": [10, 10, -3, 4]}, False),
    ("no box", {"bbox": None}, False),
    ("area null", {"area": None}, True),
    ("area 0", {"area": 0}, True),
    ("area as text", {"area": "500"}, False),
    ("area true", {"area": True}, False),
    ("area above the box's", {"area": 700}, True),
    ("area below 0", {"area": -1}, False),
    ("area rounded", {"area": 606.9}, True),
    ("iscrowd true", {"iscrowd": True}, True),
    ("iscrowd 1.0", {"iscrowd": 1.0}, True),
    ("iscrowd null", {"iscrowd": None}, True),
    ("iscrowd as text", {"iscrowd": "0"}, False),
    ("iscrowd 2", {"iscrowd": 2}, False),
    ("difficult null", {"difficult": None}, True),
    ("difficult as text", {"difficult": "0"}, False),
]
CASES = [
    pytest.param(key, change, accepted, id=title)
    for key, cases in (
        ("images", IMAGES), ("categories", CATEGORIES), ("annotations", ANNOTATIONS)
    )
    for title, change, accepted in cases
]  # fmt: skip


@pytest.mark.parametrize(("key", "change", "accepted"), CASES)
def test_both_accept_and_refuse_alike(files: Path, key: str, change: Any, accepted: bool) -> None:
    """One odd entry; annotations follow an image's or a category's id where it changes."""
    made = copy.deepcopy(content())
    made[key][0] |= change
    if key != "annotations" and "id" in change and accepted:
        made["annotations"][0]["image_id" if key == "images" else "category_id"] = change["id"]
    path = files / "gt.json"
    path.write_text(json.dumps(made), encoding="utf-8")
    loaded, scored = by_loader(path), by_evaluator(path)
    assert loaded == scored
    assert (loaded is not None) == accepted


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([{"id": "x", "file_name": "a.jpg"}], id="text"),
        pytest.param(
            [{"id": "x", "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}], id="mixed"
        ),
    ],
)
def test_image_ids_may_be_text_in_both(files: Path, entries: Any) -> None:
    """As VOC's are; numbers come before text."""
    path = files / "gt.json"
    annotation = content()["annotations"][0] | {"image_id": "x"}
    path.write_text(
        json.dumps(content() | {"images": entries, "annotations": [annotation]}), encoding="utf-8"
    )
    loaded = by_loader(path)
    assert loaded == by_evaluator(path)
    assert loaded is not None
    assert [i for _, i in loaded[0]] == sorted((e["id"] for e in entries), key=str)
    assert [o[0] for o in loaded[4]] == ["x"]


@pytest.mark.parametrize("key", ["images", "categories", "annotations"])
@pytest.mark.parametrize("value", [None, 7, {}, "text", [7], [None]])
def test_lists_that_are_none_are_refused_by_both(files: Path, key: str, value: Any) -> None:
    path = files / "gt.json"
    path.write_text(json.dumps(content() | {key: value}), encoding="utf-8")
    assert by_loader(path) is None
    assert by_evaluator(path) is None


@pytest.mark.parametrize(
    ("data", "accepted"),
    [
        pytest.param(json.dumps(content()).encode(), True, id="plain"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(content()).encode(), True, id="BOM"),
        pytest.param(gzip.compress(json.dumps(content()).encode()), True, id="packed"),
        pytest.param(gzip.compress(json.dumps(content()).encode())[:-9], False, id="packed, cut"),
        pytest.param(json.dumps(content()).encode()[:-9], False, id="cut"),
        pytest.param(b'{"images": ' + b"[" * 200_000, False, id="deep"),
        pytest.param(b"[]", False, id="list"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_files_are_read_alike(files: Path, data: bytes, accepted: bool) -> None:
    path = files / "gt.json"
    path.write_bytes(data)
    loaded = by_loader(path)
    assert loaded == by_evaluator(path)
    assert (loaded is not None) == accepted
