"""Files read in pieces: the same columns, findings and words as files read whole."""

from __future__ import annotations

import gc
import gzip
import json
import os
import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resdet.errors import CheckFailed, DataError
from resdet.evaluation.inputs import arrays, detections, ground_truth, json_stream
from resdet.evaluation.inputs.findings import Finding
from resdet.evaluation.inputs.ground_truth import SetIndex, read_ground_truth
from resdet.evaluation.inputs.validation import check_results
from resdet.formats import json_decoding

BLOCKS = (1, 2, 7, 40, 1000)
Outcome = tuple[str, Any]


def streamed(path: Path, block: int, quick: Callable[[bytes], Any] | None = None) -> Outcome:
    """What came in pieces, or the words of the refusal between the path and the question."""
    found: list[Any] = []
    try:
        for piece in json_stream.array_pieces(path, CheckFailed, quick, block):
            found += piece
    except CheckFailed as error:
        return "refused", str(error).split("as JSON: ", 1)[1].removesuffix(ASKED)
    return "read", json.dumps(found)


ASKED = ". Was it written to its end?"


def whole(data: bytes) -> Outcome:
    """What `json` makes of the bytes, or its words."""
    try:
        return "read", json.dumps(json.loads(data))
    except ValueError as error:
        return "refused", str(error)


def strict(text: bytes) -> list[Any]:
    """Refuses everything but lists of objects, as a typed decoder does."""
    found = json.loads(text)
    if not all(isinstance(item, dict) for item in found):
        raise ValueError("not objects")
    return list(found)


TEXTS = [
    b"[]", b" \n[ ]\n", b"[1]", b"[1, 2.5e3 ,-0.0]", b'[{"a": 1}, {"b": [1, {"c": "},{"}]}]',
    b"\xef\xbb\xbf[1]", '[{"é€😀": "\\ud800"}, "]"]'.encode(), b"[NaN, -Infinity, true, null]",
    b'[{"a": "x,}"},\n {"a": 2}\n]', b'[{"a": 1},{"a": 1', b'[{"a": 1},{"a": 1}', b'[{"a": 1},',
    b'[{"a": 1},]', b'[{"a": 1}] x', b'[{"a": 1}]]', b'[{"a": 1} {"a": 1}]', b'[{"a": 1},,{}]',
    b'[{"a": 1},{"a": "\\q"}]', b'[{"a": 1},{"a": "\\u12"}]', b'[{"a": 1},{"a": "x\ny"}]',
    b'[{"a": 1},{"a": 01}]', b'[\n{"a": 1},\n{"a": tru}]', b'[{"a" 1}]', b"[1 2]", b"[1,2",
    b'[{"a": "\xff"}]', b'[{"a": 1},\n{"\xe2\x82": 1}]', '[{"€": 1},\n{"€": x}]'.encode(),
]  # fmt: skip


