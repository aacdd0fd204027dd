"""Files that nobody would write by hand: whatever stands in one, it is read or refused by name.

Hypothesis makes whole annotations and results and then damages them: a value is replaced by
something else, dropped or doubled, a byte is changed, the end is cut off. The same examples come
in every run. Nothing but an error of `resdet.errors` may come out, with words that can be shown.
"""

from __future__ import annotations

import copy
import gzip
import json
import math
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from resdet.cli.submit import check_page
from resdet.errors import ResdetError
from resdet.evaluation.coco import coco_evaluation as coco
from resdet.evaluation.inputs.detections import load_columns, read_columns
from resdet.evaluation.inputs.ground_truth import read_ground_truth, read_index
from resdet.evaluation.inputs.result_folder import evaluated_beside
from resdet.evaluation.inputs.validation import check_results
from resdet.evaluation.voc import voc_evaluation as voc
from resdet.submission.package_check import check_file

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
Draw = st.DrawFn

TEXTS = st.text(max_size=4) | st.sampled_from(
    ["", " ", "1", "7", "-1", "1.5", "NaN", "inf", "-Infinity", "1e400", "cat", "\ud800", "\0"]
    + ["\n", "\u0663", "é", "𝔘", "\u202e", "a" * 200, "[1, 2]", "true", "null", "1_000", "0x1f"]
)
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 7, 0.5, -0.0, 1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf]
    + [2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**20, 10**400, -(10**400)]
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["id", "size", "counts", "bbox", "\ud800"]), inner)
    ),
    max_leaves=6,
)


