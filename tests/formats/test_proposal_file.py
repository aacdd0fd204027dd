"""Proposals in a file: what is written comes back; what is damaged or foreign is a page."""

import json
import pickle
import zlib

import numpy as np
import pytest
from safetensors.numpy import load_file

from resdet.errors import DataError
from resdet.formats.proposal_file import ProposalFile, write_proposals

OF_SET = {"data_set": "mine", "data_set_hash": "h" * 64, "weights": "w" * 64}


def entries(images=3, seed=0):
    """Boxes at fractions of a pixel; one image has none."""
    generator = np.random.default_rng(seed)
    for number in range(images):
        count = 0 if number == 1 else 4 + number
        corner = generator.uniform(0, 500, (count, 2))
        boxes = np.concatenate([corner, corner + generator.uniform(0, 90, (count, 2))], axis=1)
        yield (
            f"{number:06d}",
            boxes.astype(np.float32),
            np.sort(generator.normal(size=count).astype(np.float32))[::-1],
        )


@pytest.fixture
def path(tmp_path):
    write_proposals(tmp_path / "p.safetensors", entries(), **OF_SET)
    return tmp_path / "p.safetensors"


def test_every_box_comes_back_to_the_bit(path):
    file = ProposalFile(path)
    assert file.image_ids == ("000000", "000001", "000002") and len(file) == 3
    assert (file.data_set, file.data_set_hash, file.weights) == tuple(OF_SET.values())
    for image_id, boxes, objectness in entries():
        given, values = file.of(image_id)
        assert given.dtype == values.dtype == np.float32
        assert np.array_equal(given, boxes) and np.array_equal(values, objectness)
    assert file.total == 10


def test_the_library_of_safetensors_reads_it(path):
    tensors = load_file(path)
    assert tensors["proposals"].shape == (10, 5)
    assert json.loads(tensors["image_ids"].tobytes()) == ["000000", "000001", "000002"]
    assert tensors["offsets"].tolist() == [0, 4, 4, 10]


def test_rows_are_put_in_order_and_numbers_are_ids(tmp_path):
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]])
    path = tmp_path / "p"
    write_proposals(path, [(7, boxes, np.array([1.0, 3.0, 1.0]))], **OF_SET)
    given, objectness = ProposalFile(path).of(7)
    assert given[:, 2].tolist() == [2, 1, 3]  # of equal ones the first stays first
    assert objectness.tolist() == [3, 1, 1]
    with pytest.raises(DataError, match="has no proposals of image '7'"):
        ProposalFile(path).of("7")


def test_a_worker_gets_the_file_by_its_path(path):
    file = ProposalFile(path)
    file.of("000000")
    copy = pickle.loads(pickle.dumps(file))
    assert np.array_equal(copy.of("000002")[0], file.of("000002")[0])


def test_a_file_that_goes_or_shrinks_while_it_is_used_is_a_page(path):
    file = ProposalFile(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4200])
    with pytest.raises(DataError, match="the rows of image '000002' changed"):
        file.of("000002")
    path.unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        file.of("000000")


def test_a_file_is_whole_or_not_there(tmp_path):
    def broken():
        yield from entries(1)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_proposals(tmp_path / "p", broken(), **OF_SET)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("boxes", "objectness", "why"),
    [
        ([[0, 0, np.nan, 1]], [0.0], "not finite"),
        ([[5, 0, 4, 1]], [0.0], "ends before it begins"),
        ([[0, 0, 1, 1]], [0.0, 1.0], "expected"),
        ([[0, 0, 1]], [0.0], "expected"),
        ([[0, 0, 100_001, 1]], [0.0], "beyond 100,000 pixels"),
    ],
)
def test_what_is_no_proposal_is_not_written(tmp_path, boxes, objectness, why):
    entry = ("a", np.array(boxes), np.array(objectness))
    with pytest.raises(ValueError, match=why):
        write_proposals(tmp_path / "p", [entry], **OF_SET)


def test_an_image_stands_once(tmp_path):
    one = next(entries(1))
    with pytest.raises(ValueError, match="stands twice"):
        write_proposals(tmp_path / "p", [one, one], **OF_SET)