@pytest.mark.parametrize("data", TEXTS)
def test_pieces_report_what_json_reports(tmp_path: Path, data: bytes) -> None:
    """Oracle: json.loads of the whole file: its values, or its words with line and column."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    for block in BLOCKS:
        for quick in (None, strict):
            assert streamed(path, block, quick) == whole(data)


def damaged(rng: random.Random) -> bytes:
    """A small array of anything, often cut off or with a byte changed."""
    items = [thing(rng) for _ in range(rng.randrange(6))]
    data = json.dumps(items, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5)
    text = data.encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        text = text[: rng.randrange(len(text)) + 1]
    if rng.random() < 0.4:
        at = rng.randrange(len(text))
        other = rng.choice([b"", b"\x00", b",", b'"', b"}", b"]", b"{", b"\n", b"NaN", b"-", b"\\"])
        text = text[:at] + other + text[at + rng.randrange(2) :]
    return text


def thing(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(6 if depth < 3 else 3)
    if kind == 0:
        return rng.choice([0, -5, 12345, 0.5, 1e10, -0.0, True, None])
    if kind < 3:
        return "".join(rng.choice('a"\\},{[]é€😀\n') for _ in range(rng.randrange(6)))
    if kind == 3:
        return [thing(rng, depth + 1) for _ in range(rng.randrange(3))]
    return {rng.choice("ab}") + str(i): thing(rng, depth + 1) for i in range(rng.randrange(3))}


def test_pieces_of_damaged_files_report_what_json_reports(tmp_path: Path) -> None:
    """Oracle: json.loads on 400 arrays of anything, most of them damaged, cut at every size."""
    rng = random.Random(0)
    path = tmp_path / "a.json"
    refused = 0
    for _ in range(400):
        data = damaged(rng)
        path.write_bytes(data)
        for block in BLOCKS:
            try:
                outcome = streamed(path, block, strict)
            except json_stream.NotAnArray:
                assert not data.lstrip().startswith(b"[") or b"\0" in data[:4]
                continue
            assert outcome == whole(data), data
            refused += outcome[0] == "refused"
    assert refused > 300


def test_packed_files_and_pipes_are_read(tmp_path: Path) -> None:
    """.json.gz in pieces; a pipe, which cannot be read twice, is left to `read_json`."""
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b'[{"a": 1}, {"a": 2}]'))
    assert streamed(path, 4) == ("read", '[{"a": 1}, {"a": 2}]')
    path.write_bytes(gzip.compress(b'[{"a": 1}, {"a": 2}]')[:-9])
    with pytest.raises(CheckFailed, match="not readable as JSON: Compressed file ended"):
        list(json_stream.array_pieces(path, CheckFailed))
    broken = bytearray(gzip.compress(os.urandom(400)))
    broken[10:40] = bytes(30)
    path.write_bytes(broken)
    with pytest.raises(CheckFailed, match="not readable as JSON"):
        arrays.read_json(path, CheckFailed)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(json_stream.NotAnArray):
        next(json_stream.array_pieces(pipe, CheckFailed))
    writer = threading.Thread(target=pipe.write_bytes, args=(b"[]",))
    writer.start()
    columns, findings, title = detections.load_columns(pipe, INDEX)
    writer.join()
    assert (len(columns), findings, title) == (0, [], "pipe")


def test_what_is_no_array_of_a_file_is_left_to_others(tmp_path: Path) -> None:
    """An object, UTF-16 and an empty file; a missing one is named."""
    path = tmp_path / "a.json"
    for data in (b'{"a": 1}', "[1, 2]".encode("utf-16"), b"", b"  "):
        path.write_bytes(data)
        with pytest.raises(json_stream.NotAnArray):
            next(json_stream.array_pieces(path, CheckFailed))
    with pytest.raises(DataError, match=r"none.json does not exist"):
        next(json_stream.array_pieces(tmp_path / "none.json", CheckFailed))


# -- columns -----------------------------------------------------------------------------------

INDEX = SetIndex(
    "the set", (7, 9, "000011"), np.array([[100.0, 80.0]] * 3), (1, 3, 4), ("cat", "dog", "ox")
)
ODD: list[Any] = [
    None, True, "", "7", "11", "cat", -1, 0, 1, 2, 3, 7, 9, 0.5, 1.0, 1e308, 10**400, 10**20,
    float("nan"), float("inf"), [], [1, 2, 3, 4], [1, 2, 3, None], [1, 2, "3", 4], [1, 2, True, 4],
    {}, {"size": [80, 100], "counts": [8000]},
]  # fmt: skip


def results(rng: np.random.Generator, share: float) -> list[Any]:
    """Up to 14 entries, a share of them odd."""
    found: list[Any] = []
    for _ in range(rng.integers(14)):
        entry: dict[str, Any] = {
            "image_id": INDEX.image_ids[rng.integers(3)],
            "category_id": int(rng.choice([1, 3, 4] if share < 0.5 else [0, 1, 2])),
            "bbox": [1, 2, 3, 4.5], "score": 0.5,
            "segmentation": {"size": [80, 100], "counts": [10, 20, 7970]},
        }  # fmt: skip
        if rng.random() < share:
            key = str(rng.choice([*entry, "category"]))
            entry[key] = ODD[rng.integers(len(ODD))]
            if rng.random() < 0.3:
                del entry[key]
        found.append(ODD[rng.integers(len(ODD))] if rng.random() < share / 10 else entry)
    return found


def assert_same(
    ours: tuple[detections.Columns, list[Finding]], other: tuple[detections.Columns, list[Finding]]
) -> None:
    assert ours[1] == other[1]
    for name in ("image", "category", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(ours[0], name), getattr(other[0], name))
        assert getattr(ours[0], name).dtype == getattr(other[0], name).dtype
    assert ours[0].segmentations == other[0].segmentations
    rows = range(len(ours[0]))
    assert list(map(ours[0].name, rows)) == list(map(other[0].name, rows))


@pytest.fixture(params=["json", "msgspec"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both decoders in turn; msgspec where it is installed."""
    if request.param == "msgspec":
        pytest.importorskip("msgspec", reason="msgspec is not installed here")
    else:
        monkeypatch.setattr(detections, "msgspec_module", lambda: None)
        monkeypatch.setattr(json_decoding, "msgspec_module", lambda: None)
    detections._typed_decoder.cache_clear()
    yield request.param
    detections._typed_decoder.cache_clear()


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_pieces_have_the_columns_and_findings_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, task: str
) -> None:
    """`test_validate` has the words of one list looked at in one go; pieces have the same."""
    rng = np.random.default_rng(0)
    path, read = tmp_path / "results.json", json_stream.array_pieces
    findings = 0
    for number in range(60):
        path.write_text(json.dumps(results(rng, (0, 0.2, 0.6)[number % 3])), encoding="utf-8")
        entries = json.loads(path.read_text(encoding="utf-8"))
        with monkeypatch.context() as patch:
            patch.setattr(detections, "_values", lambda piece: None)  # entry by entry
            expected = detections.read_columns(entries, INDEX, task)
        findings += len(expected[1])
        for piece, block in ((1, 1), (3, 300), (1000, 1 << 18)):
            with monkeypatch.context() as patch:
                patch.setattr(detections, "PIECE", piece)
                in_blocks = lambda *args, block=block: read(*args, block)  # noqa: E731
                patch.setattr(detections, "array_pieces", in_blocks)
                assert_same(detections.read_columns(entries, INDEX, task), expected)
                assert_same(detections.load_columns(path, INDEX, task)[:2], expected)
    assert findings > 50