def settled(examples: int) -> Callable[[Any], Any]:
    """The same examples everywhere, and no file of them kept."""
    return settings(
        max_examples=examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


def named(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a call gives; None where it refuses by name, in words that a terminal can show."""
    try:
        return call(*args, **options)
    except ResdetError as error:
        assert shown(str(error))
        return None


def shown(text: str) -> bool:
    return bool(text.encode("utf-8"))


# -- damage ------------------------------------------------------------------------------------


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key in it, at any depth."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def damage(draw: Draw, value: Any) -> Any:
    """Up to three places of a JSON value replaced, dropped, doubled or swapped for another."""
    whole = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(0, 3))):
        spots = list(places(whole))
        holder, key = draw(st.sampled_from(spots))
        kind = draw(st.sampled_from(["replace", "replace", "drop", "twice", "swap"]))
        if kind == "replace":
            holder[key] = draw(ANYTHING)
        elif kind == "swap":
            other, at = draw(st.sampled_from(spots))
            holder[key] = copy.deepcopy(other[at])
        elif holder is not whole and kind == "drop":
            del holder[key]
        elif isinstance(holder, list) and holder is not whole:
            holder.append(copy.deepcopy(holder[key]))
    return whole[0]


@st.composite
def written(draw: Draw, value: Any) -> bytes:
    """JSON as bytes, whole or cut off, with a byte changed, packed, or in another encoding."""
    text = json.dumps(
        value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
    )
    data = text.encode("utf-8", "surrogatepass")
    other = ["cut", "byte", "gzip", "gzip cut", "bom", "utf-16"]
    kind = draw(st.sampled_from(["whole"] * len(other) + other))
    at = draw(st.integers(0, len(data) - 1))
    if kind == "cut":
        return data[:at]
    if kind == "byte":
        return data[:at] + draw(st.binary(max_size=2)) + data[at + 1 :]
    if kind.startswith("gzip"):
        packed = gzip.compress(data, mtime=0)
        return packed[: at % len(packed)] if kind.endswith("cut") else packed
    if kind == "utf-16":
        return text.encode("utf-16", "surrogatepass")
    return (b"\xef\xbb\xbf" if kind == "bom" else b"") + data


RUNS = {"size": [80, 100], "counts": [0, 800, 7200]}
OUTLINE = [[10.0, 10.0, 40.0, 10.0, 40.0, 50.0]]


def instances() -> dict[str, Any]:
    boxes = [(1, 7, [10, 10, 40, 40]), (3, 9, [50, 20, 30, 50]), (3, 9, [5, 5, 20, 20])]
    return {
        "info": {"year": 2017},
        "images": [{"id": i, "width": 100, "height": 80, "file_name": f"{i}.jpg"} for i in (7, 9)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {
                "id": number, "image_id": image, "category_id": category, "bbox": box,
                "area": box[2] * box[3], "iscrowd": int(number == 2), "difficult": 0,
                "segmentation": RUNS if number == 2 else OUTLINE, "members": [box, [1, 1, 5, 5]],
            }
            for number, (category, image, box) in enumerate(boxes)
        ],
    }  # fmt: skip


def results() -> list[dict[str, Any]]:
    return [
        {
            "image_id": image, "category_id": category, "bbox": box, "score": score,
            "segmentation": mask,
        }
        for image, category, box, score, mask in (
            (7, 1, [10, 10, 40, 40], 0.9, RUNS),
            (9, 3, [50.5, 20, 30, 50], 0.8, {"size": [80, 100], "counts": "`<Pi0`d6"}),
            (9, 1, [5, 5, 20, 20], 0.8, RUNS),
        )
    ]  # fmt: skip


@st.composite
def damaged(draw: Draw, value: Any) -> Any:
    return damage(draw, value)


# -- COCO's files ------------------------------------------------------------------------------


def scored(truth: Any, found: Any, task: str) -> bool:
    """Both engines, which agree; False where they refuse."""
    results = [named(coco.evaluate, truth, found, task=task, engine=e) for e in coco.ENGINES]
    assert (results[0] is None) == (results[1] is None)
    for result in filter(None, results):
        json.dumps(result.to_json(), allow_nan=False)
        assert all(shown(note) for note in result.notes)
    if results[0] is not None:
        assert results[0].numbers == pytest.approx(results[1].numbers, abs=1e-12)
    return results[0] is not None


def checked(path: Path, truth: Any, task: str) -> bool:
    """`submit check`, its page and its JSON."""
    result = named(check_file, path, truth, task=task)
    if result is not None:
        json.dumps(result.to_json(), allow_nan=False)
        assert shown(check_page(result))
    return result is not None and result.ok


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_results_are_scored_or_refused_by_name(folder: Path, task: str) -> None:
    """Made results against whole annotations, from a file and as a list."""
    seen: Counter[str] = Counter()
    truth = read_ground_truth(instances())
    path = folder / "results.json"

    @settled(120)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        found = data.draw(damaged(results()))
        path.write_bytes(data.draw(written(found)))
        findings = named(check_results, path, truth, task=task)
        if findings is not None:
            assert all(shown("\n".join(finding.lines())) for finding in findings)
        seen["clean"] += checked(path, truth.index, task)
        seen["scored"] += scored(truth, path, task)
        named(check_results, found, truth, (7, 9), task=task)
        seen["all"] += 1

    holds()
    # Neither nearly all nor nearly none.
    assert 0.1 < seen["scored"] / seen["all"] < 0.9
    assert seen["clean"] > 0


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_annotations_are_read_or_refused_by_name(folder: Path, task: str) -> None:
    """Made annotations, as ground truth for whole results, by COCO's metric and by VOC's."""
    seen: Counter[str] = Counter()
    path, found = folder / "instances.json", folder / "found.json"
    found.write_text(json.dumps(results()), encoding="utf-8")

    @settled(120)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        source = data.draw(damaged(instances()))
        path.write_bytes(data.draw(written(source)))
        named(read_index, path)
        named(checked, found, path, task)
        seen["scored"] += scored(path, found, task)
        truth = named(read_ground_truth, path)
        if truth is not None:
            by_voc(truth, results())
            seen["read"] += 1
        seen["all"] += 1

    holds()
    assert 0.1 < seen["scored"] / seen["all"] < 0.9
    assert seen["read"] >= seen["scored"]


def by_voc(truth: Any, found: Any) -> None:
    objects = named(voc.ground_truth_from_coco, truth)
    columns, _ = read_columns(found, truth.index)
    detections = voc.detections_from_columns(columns, truth.index, None, "x")
    for rule in voc.AP_RULES:
        result = named(voc.evaluate, objects, detections, ap=rule)
        if result is not None:
            json.dumps(result.to_json(), allow_nan=False)
            assert all(shown(note) for note in result.notes)


@settled(100)
@given(st.lists(ANYTHING, max_size=4), st.none() | st.lists(LEAVES, max_size=3))
def test_lists_of_anything_from_python_are_refused_by_name(found: Any, evaluated: Any) -> None:
    """No file between: integers too long for text, and a list of images that is none."""
    truth = read_ground_truth(instances())
    for task in ("bbox", "segm"):
        named(check_results, found, truth, evaluated, task=task)
        named(check_results, [*found, {"image_id": 10**5000, "score": 10**5000}], truth, task=task)


@settled(60)
@given(st.binary(max_size=60) | ANYTHING.flatmap(written))
def test_bytes_of_anything_are_refused_by_name(folder: Path, data: bytes) -> None:
    """As results, annotations, list of images and package."""
    path = folder / "anything.json"
    path.write_bytes(data)
    (folder / "anything.images.json").write_bytes(data)
    named(evaluated_beside, path)
    (folder / "anything.images.json").unlink()
    truth = read_ground_truth(instances())
    for source in (path, str(path)):
        named(read_ground_truth, source)
        named(load_columns, source, truth.index)
        named(read_index, source)
    checked(path, truth.index, "bbox")
    package = folder / "detections_test-dev2017_x_results.zip"
    package.write_bytes(data)
    checked(package, truth.index, "bbox")
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr(f"{package.stem}.json", data)
    checked(package, truth.index, "bbox")


# -- VOC's files -------------------------------------------------------------------------------

WORD = st.sampled_from(
    ["", "0", "1", "10", "40", "1.5", "-3", "NaN", "inf", "1e5", "1e308", "1e400", "9" * 400]
    + ["\u0663", "\uff11", "cow", "dog", "Cow", " cow ", "a_b", "&amp;", "&x;", "<x/>", "\0"]
    + ["\ud800"]
)
NUMBER = st.sampled_from(["0.9", "0.25", "1", "5", "10", "30", "1e308", "-1e308"])


@st.composite
def annotation(draw: Draw) -> bytes:
    """An annotation of up to three objects; parts of it are lost, strange or cut off."""
    strange = draw(st.booleans())

    def tag(name: str, value: str) -> str:
        value = draw(WORD) if strange and draw(st.integers(0, 9)) == 0 else value
        lost = strange and draw(st.integers(0, 19)) == 0
        return "" if lost else f"<{name}>{value}</{name}>"

    objects = ""
    for _ in range(draw(st.integers(0, 3))):
        x, y = draw(st.integers(1, 40)), draw(st.integers(1, 30))
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + 10, y + 10), strict=True)
        box = tag("bndbox", "".join(tag(name, str(value)) for name, value in corners))
        name, difficult = draw(st.sampled_from(["cow", "dog"])), draw(st.sampled_from("01"))
        objects += tag("object", tag("name", name) + tag("difficult", difficult) + box)
    size = tag("size", tag("width", "50") + tag("height", "40"))
    declared = ["", '<?xml version="1.0"?>', '<?xml version="1.0" encoding="x"?>']
    head = draw(st.sampled_from(declared)) + draw(
        st.sampled_from(["", "", "", '<!DOCTYPE a [<!ENTITY x "y">]>'])
    )
    data = (head + tag("annotation", size + objects)).encode("utf-8", "surrogatepass")
    kind = draw(st.sampled_from(["whole"] * 5 + ["cut", "byte"]))
    at = draw(st.integers(0, len(data)))
    if kind == "byte":
        return data[:at] + draw(st.binary(max_size=2)) + data[at + 1 :]
    return data[:at] if kind == "cut" else data


IDS = st.sampled_from(["000001", "000002"])
LINES = st.lists(
    st.tuples(IDS, st.lists(NUMBER, min_size=5, max_size=5))
    | st.tuples(IDS | WORD | TEXTS, st.lists(WORD | TEXTS, max_size=7)),
    max_size=4,
).map(lambda lines: "\n".join(" ".join([image, *numbers]) for image, numbers in lines))


def test_voc_files_are_scored_or_refused_by_name(folder: Path) -> None:
    """Made annotations, image lists and detection files, by both rules and both styles."""
    seen: Counter[str] = Counter()
    root, found = folder / "VOC2007", folder / "dets"
    for path in (root / "Annotations", root / "ImageSets" / "Main", found):
        path.mkdir(parents=True)
    whole = st.just(b"000001\n000002\n")
    lists = whole | whole | (LINES.map(lambda text: text.encode("utf-8", "surrogatepass")))

    @settled(200)
    @given(annotation(), annotation(), lists, LINES, LINES | st.none(), st.binary(max_size=3))
    def holds(
        first: bytes, second: bytes, ids: bytes, cows: str, dogs: str | None, end: bytes
    ) -> None:
        (root / "Annotations" / "000001.xml").write_bytes(first)
        (root / "Annotations" / "000002.xml").write_bytes(second)
        (root / "ImageSets" / "Main" / "test.txt").write_bytes(ids)
        (found / "comp4_det_test_dog.txt").unlink(missing_ok=True)
        texts = {"cow": cows} if dogs is None else {"cow": cows, "dog": dogs}
        for name, text in texts.items():
            data = text.encode("utf-8", "surrogatepass") + (end if len(end) == 3 else b"")
            (found / f"comp4_det_test_{name}.txt").write_bytes(data)
        seen["all"] += 1
        for classes in (None, ("cow", "dog")):
            truth = named(voc.read_devkit_ground_truth, root, "test", classes)
            detections = named(voc.read_detections, found, ("cow", "dog"))
            seen["truth"] += truth is not None
            seen["detections"] += detections is not None
            if truth is None or detections is None:
                continue
            for rule, style in (("area", "devkit"), ("11-point", "d2")):
                result = named(voc.evaluate, truth, detections, ap=rule, style=style)
                if result is not None:
                    json.dumps(result.to_json(), allow_nan=False)
                    assert all(shown(note) for note in result.notes)
                    seen["scored"] += 1

    holds()
    for what in ("truth", "detections", "scored"):
        assert 0.05 * seen["all"] < seen[what] < 1.9 * seen["all"], (what, seen)