def test_every_cut_and_every_changed_byte_of_the_data_is_found(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            ProposalFile(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="is damaged"):
        ProposalFile(path)
    # Behind the header, whose blanks mean nothing.
    for place in range(4096, len(whole), 7):
        raw = bytearray(whole)
        raw[place] ^= 0x10
        path.write_bytes(raw)
        with pytest.raises(DataError, match="damaged"):
            file = ProposalFile(path)
            for image_id in file.image_ids:
                file.of(image_id)


def crafted(path, *, rows=((0, 0, 9, 9, 1.0),), offsets=(0, 1), ids=("a",), checksums=None, **more):
    """A file whose checksums are right, whatever is in it; `more` goes into the header."""
    data = np.array(rows, "<f4").reshape(-1, 5).tobytes()
    checksums = [zlib.crc32(data)] * len(ids) if checksums is None else checksums
    lists = [np.array(offsets, "<i8").tobytes(), np.array(checksums, "<u4").tobytes(),
             (ids if isinstance(ids, str) else json.dumps(ids)).encode()]  # fmt: skip
    header = {"__metadata__": {"format": "resdet proposals 1", **OF_SET,
                               "lists_checksum": f"{zlib.crc32(b''.join(lists)):08x}"}}  # fmt: skip
    begin = 0
    shapes = ([len(data) // 20, 5], [len(offsets)], [len(checksums)], [len(lists[2])])
    names = ("proposals", "offsets", "checksums", "image_ids")
    kinds = ("F32", "I64", "U32", "U8")
    for name, kind, shape, raw in zip(names, kinds, shapes, [data, *lists], strict=True):
        places = [begin, begin + len(raw)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": places}
        begin += len(raw)
    for name, change in more.items():
        header[name] = change(header[name]) if callable(change) else change
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data + b"".join(lists))
    return path


def test_a_file_made_by_hand_is_read(tmp_path):
    """What the hostile ones below differ from."""
    file = ProposalFile(crafted(tmp_path / "p"))
    assert file.of("a")[0].tolist() == [[0, 0, 9, 9]] and file.of("a")[1].tolist() == [1]


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": (0, 2)},
        {"offsets": (-1, 1)},
        {"offsets": (1, 0)},
        {"offsets": (0, 1, 1)},
        # Differences of these do not fit into 64 bits, and come out positive.
        {"offsets": (0, 2**63 - 1, -(2**63), -1, 1), "ids": ("a", "b", "c", "d")},
        {"ids": ("a", "a"), "offsets": (0, 1, 1)},
        {"ids": (None,)},
        {"ids": (1.5,)},
        {"ids": (True,)},
        {"ids": "[" * 100_000},
        {"ids": "{}"},
        {"ids": (), "offsets": ()},
        {"proposals": lambda e: {**e, "dtype": "F64"}},
        {"proposals": lambda e: {**e, "dtype": ["F32"]}},
        {"proposals": lambda e: {**e, "shape": [5, 1]}},
        {"proposals": lambda e: {**e, "shape": [1]}},
        {"proposals": lambda e: {**e, "data_offsets": [-20, 0]}},
        {"proposals": lambda e: {**e, "data_offsets": [10**30, 10**30 + 20]}},
        {"offsets_": None, "image_ids": lambda e: {**e, "data_offsets": [0, "1"]}},
        {"checksums": (1, 2)},
        {"image_ids": None},
        {"__metadata__": lambda m: {**m, "data_set": 5}},
        {"__metadata__": lambda m: {**m, "seconds": [1]}},
        {"__metadata__": lambda m: {k: v for k, v in m.items() if k != "weights"}},
    ],
)
def test_a_file_that_contradicts_itself_is_a_page_and_never_read_elsewhere(tmp_path, changes):
    """Its checksums are right, so that whoever made it meant it."""
    with pytest.raises(DataError, match="is damaged"):
        ProposalFile(crafted(tmp_path / "p", **changes))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ((0, 0, np.nan, 9, 1), "is not finite"),
        ((0, 0, 9, 9, np.inf), "is not finite"),
        ((9, 0, 0, 9, 1), "a box ends before it begins"),
        ((0, 0, 3e38, 9, 1), "a coordinate is beyond 100,000 pixels"),
    ],
)
def test_boxes_that_are_none_are_a_page_where_they_are_read(tmp_path, row, why):
    """One that is finite here would not be any more where its image is resized."""
    with pytest.raises(DataError, match=why):
        ProposalFile(crafted(tmp_path / "p", rows=(row,))).of("a")


@pytest.mark.parametrize("length", [0, 1, 4096, 1 << 20, (1 << 20) + 1, 2**63, 2**64 - 1])
def test_a_header_of_any_length_is_a_page(tmp_path, length):
    path = tmp_path / "p"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a": ' + b"[" * 5000)
    with pytest.raises(DataError, match=r"header is not whole|no safetensors file|web page"):
        ProposalFile(path)


def test_a_set_without_images_has_a_file(tmp_path):
    write_proposals(tmp_path / "p", [], **OF_SET)
    file = ProposalFile(tmp_path / "p")
    assert len(file) == file.total == 0


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_a_pickle_is_refused_and_never_run(tmp_path, protocol):
    """Detectron2's proposal files have dicts of lists, py-faster-rcnn's lists of arrays."""

    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    for number, value in enumerate(({"ids": [1], "boxes": [Trap()]}, [np.zeros((2, 5)), Trap()])):
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(pickle.dumps(value, protocol=protocol))
        with pytest.raises(DataError, match=r"is a pickle.+runs what is in it.+write_proposals"):
            ProposalFile(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04 and more of a zip", "no safetensors file"),
        (b"\xff" * 64, "no safetensors file"),
    ],
)
def test_other_files_are_named(tmp_path, content, why):
    path = tmp_path / "p"
    path.write_bytes(content)
    with pytest.raises(DataError, match=why):
        ProposalFile(path)


def test_weights_in_safetensors_are_no_proposals(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="has no format of proposals"):
        ProposalFile(tmp_path / "w.safetensors")


def test_a_missing_file_and_a_folder_are_pages(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            ProposalFile(path)


def test_proposals_of_another_set_are_refused_with_both_names(path):
    file = ProposalFile(path)
    file.require_set("mine", "h" * 64, "KEY")
    with pytest.raises(DataError, match=r"KEY: .+ another set"):
        file.require_set("yours", "y" * 64, "KEY")
    with pytest.raises(DataError, match="another version of it"):
        file.require_set("mine", "y" * 64, "KEY")