GOOD = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}


def test_rows_are_called_by_their_place_in_the_file(tmp_path: Path, decoder: str) -> None:
    """A row behind one that was left out keeps its number."""
    path = tmp_path / "results.json"
    path.write_text(json.dumps([GOOD | {"score": None}, GOOD, GOOD]), encoding="utf-8")
    columns, findings, _ = detections.load_columns(path, INDEX)
    assert [f.first for f in findings] == [["entry 0 (image 7): score is null"]]
    assert [columns.name(row) for row in range(2)] == ["entry 1 (image 7)", "entry 2 (image 7)"]


@pytest.mark.parametrize(
    ("ids", "fix"),
    [
        (["7", "9"], "All of these are the set's ids in another form"),
        (["7", 8], "Is it the right --gt?"),
        ([8, "7"], "Is it the right --gt?"),
    ],
)
def test_what_fixes_unknown_images_is_known_in_the_end(
    monkeypatch: pytest.MonkeyPatch, ids: list[Any], fix: str
) -> None:
    """F81: ids as text are the likely cause only where all of them are; a piece each."""
    monkeypatch.setattr(detections, "PIECE", 1)
    _, findings = detections.read_columns([GOOD | {"image_id": i} for i in ids], INDEX)
    assert [(f.rule, f.count) for f in findings] == [("unknown-image", 2)]
    assert findings[0].fix.startswith(fix)


def test_broken_text_in_other_keys_is_refused(tmp_path: Path, decoder: str) -> None:
    """Oracle: json.loads; a typed decoder does not look into what it skips."""
    path = tmp_path / "results.json"
    data = json.dumps([GOOD | {"note": "?"}]).encode().replace(b"?", b"\xff")
    path.write_bytes(data)
    with pytest.raises(CheckFailed, match="can't decode byte 0xff") as refusal:
        detections.load_columns(path, INDEX)
    assert whole(data)[1] in str(refusal.value)


def test_repeats_are_seen_whatever_the_sign_of_zero() -> None:
    """F84: -0.0 is 0.0."""
    twice = [GOOD | {"bbox": [0.0, 2, 3, 4]}, GOOD | {"bbox": [-0.0, 2, 3, 4]}]
    rules = [f.rule for f in check_results(twice, INDEX, INDEX.image_ids)]
    assert rules == ["duplicates"]


def test_a_file_is_never_whole_in_memory(tmp_path: Path, decoder: str) -> None:
    """20,000 faulty and 20,000 good entries, 7 MB: under 1.5 times the file at any time.

    As objects of Python they alone would take eight times as much.
    """
    path = tmp_path / "results.json"
    good = '{"image_id": 7, "category_id": 3, "bbox": [%d.25, 2, 30.123456789, 4], "score": 0.5}'
    bad = good.replace("0.5", '"0.5"')
    lines = [(good if i % 40_000 < 20_000 else bad) % i for i in range(40_000)]
    path.write_text("[" + ",\n".join(lines) + "]", encoding="utf-8")
    size = path.stat().st_size
    del lines
    tracemalloc.start()
    try:
        columns, findings, _ = detections.load_columns(path, INDEX)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(columns), [f.count for f in findings]) == (20_000, [20_000])
    assert findings[0].first[0].startswith("entry 20000 (image 7): score is text")
    assert peak < 1.5 * size


# -- ground truth ------------------------------------------------------------------------------


def test_plain_annotations_are_those_gone_through_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str, instances: Any
) -> None:
    """All at once or entry by entry, whose faults and repairs `test_ground_truth` knows."""
    instances["annotations"][1] |= {"difficult": 1, "iscrowd": 1, "segmentation": [[1, 2, 3]]}
    instances["info"] = {"year": 2007}
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(instances), encoding="utf-8")
    one_by_one = ground_truth._GroundTruthReader._annotations
    monkeypatch.setattr(ground_truth._GroundTruthReader, "_annotations", None)  # is not asked
    ours = read_ground_truth(path)
    monkeypatch.setattr(ground_truth._GroundTruthReader, "_annotations", one_by_one)
    monkeypatch.setattr(ground_truth._GroundTruthReader, "_plain_annotations", lambda *_: None)
    other = read_ground_truth(path)
    for name in ("image", "category", "boxes", "area", "crowd", "difficult"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(other, name))
        assert getattr(ours, name).dtype == getattr(other, name).dtype
    assert ours.segmentations == other.segmentations == [None, [[1, 2, 3]], None]
    assert (ours.info, ours.members, ours.repairs) == (other.info, {}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", 11), ("id", 1.5), ("image_id", 77), ("category_id", 2), ("category_id", 1.0),
        ("bbox", [1, 2, 0, 4]), ("bbox", [1, 2, -3, 4]), ("bbox", [1, 2, 3]), ("bbox", None),
        ("bbox", [1, 2, 3, True]), ("bbox", [1, 2, 3, float("nan")]), ("bbox", [1, 2, 3, 10**400]),
        ("bbox", [1, 2, 3, 1 << 53]),
        ("area", 0), ("area", 1530), ("area", None), ("area", True), ("iscrowd", 2),
        ("iscrowd", True), ("difficult", 2), ("difficult", "0"), ("members", [[1, 2, 3, 4]]),
    ],
)  # fmt: skip
def test_whatever_is_odd_is_gone_through_one_by_one(instances: Any, key: str, value: Any) -> None:
    """Faults, repairs and other forms of a number are for the reader that can name them."""
    instances["annotations"][1] |= {"area": 0.5, key: value}
    reader = ground_truth._GroundTruthReader("the set", instances)
    index = reader.read_index()
    assert reader._plain_annotations(index) is None


def test_msgspec_reads_what_json_reads(tmp_path: Path) -> None:
    """Oracle: json.loads, to the bit of each float, and its words for what is not JSON."""
    pytest.importorskip("msgspec", reason="msgspec is not installed here")
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 63, 20_000, dtype=np.int64).view(np.float64)
    floats = [repr(v) for v in bits[np.isfinite(bits)].tolist()]
    floats += [f"{v:.25e}" for v in bits[:2000].tolist() if np.isfinite(v)]
    others = ["-0", "-0.0", "1e999", "NaN", "1E5", str(10**30), '{"a": 1, "a": 2}', '"\\ud800"']
    path = tmp_path / "a.json"
    for text in (f"[{', '.join(floats)}]", *others, "[1,]", '{"a"}', "[01]"):
        path.write_text(text, encoding="utf-8")
        try:
            expected = repr(json.loads(text))
        except ValueError as error:
            with pytest.raises(CheckFailed) as refusal:
                arrays.read_json(path, CheckFailed)
            assert str(error) in str(refusal.value)
        else:
            assert repr(arrays.read_json(path, CheckFailed)) == expected


def test_reading_gives_the_collector_back(tmp_path: Path) -> None:
    """It is paused while JSON is decoded, and left off where the caller has it off."""
    path = tmp_path / "a.json"
    path.write_text("[{", encoding="utf-8")
    try:
        for start, is_on in ((gc.enable, True), (gc.disable, False)):
            start()
            with pytest.raises(CheckFailed):
                arrays.read_json(path, CheckFailed)
            assert gc.isenabled() == is_on
    finally:
        gc.enable()
